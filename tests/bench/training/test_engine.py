"""Engines agree: DeepSpeed with DDP, ZeRO 0 with 1 and 2, two ranks with one, accumulation with a larger batch."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from real_ranks import found_by

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig

pytestmark = pytest.mark.ranks

SCRIPT = Path(__file__).with_name("losses.py")
STEPS = 10


def config(**changes: object) -> RunConfig:
    keys = RunKeys(depth=20, dataset="digits", image_size=16, precision="fp32", batch=8, lr=0.01, ranks_per_node=2)
    resolved, _ = resolve(keys, Host(ranks_per_node=2))
    # Residual branches that start at zero keep ten steps from magnifying what the order of a sum rounds differently.
    recipe = dataclasses.replace(resolved.recipe, zero_init_residual=True)
    return dataclasses.replace(resolved, recipe=recipe, **changes)  # type: ignore[arg-type]


def steep(config: RunConfig) -> RunConfig:
    """The same net with gradients whose norm is far above 1, which an engine must not clip."""
    return dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, zero_init_residual=False))


def run(
    cases: dict[str, RunConfig], size: int, frozen: bool = False, steps: int = STEPS, **environment: str
) -> dict[str, list[float]]:
    """Losses by case over `size` real ranks."""
    described = {
        name: {"config": dataclasses.asdict(case), "frozen": frozen, "steps": steps} for name, case in cases.items()
    }
    (losses,) = found_by(SCRIPT, [json.dumps(described)], size, **environment)
    return losses


@pytest.fixture(scope="module")
def two_ranks() -> dict[str, list[float]]:
    return run(
        {
            "ddp": config(engine="ddp"),
            "zero0": config(),
            "zero1": config(zero_stage=1),
            "zero2": config(zero_stage=2),
            "ddp_accum": config(engine="ddp", batch=4, grad_accum=2),
            "zero0_accum": config(batch=4, grad_accum=2),
            "zero2_accum": config(batch=4, grad_accum=2, zero_stage=2),
            "ddp_steep": steep(config(engine="ddp")),
            "zero0_steep": steep(config()),
            "zero2_steep": steep(config(zero_stage=2)),
            "ddp_bf16": config(engine="ddp", precision="bf16"),
            "zero0_bf16": config(precision="bf16"),
        },
        2,
    )


@pytest.fixture(scope="module")
def frozen() -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    two = {"ddp": config(engine="ddp"), "zero0": config(), "accum": config(batch=4, grad_accum=2)}
    one = {"ddp": config(engine="ddp", batch=16, ranks_per_node=1), "zero0": config(batch=16, ranks_per_node=1)}
    return run(two, 2, frozen=True), run(one, 1, frozen=True)


def assert_equal(found: list[float], expected: list[float], relative: float) -> None:
    assert len(found) == len(expected) == STEPS
    assert all(math.isfinite(value) for value in expected)
    assert expected[0] != expected[-1], "nothing was trained"
    assert found == pytest.approx(expected, rel=relative)


@pytest.mark.parametrize("other", ["ddp", "zero1", "zero2"])
def test_engines_agree(two_ranks: dict[str, list[float]], other: str) -> None:
    assert_equal(two_ranks[other], two_ranks["zero0"], 1e-6)


@pytest.mark.parametrize("other", ["ddp_accum", "zero2_accum"])
def test_engines_agree_on_accumulation(two_ranks: dict[str, list[float]], other: str) -> None:
    assert_equal(two_ranks[other], two_ranks["zero0_accum"], 1e-6)


@pytest.mark.parametrize("other", ["zero0_steep", "zero2_steep"])
def test_no_engine_clips_gradients(two_ranks: dict[str, list[float]], other: str) -> None:
    assert two_ranks[other][:4] == pytest.approx(two_ranks["ddp_steep"][:4], rel=1e-5)


def test_engines_agree_in_bf16(two_ranks: dict[str, list[float]]) -> None:
    # Gradients are reduced in fp32 by both, so that even here only the order of sums could differ.
    assert_equal(two_ranks["ddp_bf16"], two_ranks["zero0_bf16"], 1e-3)
    assert two_ranks["zero0_bf16"] != two_ranks["zero0"], "bf16 did not compute in bf16"


@pytest.mark.parametrize("engine", ["ddp", "zero0"])
def test_two_ranks_equal_one_at_twice_the_batch(
    frozen: tuple[dict[str, list[float]], dict[str, list[float]]], engine: str
) -> None:
    two, one = frozen
    assert_equal(two[engine], one[engine], 1e-5)


def test_accumulation_equals_a_larger_batch(frozen: tuple[dict[str, list[float]], dict[str, list[float]]]) -> None:
    two, one = frozen
    assert_equal(two["accum"], one["zero0"], 1e-5)


FUSED_STEPS = 2


@pytest.fixture(scope="module")
def fused() -> dict[str, list[float]]:
    small = {"depth": 8, "image_size": 8, "batch": 4, "lr": 0.02}
    triton = {**small, "kernels": "triton"}
    accumulated = {"grad_accum": 2}  # in fp32 alone: interpreted kernels take their time
    cases = {"torch_fp32_accum": config(**small, **accumulated), "triton_fp32_accum": config(**triton, **accumulated)}
    cases |= {"torch_fp32": config(**small), "torch_bf16": config(**small, precision="bf16")}
    for name, engine in {"ddp": {"engine": "ddp"}, "zero0": {}, "zero2": {"zero_stage": 2}}.items():
        cases[f"{name}_bf16"] = config(**triton, **engine, precision="bf16")
    return run(cases, 2, steps=FUSED_STEPS, TRITON_INTERPRET="" if torch.cuda.is_available() else "1")


def test_fused_kernels_train_over_ranks_with_accumulation(fused: dict[str, list[float]]) -> None:
    assert fused["triton_fp32_accum"] == pytest.approx(fused["torch_fp32_accum"], rel=1e-4)
    assert fused["torch_fp32_accum"][0] != fused["torch_fp32_accum"][-1]


@pytest.mark.parametrize("engine", ["zero0", "zero2"])
def test_engines_agree_over_fused_kernels_through_autocast(fused: dict[str, list[float]], engine: str) -> None:
    assert fused[f"{engine}_bf16"] == pytest.approx(fused["ddp_bf16"], rel=2e-3)


def test_fused_kernels_through_autocast_are_as_close_to_fp32_as_torch_is(fused: dict[str, list[float]]) -> None:
    def error(name: str) -> float:
        return max(abs(a - b) for a, b in zip(fused[name], fused["torch_fp32"], strict=True))

    assert 0 < error("torch_bf16")
    assert error("ddp_bf16") <= 2 * error("torch_bf16") + 0.01


def test_what_is_compiled_as_one_graph_trains_under_every_engine() -> None:
    """Hooks of an engine would be part of the graph, and DeepSpeed's read the clock."""
    found = run(
        {
            "reference": config(depth=8, engine="ddp"),
            "ddp": config(depth=8, engine="ddp", kernels="compile"),
            "zero0": config(depth=8, kernels="compile"),
            "zero2": config(depth=8, kernels="compile", zero_stage=2),
        },
        2,
        steps=3,
    )
    for engine in ("ddp", "zero0", "zero2"):
        assert found[engine] == pytest.approx(found["reference"], rel=1e-4), engine
