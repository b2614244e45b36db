"""Every kernel compiles for every chip without a fault, and faults that are planted are found."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kernels import runtime
from kernels.aot import command, compile, limits, resident
from kernels.aot.resources import failed
from kernels.chips import CHIPS
from kernels.tiles import tile_configs

pytestmark = pytest.mark.slow

SUMMING = ("bn_stats", "bn_act_backward_reduce", "stem_backward_reduce")
ROOT = Path(__file__).resolve().parents[3]


def run(*arguments, **environment):
    """A Python process that does not interpret kernels."""
    inherited = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def planted():
    done = run(Path(__file__).with_name("planted_kernels.py"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def entries():
    """What is compiled, as far as it can be told in this process."""
    return command.collect(command.Options(per="all"))


def test_every_kernel_compiles_for_every_chip(tmp_path, entries):
    path = tmp_path / "new" / "aot.parquet"
    done = run("-m", "kernels.aot", "per=first", "limits=check", f"to={path}")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(path)
    assert table.schema.equals(command.SCHEMA)
    rows = table.to_pylist()
    assert {(row["kernel"], row["chip"]) for row in rows} == {(entry.kernel, entry.chip) for entry in entries}
    for row in rows:
        assert row["status"] == "ok" and row["spills"] == row["stack_bytes"] == 0, row
        assert row["regs"] > 0 and row["config"], row
        if row["kernel"].startswith("conv"):
            assert row["matrix_instruction"] == CHIPS[row["chip"]].matrix_instruction[0], row
        if row["kernel"] in SUMMING and row["chip"].startswith("sm_"):
            assert row["regs"] <= 128, row  # of 65,536, so that two programs of 256 threads fit a processor
        assert row["resident"] > 0 and row["instructions_code"] > 0 and row["triton"] == limits.version(), row
        # Where the path of a program is told; Blackwell's convolutions wait in loops within loops.
        if row["chip"] in ("sm_80", "sm_90") or (row["chip"] == "sm_100" and not row["kernel"].startswith("conv")):
            assert row["reason"] == "" and row["instructions_outside"] > 0 and row["narrow"] is not None, row
        elif row["chip"] == "gfx942":
            assert row["reason"] and row["instructions_outside"] is None and row["narrow"] is None, row
    assert [file.name for file in path.parent.iterdir()] == ["aot.parquet"]
    held = rf"{len(rows)} launches, of which 0 are worse than limits.csv says \(Triton \S+\)$"
    assert re.search(rf"^{held}|^not compared with limits.csv", done.stdout, re.M)
    assert re.search(rf"compilations for {len(rows)} launches on {', '.join(CHIPS)} in \d+ s", done.stdout)


def test_no_kernel_is_left_out(entries):
    defined = {
        name
        for path in (ROOT / "kernels").rglob("*.py")
        for name in re.findall(r"^def (\w+_kernel)\(", path.read_text(), re.M)
    }
    assert all(entry.launch for entry in entries), [entry for entry in entries if not entry.launch][:3]
    assert {entry.launch.function.__name__ for entry in entries} == defined - {"_nothing_kernel"}


def test_first_has_every_kernel_with_every_flag_of_one(entries):
    first = command.collect(command.Options(per="first"))
    assert {entry.kernel for entry in first} == {entry.kernel for entry in entries}
    assert len(first) < len(entries) / 5


@pytest.mark.parametrize("chip", CHIPS)
def test_list_has_every_tile_config_of_every_list(chip):
    found = command.collect(command.Options(per="list", chips=(chip,)))
    listed = {(op, str(one)) for op in resident.OPS for one in tile_configs.listed(op, chip)}
    assert {(entry.kernel, entry.config) for entry in found if entry.kernel in resident.OPS} == listed
    assert {entry.dtype for entry in found} == {"bf16"}


@pytest.mark.parametrize("chip", CHIPS)
def test_a_sound_kernel_is_ok(planted, chip):
    row = planted["sound"][chip]
    assert row["status"] == "ok" and row["matrix_instruction"] == CHIPS[chip].matrix_instruction[0]
    assert 0 < row["regs"] < 255 and 0 < row["shared_bytes"] < 65_536 and row["spills"] == row["stack_bytes"] == 0


def test_the_kernels_that_have_no_products_compile_in_fp32(planted, entries):
    found = planted["ours in fp32"]
    assert set(found) == {entry.kernel for entry in entries if not entry.kernel.startswith("conv")}
    assert set(found.values()) == {"ok"}, found


@pytest.mark.parametrize("chip", CHIPS)
def test_a_spill_is_found(planted, chip):
    row = planted["spills"][chip]
    assert row["spills"] > 0 and row["stack_bytes"] > 0
    assert re.fullmatch(r"failed: \d+ spills, \d+ bytes of stack.*", row["status"])


@pytest.mark.parametrize("chip", CHIPS)
def test_too_much_shared_memory_is_found(planted, chip):
    assert re.search(r"failed: .*\d+ bytes of shared memory, of which", planted["shared"][chip]["status"])


@pytest.mark.parametrize("chip", CHIPS)
def test_a_missing_matrix_instruction_is_found(planted, chip):
    assert planted["no matrix"][chip]["status"] == f"failed: no {CHIPS[chip].matrix_instruction[0]}"
    assert planted["fp32"][chip]["status"] == "ok"  # tests' dtype, which no matrix instruction multiplies exactly


@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_that_does_not_compile_is_a_row(planted, chip):
    row = planted["broken"][chip]
    assert row["status"].startswith("failed: ") and "128" in row["status"] and "\n" not in row["status"]
    assert row["regs"] is None


def test_arguments_are_specialized_as_the_launcher_does(planted):
    signature = {
        "x_ptr": "*bf16", "unused_ptr": "constexpr", "out_ptr": "*bf16", "M": "i32", "ONE": "constexpr", "FAR": "i64",
        "factor": "fp32", "BLOCK": "constexpr",
    }  # fmt: skip
    sixteen = [["tt.divisibility", 16]]
    assert planted["specialized"] == {
        "signature": signature,
        "constants": {"1": None, "4": 1, "7": 64},
        "attributes": {"0": sixteen, "2": sixteen, "3": sixteen},
    }


@pytest.mark.parametrize(
    ("fault", "worse"),
    [
        ("a reduction more", {"shuffles", "barriers", "shuffles_code", "barriers_code", "instructions_outside"}),
        ("8 bytes at a time", {"x_ptr", "narrowest_load"}),
        (
            "2 bytes at a time",
            {"x_ptr", "widest_load", "loads of at most 2 bytes", "loads_code", "instructions_inside"},
        ),
        ("twice the unroll", {"instructions_code", "loads_code"}),
    ],
)
@pytest.mark.parametrize("chip", CHIPS)
def test_a_regression_of_the_machine_code_is_found(planted, chip, fault, worse, tmp_path):
    sound, broken = planted["held"]["sound"][chip], planted["held"][fault][chip]
    assert sound["status"] == "ok" and sound["narrow"] in ("", None)
    limits.write([sound], tmp_path / "limits.csv")
    _, table = limits.read(tmp_path / "limits.csv")
    assert limits.regressions(table, [sound]) == []
    (line,) = limits.regressions(table, [broken])
    parts = line.removeprefix(f"sums {chip} bf16 planted: ").split("; ")
    found = {re.split(r" \d+ \(| in accesses", part)[0] for part in parts}
    if chip == "gfx942":  # of whose code operands and paths are not told
        worse = {name for name in worse if name in (*limits.CODE, *limits.EDGES)}
    assert worse <= found


def test_equal_variants_are_compiled_once(planted):
    assert planted["groups"] == [[0, 1], [2]]


def test_a_compiler_dies_at_once_by_what_its_parent_would_handle(monkeypatch):
    """Compilers are not Python: a handler of the parent's would wait for their end."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def says(launch, chip):
        blocked = len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return failed(" ".join(str(int(one)) for one in (*map(signal.getsignal, numbers), blocked)))

    monkeypatch.setattr(compile, "compile_launch", says)
    before = [signal.getsignal(number) for number in numbers]
    try:
        for number, handler in zip(numbers, (lambda *_: None, lambda *_: None, signal.SIG_IGN), strict=True):
            signal.signal(number, handler)
        receiver, process = compile._start(None, "sm_90")
        assert receiver.recv().status == "failed: 0 0 1 0"  # SIG_DFL, SIG_IGN where that was asked for; none blocked
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        process.join()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_dead_compiler_is_a_failure(planted):
    assert planted["dead"] == ["failed: the compiler died with status 3"]


