"""The kept table of resident programs, and the default tile configs that follow from it."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kernels.aot import resident as writing
from kernels.aot.cases import CASES
from kernels.aot.occupancy import resident_programs
from kernels.chips import CHIPS
from kernels.tiles import resident, tile_configs

ROOT = Path(__file__).resolve().parents[3]
VERSION, SOURCES, KEPT = resident.read(resident.TABLE)
SHAPES = {(case.op, case.product) for case in CASES if case.product and case.shape_class.startswith("ResNet-50")}


def test_the_table_is_current():
    """Of the compiler that is tested, of the code of the convolutions and of the chips; nothing is compiled."""
    assert re.search(r"^triton==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)[1] == VERSION
    assert writing.digest() == SOURCES, f"{writing.WRITE} writes it anew"


def test_the_table_has_every_tile_config_of_every_chip():
    assert set(KEPT) == {
        (chip, op, str(one)) for chip in CHIPS for op in writing.OPS for one in tile_configs.listed(op, chip)
    }


def test_programs_follow_from_registers_and_shared_memory():
    for (chip, _, words), row in KEPT.items():
        warps = tile_configs.parse(words).num_warps
        found = resident_programs(chip, registers=row["regs"], shared_bytes=row["shared_bytes"], num_warps=warps)
        assert found == row["resident"] > 0, (chip, words)


def default(op, chip, product):
    return str(tile_configs.default_config(op, chip, torch.bfloat16, *product))


@pytest.fixture
def told(monkeypatch):
    """The table in place of what is known of a chip: resident programs by tile config, 4 of what is not named."""

    def call(**known):
        sizes = {name.replace("_", "/").removeprefix("c"): count for name, count in known.items()}
        monkeypatch.setattr(tile_configs, "resident_programs", lambda chip, op, words: sizes.get(words, 4))

    return call


def test_two_programs_at_once_come_before_one(told):
    product = (200_704, 512, 128)
    told()
    assert default("conv1x1", "sm_80", product) == "128x128x32/w8/s3"
    told(c128x128x32_w8_s3=1)
    assert default("conv1x1", "sm_80", product) == "128x64x64/w8/s3"
    assert default("conv3x3", "sm_80", product) == "128x128x32/w8/s3"  # multiplies for so long that one will do
    told(c128x128x32_w8_s3=1, c128x64x64_w8_s3=1, c128x64x32_w8_s4=2)
    assert default("conv1x1", "sm_80", product) == "128x64x32/w8/s4"


def test_a_wave_that_fills_little_of_the_chip_comes_later(told):
    """Of 108 multiprocessors with two programs each; the second wave of 300 programs leaves 132 of 216 places empty."""
    told(c128x128x32_w8_s3=2, c128x64x64_w8_s3=2)
    assert default("conv1x1", "sm_80", (216 * 128, 128, 128)) == "128x128x32/w8/s3"
    assert default("conv1x1", "sm_80", (300 * 128, 128, 128)) == "128x64x64/w8/s3"
    assert default("conv1x1", "sm_80", (2 * 216 * 128, 128, 128)) == "128x128x32/w8/s3"
    assert default("conv1x1", "sm_80", (216 * 128, 192, 128)) == "128x64x64/w8/s3"  # of 256 channels 64 are none


def test_what_was_measured_decides_over_what_was_compiled(told, monkeypatch):
    product = (200_704, 512, 128)
    told(c128x64x64_w4_s3=1)
    assert default("conv1x1", "sm_90", product) == "128x64x64/w4/s3"
    monkeypatch.setitem(CHIPS, "sm_90", replace(CHIPS["sm_90"], first={}))
    tile_configs.listed.cache_clear()
    try:
        assert default("conv1x1", "sm_90", product) != "128x64x64/w4/s3"
    finally:
        monkeypatch.undo()
        tile_configs.listed.cache_clear()


@pytest.mark.parametrize(("op", "product"), sorted(one for one in SHAPES if one[0] in CHIPS["sm_90"].first))
def test_the_rule_gives_the_blocks_that_an_h200_was_fastest_with(op, product, monkeypatch):
    """Where it was measured: without that, the table alone. Programs of the launch alone gave others to most 1x1s."""
    fastest = default(op, "sm_90", product)
    monkeypatch.setitem(CHIPS, "sm_90", replace(CHIPS["sm_90"], first={}))
    tile_configs.listed.cache_clear()
    try:
        assert default(op, "sm_90", product).partition("/")[0] == fastest.partition("/")[0]
    finally:
        monkeypatch.undo()
        tile_configs.listed.cache_clear()


DEFAULTS = {
    ("sm_80", "conv1x1"): {"128x64x64/w8/s3"},
    ("sm_80", "conv3x3"): {"128x128x32/w8/s3", "128x64x64/w8/s3"},
    ("sm_80", "conv_dgrad"): {"64x64x32/w4/s3"},
    ("sm_100", "conv1x1"): {"128x64x64/w8/s3"},
    ("sm_100", "conv3x3"): {"128x128x64/w8/s3", "128x64x64/w8/s3"},
    ("sm_100", "conv_dgrad"): {"128x64x64/w8/s2"},
    ("gfx942", "conv_dgrad"): {"128x64x64/w8/s2"},
    ("sm_90", "conv1x1"): {"128x64x64/w4/s3"},
    ("sm_90", "conv3x3"): {"128x128x64/w8/s3", "128x64x64/w4/s3"},
    ("sm_90", "conv_dgrad"): {"128x64x64/w4/s3"},
}


@pytest.mark.parametrize(("chip", "op"), DEFAULTS)
def test_defaults_of_resnet_50(chip, op):
    found = {default(op, chip, product) for name, product in SHAPES if name == op}
    assert found == DEFAULTS[chip, op]


def test_what_was_not_compiled_counts_the_launch_s_programs_alone(monkeypatch):
    assert resident.resident_programs("sm_80", "conv1x1", "128x256x64/w8/s3") is None
    monkeypatch.setattr(tile_configs, "resident_programs", lambda *key: None)
    assert default("conv1x1", "sm_80", (200_704, 512, 128)) == "128x128x32/w8/s3"
    assert default("conv1x1", "sm_80", (128, 128, 128)) == "64x64x64/w4/s3"


def test_the_written_table_has_the_form_that_takes_the_most(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "TABLE", tmp_path / "resident.csv")
    row = {
        "chip": "sm_80",
        "kernel": "conv1x1",
        "config": "64x64x64/w4/s3",
        "regs": 96,
        "shared_bytes": 8,
        "resident": 5,
    }
    rows = [row, {**row, "regs": 130, "resident": 3}, {**row, "regs": 128, "resident": 3}, {**row, "kernel": "conv3x3"}]
    assert writing.write(rows) == 2
    assert resident.read(resident.TABLE)[2] == {
        ("sm_80", "conv1x1", "64x64x64/w4/s3"): {"regs": 130, "shared_bytes": 8, "resident": 3},
        ("sm_80", "conv3x3", "64x64x64/w4/s3"): {"regs": 96, "shared_bytes": 8, "resident": 5},
    }
    with pytest.raises(ValueError, match="no table of resident programs"):
        resident.read(ROOT / "pyproject.toml")


CODE = '''
class Jit:
    def __init__(self, fn):
        self.fn = fn


@Jit
def inner(x):
    """Documented{words}."""
    return x + {number}  # {words}


@Jit
def outer(x):
    return inner(x) * FACTOR


FACTOR = {factor}
'''


def digest_of(path, monkeypatch, words="", number=1, factor=2):
    path.write_text(CODE.format(words=words, number=number, factor=factor))
    spec = importlib.util.spec_from_file_location(f"made_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(writing, "KERNELS", (module.outer,))
    return writing.digest()


def test_the_digest_follows_the_code_and_no_comment(tmp_path, monkeypatch):
    first = digest_of(tmp_path / "a.py", monkeypatch)
    assert digest_of(tmp_path / "b.py", monkeypatch, words=", and more") == first
    assert digest_of(tmp_path / "c.py", monkeypatch, number=3) != first  # of what it calls
    assert digest_of(tmp_path / "d.py", monkeypatch, factor=3) != first
    digest_of(tmp_path / "a.py", monkeypatch)
    monkeypatch.setitem(CHIPS, "sm_80", replace(CHIPS["sm_80"], registers=32_768))
    assert writing.digest() != first
