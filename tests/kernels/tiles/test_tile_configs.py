"""Tile configs of convolutions: lists within each chip's limits, a choice for every shape, and each computes."""

from types import SimpleNamespace

import pytest
import torch
from criterion import DTYPES, image, make_norm

from kernels import reference, runtime
from kernels.aot.cases import CASES
from kernels.chips import CHIPS
from kernels.choose.choice import options
from kernels.choose.sites import ConvSite
from kernels.operands import KernelError, Producer, TileConfig
from kernels.ops.conv3x3 import conv3x3
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.conv_inference import conv_inference
from kernels.tiles import tile_configs

CPU = torch.device("cpu")

OPS = tuple(dict.fromkeys(case.op for case in CASES if case.product))
CHANNELS = (8, 16, 24, 32, 64, 128, 1000, 2048)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("op", OPS)
def test_lists_are_within_limits(op, chip):
    listed = tile_configs.listed(op, chip)
    assert 4 <= len(listed) <= 8 and len(set(listed)) == len(listed)
    for tile_config in listed:
        block_m, block_n, block_k = (size for _, size in tile_config.blocks)
        assert block_m * block_n <= 128 * 128 and min(block_m, block_n, block_k) >= 16
        assert tile_config.num_warps in (4, 8)
        assert tile_configs.shared_bytes(tile_config, torch.bfloat16) <= CHIPS[chip].shared_bytes
        assert chip != "gfx942" or tile_config.num_stages == 2


@pytest.mark.parametrize("chip", CHIPS)
def test_every_shape_has_candidates(chip):
    for op in OPS:
        for dtype in DTYPES:
            for n in CHANNELS:
                for k in CHANNELS:
                    for m in (1, 98, 100_000):
                        fit = tile_configs.fitting_configs(op, chip, dtype, m, n, k)
                        assert set(fit) <= set(tile_configs.listed(op, chip))
                        assert tile_configs.default_config(op, chip, dtype, m, n, k) == fit[0]
                        assert max(fit[0].constexprs["BLOCK_N"], 16) < 2 * max(n, 16)


def test_the_choice_keeps_a_chip_busy():
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        m = 256 * size * size
        tile_config = tile_configs.default_config("conv3x3", "sm_90", torch.bfloat16, m, channels, channels)
        tiling = tile_configs.conv_tiling("conv3x3", CPU, torch.bfloat16, m, channels, channels, tile_config)
        assert tiling.grid[0] >= 2 * CHIPS["sm_90"].processors
        assert tiling.columns * (tiling.groups + 1) <= runtime.COUNTERS


def test_groups_hold_every_program():
    for programs in (1, 2, 3, 16, 17, 1000, 6272, 12544):
        tiling = tile_configs.conv_tiling(
            "conv1x1", CPU, torch.float16, programs * 64, 64, 64, _tile_config(64, 64, 64)
        )
        assert (
            tiling.programs == programs
            and tiling.groups * tiling.group >= programs > (tiling.groups - 1) * tiling.group
        )
        assert max(tiling.group, tiling.groups) ** 2 <= 4 * max(programs, 1)


@pytest.mark.parametrize(
    ("capability", "own", "largest"),
    [
        ((9, 0), 232_448, "64x256x64/w8/s3"),
        ((10, 0), 232_448, "64x256x64/w8/s3"),
        ((12, 0), 101_376, "128x128x64/w8/s3"),  # takes the list of 10.0, and has less than half of its shared memory
        ((12, 0), 98_303, "128x64x64/w8/s3"),
        ((12, 0), 65_536, "64x64x64/w4/s4"),
        ((9, 0), 400_000, "64x256x64/w8/s3"),
    ],
)
def test_what_a_device_has_no_shared_memory_for_is_left_out(monkeypatch, capability, own, largest):
    properties = SimpleNamespace(shared_memory_per_block_optin=own, multi_processor_count=132)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    device, dtype, shape = torch.device("cuda:0"), torch.bfloat16, (200_704, 512, 512)
    chip, most = runtime.chip(device), runtime.shared_bytes(device)
    assert most == min(own, CHIPS[chip].shared_bytes)
    fit = tile_configs.fitting_configs("conv1x1", chip, dtype, *shape, most)
    sizes = [tile_configs.shared_bytes(tile_config, dtype) for tile_config in fit]
    assert max(sizes) <= own and str(fit[sizes.index(max(sizes))]) == largest
    assert len(fit) < len(tile_configs.fitting_configs("conv1x1", chip, dtype, *shape)) or own > 200_000
    # What is launched, where nothing was measured, and what is measured.
    taken = tile_configs.conv_tiling("conv1x1", device, dtype, *shape).tile_config
    assert taken == fit[0]
    site = ConvSite(1, 1, 512, 512, 256, 28, 28, "bfloat16", "inner")
    assert options(site, "forward", chip, most) == fit