@pytest.fixture
def chosen(monkeypatch):
    """Calls the command; what it would compile, or None where it refuses."""
    taken = []
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(command, "compile_and_write", lambda options: taken.append(options) or 0)

    def call(*words):
        assert command.main(words) == (0 if taken else 2)
        return taken.pop() if taken else None

    return call


def test_words(chosen):
    options = chosen("chips=sm_90,gfx942", "ops=conv1x1", "per=first", "to=a/b.parquet", "jobs=3")
    assert options == command.Options(
        chips=("sm_90", "gfx942"), ops=("conv1x1",), per="first", to=Path("a/b.parquet"), jobs=3
    )
    assert chosen() == command.Options() and command.Options().chips == tuple(CHIPS)
    assert chosen("per=first", "limits=check") == command.Options(per="first", limits="check")
    assert chosen("chips=sm_90,sm_90").chips == ("sm_90",)
    assert chosen("to=a,b").to == Path("a,b")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chips=sm_91"], r"chips=sm_91: choose from .* \(nearest: chips=sm_90\)"),
        (["ops=conv1x2"], r"ops=conv1x2: choose from .* \(nearest: ops=conv1x1\)"),
        (["per=each"], "per=each: choose from first, list, all .*"),
        (["per=first,all"], "per=first,all: per takes one value, one of first, list, all"),
        (["per=first", "per=all"], "per=all: per is given twice; it takes one value"),
        (["jobs=0"], r"jobs=0: jobs takes a whole number, at least 1 and at most 1024 \(nearest: jobs=1\)"),
        (["jobs=two"], "jobs=two: jobs takes a whole number, .*"),
        (["chip=sm_90"], "chip=sm_90: no such key; did you mean chips=sm_90.*"),
        (["limits=check"], "limits=check: limits are those of per=first; nearest is per=first limits=check"),
        (["per=all", "limits=write"], "limits=write: limits are those of per=first; .*"),
        (["per=first", "limits=read"], "limits=read: choose from check, write .*"),
        (["resident=write"], "resident=write: it is written whole, of per=list; nearest is per=list resident=write"),
        (["per=list", "resident=write", "chips=sm_90"], "resident=write: it is written whole, .*"),
        (["per=list", "resident=check"], "resident=check: choose from write .*"),
        (["first"], r"first: words are key=value \(--help lists every key\)"),
        (["to="], "to=: to takes a path"),
        (["to=/tmp"], "to=/tmp: no file can be written there; nearest is to=/tmp/aot.parquet"),
        (["to=/proc/aot.parquet"], "to=/proc/aot.parquet: no file can be written there; nearest is to=.*"),
        (["to=/etc/hostname/aot.parquet"], "to=/etc/hostname/aot.parquet: no file can be written there; .*"),
        (["to=/dev/null"], "to=/dev/null: no file can be written there; .*"),
        ([f"to=/tmp/{300 * 'x'}"], "to=/tmp/x.*name too long.*; nearest is to=build/aot.parquet"),
        (["to=~nobody.here/x"], "to=~nobody.here/x: .*home.*; nearest is to=build/aot.parquet"),
    ],
)
def test_bad_words_are_refused_in_one_line_before_anything_is_compiled(words, said, chosen, capsys):
    assert chosen(*words) is None
    assert re.fullmatch(f"kernels.aot: {said}\n", capsys.readouterr().err)


def test_an_interpreting_process_is_refused(tmp_path):
    done = run("-m", "kernels.aot", f"to={tmp_path / 'aot.parquet'}", TRITON_INTERPRET="1")
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == "kernels.aot: TRITON_INTERPRET=1 is set, under which Triton compiles nothing; unset it\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(command, "collect", lambda options: [])

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert command.main([f"to={tmp_path / 'aot.parquet'}"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"kernels.aot: to={tmp_path / 'aot.parquet'}: ") and err.count("\n") == 1
    assert err.endswith("No space left on device\n") and not list(tmp_path.iterdir())
    assert "most registers" in out
