"""What it means that a network trains over the fused kernels as over torch; each family has tests of its own."""

import functools

import pytest
import torch
from fused_nets import calm_seed, distance, train

# Nets that are trained for five steps: each time that with every kind of layer, since interpreted steps take minutes.
ALWAYS = ("bottleneck-v1.5-B",)
FIVE = (*ALWAYS, "cifar20-B", "cifar20-none", "cifar20-A", "cifar20-C", "bottleneck-v1-B")
FLOOR = 2e-6  # relative distance below which two fp32 results are the same: a few roundings


@functools.cache
def trained(name, kernels_word, steps, dtype=torch.float32):
    """After the first of so many steps, and after the last."""
    return train(name, kernels_word, steps, dtype, calm_seed(name, steps))


def five_steps(nets):
    """Those of the nets that are trained for five steps, as parameters of a test."""
    return [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.soak) for name in nets if name in FIVE]


def check_one_step(name):
    """Element by element, within what fp32 rounding allows the largest elements of a tensor."""
    steps = 5 if name in ALWAYS else 1
    reference, fused = trained(name, "torch", steps)[0], trained(name, "triton", steps)[0]
    assert fused.losses == pytest.approx(reference.losses, rel=1e-5)
    assert fused.gradients.keys() == reference.gradients.keys()
    assert fused.buffers.keys() == reference.buffers.keys()
    for kind in ("gradients", "buffers", "parameters"):
        for key, expected in getattr(reference, kind).items():
            found = getattr(fused, kind)[key]
            assert found.dtype == expected.dtype, key
            if kind == "gradients":
                assert found.stride() == fused.parameters[key].stride(), key
            scale = float(expected.abs().max()) if expected.is_floating_point() else 0
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * scale, msg=lambda m, k=key: f"{k}: {m}")


def check_five_steps(name):
    """As close to fp64 as torch in fp32 is, after five steps."""
    exact = trained(name, "torch", 5, torch.float64)[-1]
    reference, fused = trained(name, "torch", 5)[-1], trained(name, "triton", 5)[-1]
    for step, (found, plain, true) in enumerate(zip(fused.losses, reference.losses, exact.losses, strict=True)):
        assert abs(found - true) <= 4 * abs(plain - true) + 1e-5 * true, f"loss of step {step + 1}"
    for kind in ("gradients", "buffers", "parameters"):
        # Over all tensors of a kind: a single small one may be right by luck in the reference.
        typical = max(distance(value, getattr(exact, kind)[key]) for key, value in getattr(reference, kind).items())
        assert typical < 1e-3, f"{kind}: the reference itself drifts, so nothing is shown"
        for key, value in getattr(fused, kind).items():
            true = getattr(exact, kind)[key]
            own = distance(getattr(reference, kind)[key], true)
            assert distance(value, true) <= 4 * max(own, typical / 4) + FLOOR, key
    assert fused.losses[0] != fused.losses[-1], "nothing was trained"
