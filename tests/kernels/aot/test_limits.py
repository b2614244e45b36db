"""The table of limits: what it has, what is worse than it says, how it is read and written."""

import re
from math import prod
from pathlib import Path

import pytest
import torch
from sass_text import printed

from kernels.aot import command, limits
from kernels.aot.cases import image, weight
from kernels.aot.counts import CODE, EDGES, PATH, WHOLE, amd_accesses, launch_counts
from kernels.aot.machine_code import MachineCode
from kernels.aot.ptx import narrowest_accesses
from kernels.aot.resources import failed
from kernels.aot.sass import parse
from kernels.chips import CHIPS
from kernels.runtime import Launch
from results.words import ConfigError

ROOT = Path(__file__).resolve().parents[3]
VERSION, KEPT = limits.read(limits.TABLE)
KEY = ("sm_90", "conv1x1", "bf16", "ResNet-50 stage 2, widening")
# A row of a table, whatever that of the kernels is.
ROW = {
    **dict(zip(limits.KEY, KEY, strict=True)), "config": "128x64x64/w4/s3", "regs": 183, "shared_bytes": 67_584,
    "stack_bytes": 0, "spills": 0, "resident": 2, "instructions_code": 3520, "shuffles_code": 244, "barriers_code": 69,
    "loads_code": 66, "stores_code": 18, "widest_load": 16, "narrowest_load": 4, "widest_store": 16,
    "narrowest_store": 4, "instructions_inside": 1460, "instructions_outside": 1375, "instructions_tail": 1275,
    "shuffles": 161, "barriers": 37, "loads_1b": 0, "loads_2b": 0, "loads_4b": 16, "loads_8b": 0, "loads_16b": 48,
    "stores_1b": 0, "stores_2b": 0, "stores_4b": 2, "stores_8b": 0, "stores_16b": 8, "narrow": "",
}  # fmt: skip


@pytest.fixture
def row():
    return {**ROW, "reason": "", "status": "ok"}


def said(row):
    """What is worse in one row than `ROW` says."""
    lines = limits.regressions({KEY: ROW}, [row])
    return [part for line in lines for part in line.removeprefix(f"{limits.named(KEY)}: ").split("; ")]