def test_a_captured_launch_has_its_chip_s_shared_memory():
    with runtime.capture_launches("sm_80"):
        assert runtime.shared_bytes(torch.device("meta")) == runtime.shared_bytes(torch.device("cuda:0")) == 166_912
    assert runtime.shared_bytes(CPU) == CHIPS[runtime.chip(CPU)].shared_bytes


def _tile_config(*blocks):
    return TileConfig(tuple(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True)), 4, 3)


def _tile_configs():
    """What may run here: the GPU's own list, or in the interpreter, where warps and stages are nothing, all blocks."""
    if torch.cuda.is_available():
        return tile_configs.listed("conv3x3", runtime.chip(torch.device("cuda")))
    return sorted({_tile_config(*(s for _, s in c.blocks)) for chip in CHIPS for c in tile_configs.listed("conv3x3", chip)}, key=str)  # fmt: skip  # noqa: E501


@pytest.mark.interpreted
@pytest.mark.parametrize("tile_config", _tile_configs(), ids=str)
def test_every_tile_config_computes(tile_config, device):
    torch.manual_seed(0)
    x, dy = (image((3, 40, 9, 7), torch.float16, device) for _ in range(2))
    weight = (image((40, 40, 3, 3), torch.float16, device) / 19).contiguous(memory_format=torch.channels_last)
    norm, other = make_norm(x), image((3, 40, 9, 7), torch.float16, device)
    y, stats = conv3x3(x, weight, prologue=norm, tile_config=tile_config)
    wanted, wanted_stats = reference.conv3x3(x, weight, prologue=norm)
    bits = reference.pack(other > 0)
    g, sums, _ = conv_dgrad(dy, weight, skip=other, producer=Producer(x, norm, bits), tile_config=tile_config)
    wanted_g, wanted_sums, _ = reference.conv_dgrad(dy, weight, skip=other, producer=Producer(x, norm, bits))
    z = conv_inference(x, weight, norm.bias, residual=other, tile_config=tile_config)
    for actual, expected in (
        (y, wanted),
        (stats, wanted_stats),
        (g, wanted_g),
        (sums, wanted_sums),
        (z, reference.conv_inference(x, weight, norm.bias, residual=other)),
    ):
        torch.testing.assert_close(actual.float(), expected.float(), rtol=0.01, atol=0.02)


def test_a_tile_config_of_another_kernel_raises(device):
    x = image((1, 16, 3, 3), torch.float32, device)
    weight = image((16, 16, 3, 3), torch.float32, device)
    with pytest.raises(KernelError, match="BLOCK_M, BLOCK_N, BLOCK_K; nearest is 128x128x64"):
        conv3x3(x, weight, tile_config=TileConfig((("BLOCK_M", 64),), 4, 3))


def test_a_tile_config_is_read_as_it_is_written():
    for tile_config in {tile_config for op in OPS for chip in CHIPS for tile_config in tile_configs.listed(op, chip)}:
        assert tile_configs.parse(str(tile_config)) == tile_config
    assert str(tile_configs.parse("256x16x32/w16/s1")) == "256x16x32/w16/s1"


@pytest.mark.parametrize(
    "text",
    ["", "128", "128x64/w4/s3", "128x64x64", "96x64x64/w4/s3", "8x64x64/w4/s3", "128x64x64/w3/s3", "128x64x64/w64/s3",
     "128x64x64/w4/s0", "0x64x64/w4/s3", "2048x64x64/w4/s3", "128x64x64/w4/s3 ", "-128x64x64/w4/s3"],
)  # fmt: skip
def test_what_is_no_tile_config_names_the_nearest(text):
    with pytest.raises(ValueError, match=r"nearest is \d+x\d+x\d+/w\d/s\d$"):
        tile_configs.parse(text)
