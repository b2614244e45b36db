"""The one table of chips: a chip that is added to it is known wherever chips differ."""

from types import SimpleNamespace

import pytest
import torch

from bench.measure.metrics import peak_flops
from bench.roofline import step
from kernels import chips, runtime
from kernels.aot import command, compile, resources
from kernels.aot.cases import CASES
from kernels.chips import CHIPS, Chip, Gpu, chip_of, gpu_named, measured_rates
from kernels.choose.choice import options, static_choice
from kernels.choose.sites import ConvSite
from kernels.tiles import pointwise, tile_configs

SITE = ConvSite(1, 1, 64, 64, 32, 28, 28, "bfloat16", "inner")
FAKE = Chip(
    target=("cuda", 110, 32),
    processors=7,
    shared_bytes=50_000,
    matrix_instruction=("ACME", r"\bACME\b"),
    tile_configs=("64x64x64/w4/s3", "32x32x32/w4/s2"),
    instead={"conv3x3": {"64x64x64/w4/s3": ("64x32x32/w2/s2",)}},
    gpus=(
        Gpu(name="Acme One", peak_flops_per_s={"bf16": 1e15}, measured_copy_tb_s=9.0, measured_matrix_tflop_s=900.0),
    ),
)


@pytest.fixture
def fake(monkeypatch):
    """The table with one chip more."""
    monkeypatch.setitem(CHIPS, "sm_110", FAKE)
    yield "sm_110"
    tile_configs.listed.cache_clear()


def test_an_added_chip_has_its_lists_and_limits(fake):
    assert [str(tile_config) for tile_config in tile_configs.listed("conv1x1", fake)] == [
        "64x64x64/w4/s3",
        "32x32x32/w4/s2",
    ]
    assert str(tile_configs.listed("conv3x3", fake)[0]) == "64x32x32/w2/s2"
    # The first would take 49,152 bytes in bf16, 98,304 in fp32.
    assert str(tile_configs.default_config("conv1x1", fake, torch.bfloat16, 10_000, 64, 64)) == "64x64x64/w4/s3"
    assert str(tile_configs.default_config("conv1x1", fake, torch.float32, 10_000, 64, 64)) == "32x32x32/w4/s2"
    assert options(SITE, "forward", fake) and static_choice(SITE, fake).forward == "prologue"
    with runtime.capture_launches(fake):
        assert pointwise.processors(torch.device("meta")) == 7


def test_an_added_chip_is_compiled_for(fake, monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(command, "compile_and_write", lambda options: taken.append(options) or 0)
    assert command.main([f"chips={fake}"]) == 0 and taken[0].chips == (fake,) and fake in command.Options().chips
    assert command.main(["chips=sm_111"]) == 2 and "nearest: chips=sm_110" in capsys.readouterr().err
    assert compile.target_of(fake) == compile.GPUTarget("cuda", 110, 32)
    entries = command.collect(command.Options(chips=(fake,), ops=("conv3x3",), per="all"))
    assert {entry.config for entry in entries} == {"64x32x32/w2/s2", "32x32x32/w4/s2"}


@pytest.mark.parametrize(
    ("shared", "code", "columns", "wrong"),
    [
        (50_000, "ACME", 0, ""),
        (50_001, "ACME", 0, "50001 bytes of shared memory, of which sm_110 has 50000"),
        (50_000, "HMMA", 0, "no ACME but HMMA"),
        (50_000, "ACME", 8, "8 columns of tensor memory, of which sm_110 has 0"),
    ],
)
def test_an_added_chip_judges_what_was_compiled(fake, monkeypatch, shared, code, columns, wrong):
    monkeypatch.setattr(resources, "_read_cubin", lambda cubin, disassemble: (32, 0, 0, code))
    compiled = SimpleNamespace(asm={"cubin": b""}, metadata=SimpleNamespace(shared=shared, tmem_size=columns))
    found = resources.read_resources(compiled, fake, multiplies=True)
    assert found.status == (f"failed: {wrong}" if wrong else "ok")


def test_an_added_chip_has_peaks_and_rates(fake):
    assert peak_flops("NVIDIA Acme Type One", "bf16") == 1e15 and peak_flops("NVIDIA Acme Type One", "fp16") is None
    assert measured_rates("Acme One") == (9.0, 900.0)
    assert peak_flops("NVIDIA Acme Two", "bf16") is None


@pytest.mark.parametrize(
    ("capability", "name"),
    [((7, 0), "sm_80"), ((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90"), ((10, 0), "sm_100"),
     ((10, 3), "sm_100"), ((11, 0), "sm_110"), ((12, 0), "sm_110")],
)  # fmt: skip
def test_a_gpu_has_its_own_chip_or_the_nearest_older_one(fake, monkeypatch, capability, name):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.chip(torch.device("cuda")) == name


@pytest.mark.parametrize("name", ["gfx942:sramecc+:xnack-", "gfx942", "gfx90a"])
def test_amd_s_chip_goes_by_its_name(monkeypatch, name):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(gcnArchName=name))
    assert runtime.chip(torch.device("cuda")) == "gfx942"


def test_without_a_gpu_the_chip_is_the_default():
    assert runtime.chip(torch.device("cpu")) == chips.DEFAULT and chips.DEFAULT in CHIPS
    assert chip_of("cuda", CHIPS[chips.DEFAULT].target[1]) == chips.DEFAULT


@pytest.mark.parametrize("name", CHIPS)
def test_every_entry_is_whole(name):
    chip = CHIPS[name]
    convolutions = {case.op for case in CASES if case.product}
    assert set(chip.instead) <= convolutions
    for op, instead in chip.instead.items():
        assert set(instead) <= set(chip.tile_configs), op
    for text in (*chip.tile_configs, *(one for instead in chip.instead.values() for new in instead.values() for one in new)):  # fmt: skip  # noqa: E501
        assert str(tile_configs.parse(text)) == text
    assert str(chip.target[1]) in name and chip.processors > 0
    for gpu in chip.gpus:
        assert gpu_named(f"NVIDIA {gpu.name} 80GB") == gpu  # a longer name comes before one that is part of it


def test_rates_that_nobody_measured_are_refused():
    with pytest.raises(ValueError, match="^NVIDIA A100: no rates were measured; there are those of H100, H200$"):
        measured_rates("NVIDIA A100")
    assert (step.COPY_TB_S, step.MATRIX_TFLOP_S) == measured_rates("H100") == (3.0, 798.0)
    assert measured_rates("NVIDIA H200") == (4.23, 806.0)
