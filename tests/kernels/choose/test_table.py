"""Conv sites are checked; the table of choices survives JSON, is hashed and shown, and is the same on all ranks."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kernels import runtime
from kernels.choose.choice import options
from kernels.choose.decide import TORCH, Choice, ConvSite, Decision, Table, agree
from kernels.operands import TileConfig

INNER = ConvSite(1, 1, 32, 32, 2, 4, 4, "float16", "inner")
SHORTCUT = ConvSite(1, 2, 16, 32, 2, 4, 4, "float16", "shortcut")
CHIP = runtime.chip(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
LAST = options(INNER, "dgrad", CHIP)[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "iner"}, "role=iner: not one of inner, first, shortcut; nearest is inner"),
        ({"skip": "identity"}, "role=inner: skip and join go with role first"),
        ({"dtype": "bfloat"}, "nearest is bfloat16"),
        ({"kernel": 7}, "kernel=7: expected 1 or 3; nearest is 3"),
        ({"n": 0}, "n=0: expected a whole number of 1 or more"),
        ({"role": "first", "skip": "identity", "skip_stride": 2}, "skip_stride=2: a skip of identity has every pixel"),
    ],
)
def test_a_link_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(INNER, **change)


def test_a_padded_skip_is_as_wide_as_the_output_of_the_block():
    padded = dataclasses.replace(INNER, role="first", skip="padded", c_in=64, c_out=32, skip_stride=2)
    assert padded.skip_channels == 128 and dataclasses.replace(padded, kernel=3, c_in=16).skip_channels == 32
    assert dataclasses.replace(padded, skip="projection").skip_channels == 64


def some_table() -> Table:
    tile_config = TileConfig((("BLOCK_M", 64), ("BLOCK_N", 32), ("BLOCK_K", 32)), 4, 3)
    choice = Choice("prologue", "triton", "torch", tile_config, LAST)
    times = {"forward torch": 0.1 + 0.2, "dgrad torch": 30.7, "inference torch": 7.25}
    times |= {choice.names["forward"]: 10.0, choice.names["dgrad"]: 1 / 3, "inference triton x": 8.0}
    rejected = {"inference triton y": "RuntimeError: [/red] out of shared memory", "inference triton w": "z is off"}
    decisions = {INNER: Decision(choice, times, rejected), dataclasses.replace(INNER, dtype="float32"): Decision(TORCH)}
    return Table(decisions, "NVIDIA H100")


def test_a_table_survives_json_exactly():
    table = some_table()
    again = Table.from_json(table.to_json())
    assert again == table and again.to_json() == table.to_json() and again.hash() == table.hash()
    assert again[INNER].forward_config == table[INNER].forward_config and list(again) == list(table)
    assert Table.from_json(Table({}).to_json()) == Table({})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"device": "", "decisions": [1]}', '{"device": "", "decisions": [{}]}']
)
def test_other_json_is_refused(text):
    with pytest.raises(ValueError):
        Table.from_json(text)


def test_the_hash_is_of_links_and_choices():
    table = some_table()
    digits = table.hash()
    assert len(digits) == 16 and int(digits, 16) >= 0
    backwards = dict(reversed([(site, Decision(choice)) for site, choice in table.items()]))
    assert Table(backwards).hash() == digits
    for change in ({"dgrad_config": None}, {"inference": "triton"}, {"forward": "triton"}):
        changed = Decision(dataclasses.replace(table[INNER], **change))
        assert Table({**table.decisions, INNER: changed}).hash() != digits
    assert Table({INNER: table.decisions[INNER]}).hash() != digits


def test_rows_show_both_times_and_what_was_rejected():
    row, unmeasured = some_table().rows()
    assert (row.forward, row.dgrad, row.inference) == ("prologue 64x32x32/w4/s3", f"triton+z {LAST}", "cuDNN")
    assert row.torch_us == pytest.approx(31.0) and row.chosen_us == pytest.approx(10 + 1 / 3)
    assert row.ratio == pytest.approx(3.0) and row.inference_ratio == 1.0
    assert row.rejected == "2, inference triton y: RuntimeError: [/red] out of shared memory"
    assert unmeasured.forward == "cuDNN" and unmeasured.torch_us is None and unmeasured.rejected == ""


def test_the_table_is_rendered():
    console = Console(width=250, record=True, file=open(os.devnull, "w"))
    console.print(some_table().render())
    text = console.export_text()
    for word in (
        "NVIDIA H100",
        "1x1 32->32 2x4x4 float16",
        "31 -> 10",
        "3.00x",
        "cuDNN",
        "[/red]",
        some_table().hash(),
    ):
        assert word in text


def test_without_ranks_a_table_is_its_own():
    assert agree(some_table()) == some_table()
    with pytest.raises(ValueError, match="rank 0 has no table"):
        agree(None)


RANK = """
import sys
import torch.distributed as dist
from kernels.choose.decide import Table, agree
rank, place, text = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
table = agree(Table.from_json(text) if rank == 0 else None)
second = dist.new_group([1])
if rank == 1:
    assert agree(Table({}), second) == Table({})
try:
    agree(None if rank == 0 else table)
except ValueError as error:
    refused = str(error)
print(table.to_json(), table.hash(), refused, sep="\\n")
dist.destroy_process_group()
"""


@pytest.mark.ranks
def test_ranks_agree_on_the_first_ones(tmp_path):
    text = some_table().to_json()
    root = Path(runtime.__file__).parents[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "meeting"), text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        out, errors = rank.communicate(timeout=60)
        assert rank.returncode == 0, errors
        table, digits, refused = out.splitlines()
        assert digits == some_table().hash()
        assert json.loads(table) == json.loads(text) and Table.from_json(table) == some_table()
        assert "rank 0 has no table" in refused