def test_the_table_is_of_the_version_that_is_tested():
    """Or the check would compare nothing once another is pinned."""
    assert re.search(r"^triton==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)[1] == VERSION


def test_the_table_has_every_launch_of_every_chip():
    entries = command.collect(command.Options(per="first"))
    assert set(KEPT) == {(entry.chip, entry.kernel, entry.dtype, entry.shape_class) for entry in entries}
    assert {row["config"] for row in KEPT.values()} == {entry.config for entry in entries}
    for entry in entries:
        assert KEPT[entry.chip, entry.kernel, entry.dtype, entry.shape_class]["config"] == entry.config
    for row in KEPT.values():
        assert row["spills"] == row["stack_bytes"] == 0 and row["resident"] > 0 and row["regs"] > 0, row
        assert all(row[name] is not None for name in WHOLE), row
        assert (row["instructions_outside"] is None) or row["chip"].startswith("sm_"), row


def test_accesses_are_narrow_only_where_a_thread_has_no_more_of_a_tile():
    """But for weights that are packed to places out of a table."""
    narrow = [row for row in KEPT.values() if row["narrow"]]
    for row in narrow:
        if row["kernel"] == "pack_weights":
            assert row["narrow"] == "out_ptr=2"
            continue
        *blocks, warps = map(int, re.findall(r"\d+", row["config"])[: row["config"].count("x") + 2])
        threads = 32 * warps
        tiles = {"weight_ptr": prod(blocks[1:])} if row["kernel"].startswith("conv") else {}
        for word in row["narrow"].split():
            name, _, size = word.partition("=")
            assert int(size) == 2 * tiles.get(name, prod(blocks)) // threads < 16, row
    assert {row["chip"] for row in narrow} == {"sm_80", "sm_90", "sm_100"}  # AMD's operands have no names


WIDE = re.compile(r"(loads|stores)_(\d+)b")
LESS = {"resident", "widest_load", "narrowest_load", "widest_store", "narrowest_store"}


@pytest.mark.parametrize("name", [name for name in limits.NUMBERS if not WIDE.match(name)])
def test_a_count_may_be_a_tenth_above_the_table_s(row, name):
    old = ROW[name]
    if name in LESS:
        assert said({**row, name: old + 1}) == [] and old > 0
        assert said({**row, name: old - 1}) == [f"{name} {old - 1} (table: {old}, {-1 / old:+.1%})"]
        return
    most = int(old * 1.1)
    assert said({**row, name: most}) == [] and said({**row, name: 0}) == []
    (line,) = said({**row, name: most + 1})
    change = f", {(most + 1 - old) / old:+.1%}" if old else ""
    assert line == f"{name} {most + 1} (table: {old}{change})"


@pytest.mark.parametrize("name", [name for name in limits.NUMBERS if WIDE.match(name)])
def test_accesses_of_every_width_are_held(row, name):
    kind, width = WIDE.match(name).groups()
    found = [re.split(r" \d+ \(", line)[0] for line in said({**row, name: 1000})]
    assert found == [f"{kind} of at most {size} bytes" for size in (1, 2, 4, 8, 16) if size >= int(width)]


@pytest.mark.parametrize(
    ("widths", "worse"),
    [
        ({"loads_16b": 24, "loads_8b": 48}, ["loads of at most 8 bytes", "loads of at most 16 bytes"]),
        ({"loads_2b": 1}, ["loads of at most 2 bytes"]),
        ({"stores_16b": 4, "stores_8b": 8}, ["stores of at most 8 bytes", "stores of at most 16 bytes"]),
        ({"stores_16b": 9}, []),  # of 10, with the two of 4 bytes
        ({"stores_16b": 10}, ["stores of at most 16 bytes"]),
        ({"loads_4b": 0, "loads_16b": 52}, []),  # fewer and wider
    ],
)
def test_widths_are_held_by_how_many_are_at_most_so_wide(row, widths, worse):
    assert [re.split(r" \d+ \(", line)[0] for line in said({**row, **widths})] == worse


def test_narrow_operands_other_tile_configs_and_what_is_not_told(row):
    assert said({**row, "narrow": "x_ptr=8"}) == ["x_ptr in accesses of 8 bytes (table: 16)"]
    assert said({**row, "config": "64x64x64/w4/s3"}) == [f"config 64x64x64/w4/s3 (table: {row['config']})"]
    untold = {**row, **dict.fromkeys(PATH), "reason": "why"}
    assert f"barriers not told: why (table: {row['barriers']})" in said(untold)
    known = {KEY: {**ROW, "narrow": "x_ptr=8 y_ptr=4"}}
    assert limits.regressions(known, [{**row, "narrow": "x_ptr=8"}]) == []
    (line,) = limits.regressions(known, [{**row, "narrow": "x_ptr=4 y_ptr=4"}])
    assert line == f"{limits.named(KEY)}: x_ptr in accesses of 4 bytes (table: 8)"


def test_rows_without_a_limit_and_limits_without_a_row(row):
    other = {**row, "shape_class": "new"}
    assert limits.regressions({KEY: ROW}, [other]) == [
        "conv1x1 sm_90 bf16 new: not in the table",
        f"{limits.named(KEY)}: in the table, and compiled no more",
    ]
    assert set(limits.chosen(KEPT, ("sm_90",), ["conv1x1"])) == {key for key in KEPT if key[:2] == KEY[:2]}
    assert limits.chosen(KEPT, tuple(CHIPS), None) == KEPT
    assert limits.changes({KEY: ROW}, [other, {**row, "regs": 9}, row]) == [
        "conv1x1 sm_90 bf16 new: new",
        f"{limits.named(KEY)}: regs {row['regs']} -> 9",
    ]


def test_a_table_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "limits.csv"
    limits.write(list(KEPT.values())[::-1], path)
    assert limits.read(path) == (limits.version(), KEPT)
    if limits.version() == VERSION:
        assert path.read_bytes() == limits.TABLE.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("# Triton ", "# ", "its first line names no version of Triton"),
        ("barriers_code,", "", "its columns are others"),
        (",0,0,", ",none,0,", "invalid literal .*"),
        (None, None, "No such file or directory"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, old, new, why):
    path = tmp_path / "limits.csv"
    if old:
        path.write_text(limits.TABLE.read_text().replace(old, new))
    with pytest.raises(
        ConfigError, match=f"^{path}: no table of limits: {why}; it is written by python -m kernels.aot"
    ):
        limits.read(path)


@pytest.fixture
def hold(monkeypatch, tmp_path, capsys):
    """Holds rows against the table in a copy of it, under a version; the result, stdout and stderr."""
    path = tmp_path / "limits.csv"
    path.write_bytes(limits.TABLE.read_bytes())
    monkeypatch.setattr(limits, "TABLE", path)

    def call(rows, version=VERSION, **options):
        monkeypatch.setattr(limits, "version", lambda: version)
        chosen = command.Options(per="first", **options)
        return command.hold(chosen, rows, *command.kept_limits(chosen)), *capsys.readouterr()

    return call


def whole(**changed):
    return [{**row, "status": "ok", "reason": "", **(changed if key == KEY else {})} for key, row in KEPT.items()]


def test_the_check_ends_with_the_launches_that_are_worse(hold):
    count = len(KEPT)
    end = f"launches, of which {{}} are worse than limits.csv says (Triton {VERSION})\n"
    assert hold(whole(), limits="check") == (False, f"{count} {end.format(0)}", "")
    regs = KEPT[KEY]["regs"]
    worse, out, err = hold(whole(regs=999), limits="check")
    assert worse and out == f"{count} {end.format(1)}"
    assert err == f"kernels.aot: {limits.named(KEY)}: regs 999 (table: {regs}, {(999 - regs) / regs:+.1%})\n"
    own = [row for row in whole() if (row["chip"], row["kernel"]) == KEY[:2]]
    assert hold(own, limits="check", chips=("sm_90",), ops=("conv1x1",))[0] is False
    assert hold(own, limits="check", chips=("sm_90",))[0] is True  # other kernels are there no more


def test_a_table_of_another_triton_is_not_compared_with(hold):
    said = f"not compared with limits.csv, which is of Triton {VERSION}: here is 3.6.0\n"
    assert hold(whole(regs=999), version="3.6.0", limits="check") == (False, said, "")
    with pytest.raises(ConfigError, match=f"^limits=write: limits.csv is of Triton {VERSION}, and a part of it cannot"):
        hold([], version="3.6.0", limits="write", chips=("sm_90",))


def test_a_part_of_the_table_is_written(hold):
    own = [row for row in whole(regs=99) if (row["chip"], row["kernel"]) == KEY[:2]]
    worse, out, _ = hold(own, limits="write", chips=("sm_90",), ops=("conv1x1",))
    assert not worse and f"{limits.named(KEY)}: regs {KEPT[KEY]['regs']} -> 99\n" in out and out.count("->") == 1
    assert limits.read(limits.TABLE)[1] == {**KEPT, KEY: {**KEPT[KEY], "regs": 99}}
    worse, out, err = hold([{**own[0], **vars(failed("spills"))}], limits="write", chips=("sm_90",), ops=("conv1x1",))
    assert worse and err == "limits=write: limits.csv is as it was, since kernels failed\n"
    assert limits.read(limits.TABLE)[1][KEY]["regs"] == 99


def test_amd_s_accesses_by_their_names():
    names = ["buffer_load_dwordx4", "global_load_dword", "buffer_load_ushort", "buffer_load_ubyte_d16",
             "flat_load_dwordx3", "buffer_store_short", "buffer_store_byte", "global_store_dwordx2",
             "buffer_store_short_d16_hi", "global_atomic_add", "ds_read_b128", "s_load_dwordx4"]  # fmt: skip
    assert amd_accesses(names) == {"loads": [16, 4, 2, 1, 12], "stores": [2, 1, 8, 2]}
    text = "kernel:\n\tbuffer_load_dwordx4 v[0:3], v9\n\tbuffer_load_dword v0, v9\n.LBB0_1:\n\tv_add_f32_dpp v0, v1\n\tds_bpermute_b32 v0, v1\n\ts_barrier\n\t.section x\n\ts_endpgm\n"  # fmt: skip  # noqa: E501
    made = MachineCode(32, 0, 0, 0, None, "ok", resident=2, reason="why", text=text)
    found = launch_counts(Launch("bn_stats", "", None, (1,), {}, {}), made)
    assert [found[name] for name in CODE] == [6, 2, 1, 2, 0]
    assert [found[name] for name in EDGES] == [16, 4, None, None]
    assert found["reason"] == "why" and found["narrow"] is None and "barriers" not in found


def test_the_whole_code_is_counted_each_instruction_once():
    """Of NVIDIA's too, with what is on no program's path: here what only the last one does."""
    loop = (".L_x_1:", "LDG.E.128 R4, R2", "STG.E.64 R2, R4", "BAR.SYNC 0x0", "@P0 BRA `(.L_x_1)")
    last = ("ATOMG.E.ADD PT, R5, R6", "@P1 EXIT", "SHFL.BFLY R1, R1", "LDG.E.U8 R1, R2", "STG.E R2, R1", "EXIT")
    made = MachineCode(32, 0, 0, 0, None, "ok", resident=2, code=parse(printed(*loop, *last)))
    found = launch_counts(Launch("bn_stats", "", None, (1,), {"TILES": 3}, {}), made)
    assert [found[name] for name in CODE] == [10, 1, 1, 2, 2] and [found[name] for name in EDGES] == [16, 1, 8, 4]
    told = {name: found[name] for name in PATH if found[name]}
    assert told == {
        "instructions_inside": 12, "instructions_outside": 2, "instructions_tail": 4, "barriers": 3,
        "loads_16b": 3, "stores_8b": 3,
    } and found["reason"] == ""  # fmt: skip


PTX = """
	ld.param.b64 	%rd1, [some_kernel_param_0];
	ld.param.b64 	%rd2, [some_kernel_param_2];
	ld.param.b32 	%r1, [some_kernel_param_1];
	mad.wide.s32 	%rd3, %r1, 2, %rd1;
$L__BB0_1:
	@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd3 + 0 ];
	@%p1 ld.global.L1::evict_last.v2.b32 { %r1, %r2 }, [ %rd7 + 0 ];
	add.s64 	%rd3, %rd3, 64;
	add.s64 	%rd4, %rd2, %rd9;
	cp.async.ca.shared.global [ %r7 + 0 ], [ %rd4 + 0 ], 0x8, %r8;
	cp.async.cg.shared.global [ %r7 + 0 ], [ %rd4 + 16 ], 0x10, %r8;
	@%p1 st.global.b16 [ %rd5 + 0 ], { %rs1 };
	ld.global.b64 	%rd6, [%rd4];
	st.global.v4.b32 [ %rd6 + 0 ], { %r1, %r2, %r3, %r4 };
	mov.b64 	%rd5, %rd10;
	mov.b64 	%rd10, %rd3;
	add.s64 	%rd7, %rd1, %rd8;
"""


def test_ptx_says_which_operand_is_accessed_how():
    """In a loop also by what is computed behind the access; an address out of a table is nobody's."""
    assert narrowest_accesses(PTX, ("x_ptr", "M", "w_ptr")) == {"x_ptr": 2, "w_ptr": 8}
    assert narrowest_accesses(PTX.replace("st.global.b16", "st.shared.b16"), ("x_ptr", "M", "w_ptr"))["x_ptr"] == 8


def test_what_channels_allow():
    """Of 16 bits, a multiple of 8 channels; other images and vectors are read as they can be."""
    operands = {
        "x_ptr": image(2, 24, 5, torch.bfloat16),
        "few_ptr": image(2, 12, 5, torch.bfloat16),
        "weight_ptr": weight(16, 16, 3, torch.float16),
        "expanded_ptr": torch.empty((2, 16), dtype=torch.float16, device="meta")[:, :, None, None].expand(2, 16, 3, 3),
        "stats_ptr": torch.empty((2, 16), device="meta"),
        "mask_ptr": torch.empty((50, 3), dtype=torch.uint8, device="meta"),
    }
    sizes = dict.fromkeys([*operands, "scratch_ptr"], 8)
    made = MachineCode(32, 0, 0, 0, None, "ok", resident=2, reason="why", operand_bytes=sizes)
    found = launch_counts(Launch("bn_stats", "", None, (1,), operands, {}), made)
    assert found["narrow"] == "x_ptr=8 weight_ptr=8 expanded_ptr=8"
    wide = MachineCode(32, 0, 0, 0, None, "ok", resident=2, reason="why", operand_bytes=dict.fromkeys(sizes, 16))
    assert launch_counts(Launch("bn_stats", "", None, (1,), operands, {}), wide)["narrow"] == ""
