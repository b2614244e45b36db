"""What each backend computes of a case: maths in every dtype, eager beside it, our kernels with their tile configs."""

import pytest
import torch

from bench.micro import backends, measure
from bench.micro.cases import cases, tiny
from bench.micro.ops import OPS
from bench.roofline.step import net
from kernels import runtime
from kernels.reference import check
from kernels.tiles import tile_configs

CPU = torch.device("cpu")


@pytest.mark.parametrize("op", ["conv1x1", "conv3x3", "conv_dgrad", "conv_inference"])
def test_a_cut_is_that_of_every_launch_of_a_convolution(op: str) -> None:
    tile_config = tile_configs.parse("32x16x16/w2/s1")
    with torch.no_grad():
        for case in {case.form: tiny(case) for case in cases(net(depth=50), (op,))}.values():
            operands = backends.operands(case, torch.float32, CPU)
            with runtime.capture_launches("sm_90") as launches:
                backends.fused(case, tile_config)(operands)
            (launch,) = [launch for launch in launches if launch.kernel.startswith("conv")]
            assert measure.describe_launches([launch]) == f"{launch.kernel} {tile_config}"


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("op", OPS)
def test_maths_in_bf16_is_near_fp64_and_eager_is_judged_right(op: str, shortcut: str) -> None:
    forms = {case.form: tiny(case) for case in cases(net(depth=50, shortcut=shortcut), (op,))}
    with torch.no_grad():
        for case in forms.values():
            operands = backends.operands(case, torch.bfloat16, CPU)
            truth = backends.maths(case)(backends.wide(operands))
            found = check.errors(backends.eager(case, operands)(operands), truth)
            assert all(error < 0.02 for error in found.values()), (case.name, found)
            assert check.wrong(found, found) == []
            twice = backends.operands(case, torch.bfloat16, CPU)
            assert all(torch.equal(operands[key], twice[key]) for key in operands)


def test_operands_follow_the_seed_and_option_a_s_shortcut_has_half_the_channels() -> None:
    case = next(tiny(case) for case in cases(net(depth=20), ("bn_act",)) if case.form == "padded")
    drawn = [backends.operands(case, torch.float32, CPU, seed) for seed in (0, 1)]
    assert not any(torch.equal(drawn[0][key], drawn[1][key]) for key in drawn[0])
    # Twice as high and wide as y, of which every second pixel is added.
    assert drawn[0]["y"].shape == (2, 16, 6, 6) and drawn[0]["shortcut"].shape == (2, 8, 12, 12)


def test_what_pytorch_kept_is_no_work_of_its_own() -> None:
    """Our dgrad writes z again; eager and compile have it, so only ours is held to it, and only ours takes the time."""
    case = next(tiny(case) for case in cases(net(depth=50), ("conv_dgrad",)) if case.form == "inner+z")
    operands = backends.operands(case, torch.float32, CPU)
    truth = backends.maths(case, rewrite=True)(backends.wide(operands))
    assert set(truth) == {"g", "d_bias", "d_weight", "z"} and backends.rewritten(case) == "z"
    assert set(backends.maths(case)(operands)) == {"g", "d_bias", "d_weight"}
    assert max(measure.bound_of(case, operands, truth).values()) < 1e-5
