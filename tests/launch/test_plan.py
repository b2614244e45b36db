"""Command lines become whole, checked plans, or one line that says what is wrong with them."""

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from bench.config.paths import ROOT, check_temporary
from launch.cli import main
from launch.plan import LaunchKeys, Plan, Program, make_plan
from results.words import ConfigError

# Keys that people type and scripts hold: their names stay.
KEYS = """depth shortcut stride family dataset data image_size num_classes recipe epochs steps lr weight_decay target
batch grad_accum zero_stage engine loader loader_threads kernels precision seed repeats rerun nodes ranks_per_node
cluster mode results save resume experiment scale activation_checkpointing protocol bn bn_images examine
examine_images""".split()


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    monkeypatch.setattr("launch.plan.gpus_here", lambda: 0)


def plan(line: str, program: Program = "local") -> Plan:
    return make_plan(program, shlex.split(line))


def test_the_keys_are_these() -> None:
    assert {option.name for option in dataclasses.fields(LaunchKeys)} == set(KEYS)
    assert all(option.metadata["meaning"] and option.metadata["default"] for option in dataclasses.fields(RunKeys))


def test_a_sweep_is_the_whole_product() -> None:
    cells = plan("depth=20,32 shortcut=A,B dataset=digits epochs=1").cells
    assert [cell.config.name() for cell in cells] == [
        "resnet20A-digits",
        "resnet20B-digits",
        "resnet32A-digits",
        "resnet32B-digits",
    ]


def test_repeats_count_the_seed_up() -> None:
    assert [cell.config.seed for cell in plan("depth=20 dataset=digits repeats=3 seed=5").cells] == [5, 6, 7]


def test_what_comes_up_twice_runs_once_and_that_is_said() -> None:
    found = plan("depth=20 dataset=digits seed=0,1 repeats=2")
    assert [cell.config.seed for cell in found.cells] == [0, 1, 2]
    assert found.notices == ["1 of 4 configurations repeat another: each is run once"]


def test_ranks_are_the_gpus_of_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan("depth=20 dataset=digits").cells[0].config.ranks_per_node == 2
    assert plan("depth=50 nodes=4", "slurm").cells[0].config.world_size == 32
    assert plan("depth=50 ranks_per_node=4", "slurm").cells[0].config.ranks_per_node == 4
    monkeypatch.setattr("launch.plan.gpus_here", lambda: 3)
    assert plan("depth=20 dataset=digits").cells[0].config.ranks_per_node == 3
    with pytest.raises(WordError, match="^ranks_per_node=4: this machine has 3 GPUs; nearest is ranks_per_node=3$"):
        plan("depth=20 dataset=digits ranks_per_node=4")


def test_a_notice_is_said_once_for_a_whole_sweep() -> None:
    found = plan("depth=18,34 nodes=1,2", "slurm")
    assert len(found.cells) == 4 and len(found.notices) == 1


def test_a_profile_gives_data_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{part}.bin").write_bytes(bytes(100 * 3073))
    (tmp_path / "mine.yaml").write_text(f"data: {{cifar10: {tmp_path}/images}}\nresults: {tmp_path}/rows\n")
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path))
    for program in ("local", "slurm"):
        (cell,) = plan("depth=20 dataset=cifar10 cluster=mine batch=8", program).cells
        assert (cell.config.data, cell.config.results) == (f"{tmp_path}/images", f"{tmp_path}/rows")


@pytest.mark.parametrize(
    ("program", "line", "message"),
    [
        (
            "local",
            "depth=20 dataset=digits nodes=2",
            "nodes=2: local.py has this machine alone; nodes=1, or python launch/sl",
        ),
        ("local", "depth=20 dataset=digits mode=print", "mode=print: local.py runs at once"),
        ("slurm", "depth=18,34 mode=print", "mode=print: writes the script of one configuration, and these are 2"),
        ("slurm", "depth=18 mode=print,test", "mode: one value for all configurations, not a sweep"),
        ("slurm", "depth=18 mode=prnt", "mode=prnt: choose from print, test, submit (nearest: mode=print)"),
        ("slurm", "depth=18 cluster=defalt", "cluster=defalt: no such profile"),
        ("slurm", "depth=18 ranks_per_node=9", "ranks_per_node=9: a node of cluster=default has 8 GPUs"),
        ("slurm", "depth=18,19 nodes=8", "depth=19: family=imagenet has depths 18, 34, 50, 101, 152; nearest is 18"),
        (
            "local",
            "depth=20 dataset=digits seed=0,1 save=/w.safetensors",
            "save=/w.safetensors: 2 configurations would",
        ),
        (
            "slurm",
            "depth=50 loader=synthetic results='/rows\nof mine'",
            "results=/rows\nof mine: a line break ends a line",
        ),
        ("slurm", "depth=50 loader=synthetic mode=print results='/rows/\n'", "results=/rows/\n: a line break ends a"),
        ("local", "depth=20 dataset=digits repeats=0", "repeats=0: repeats takes a whole number, at least 1"),
    ],
)
def test_what_cannot_be_is_named(program: Program, line: str, message: str) -> None:
    with pytest.raises(WordError) as raised:
        plan(line, program)
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value).removeprefix(message)


@pytest.mark.parametrize("mode", ["submit", "print", "test"])
def test_a_line_break_in_the_folder_of_rows_is_refused_where_a_script_has_it(
    tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"results={tmp_path}/a\nb", "depth=20", "dataset=digits", "ranks_per_node=1"]
    assert main("slurm", [*words, f"mode={mode}"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == (
        f"launch: results={tmp_path}/a b: a line break ends a line of the batch script; rename it\n"
    )
    assert plan(shlex.join(words)).cells[0].config.results == f"{tmp_path}/a\nb"  # which no script has
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("depth=21 dataset=digits", "launch: depth=21: family=cifar has depths 6n + 2 from 8 on; nearest is 20"),
        ("depth=20 dataset=digits shortcut=D", "launch: shortcut=D: choose from none, A, B, C (nearest: shortcut=C)"),
        ("dept=20", "launch: dept=20: no such key; did you mean depth=20? (--help lists every key)"),
        (
            "depth=20 dataset=digits nodes=zero",
            "launch: nodes=zero: nodes takes a whole number, at least 1 (nearest: nodes=1)",
        ),
        ("depth=20 dataset=cifar10 data=DIR/imagse", "launch: data=DIR/imagse: no such folder; nearest is DIR/images"),
        ("", "launch: depth is missing: add depth=50 (ImageNet), or depth=20 dataset=digits; --help lists every key"),
    ],
)
def test_the_command_ends_with_that_line_and_leaves_nothing(tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "images").mkdir()
    line = words.replace("DIR", str(tmp_path)).split()
    command = [sys.executable, str(ROOT / "launch" / "local.py"), *line, f"results={tmp_path}/rows"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message.replace("DIR", str(tmp_path)) + "\n")
    assert os.listdir(tmp_path) == ["images"]


@pytest.mark.parametrize("script", ["local.py", "slurm.py"])
def test_help_lists_every_key(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "launch" / script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not done.stderr
    _, _, listing = done.stdout.partition("\n\n")[2].partition("\n\n")
    first_words = [line.split()[0] for line in listing.splitlines() if not line.startswith(" ")]
    assert first_words == [option.name for option in dataclasses.fields(LaunchKeys)]
    assert listing.count("type: ") == listing.count("default:") == len(first_words)


def test_scripts_define_nothing_and_find_the_checkout_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "bench.py").write_text("raise SystemExit('the wrong bench')")
    for script in ("local.py", "slurm.py"):
        command = [sys.executable, str(ROOT / "launch" / script), "depth=1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stderr.startswith("launch: depth=1: depth takes ")


def test_a_missing_package_is_said_with_what_installs_it(tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(ROOT / "launch" / "local.py"), "depth=50"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not installed for" in done.stderr and "make setup" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_machine_without_a_folder_for_temporary_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    said = r"^No usable temporary directory found in \['/tmp', '/'\]: TMPDIR=FOLDER, a variable, names another$"
    with pytest.raises(WordError, match=said):
        plan("depth=20 dataset=digits")
    plan("depth=50 loader=synthetic", "slurm")  # that of the nodes is not known here


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP"])
@pytest.mark.parametrize(
    ("place", "what"),
    [("none/here", "no such folder"), ("file", "not a folder"), ("/proc/1", "cannot be written to"), ("there", None)],
)
def test_the_folder_for_temporary_files_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, what: str | None
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    for each in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.setattr("tempfile.tempdir", None)  # what Python found before
    if what is None:
        plan("depth=20 dataset=digits")
        return
    with pytest.raises(WordError) as raised:
        plan("depth=20 dataset=digits")
    near = tempfile.gettempdir()
    assert str(raised.value) == f"{name}={tmp_path / place}: {what}; nearest is {name}={near}" and os.path.isdir(near)
    plan("depth=50 loader=synthetic", "slurm")  # that of the nodes is not known here
    check_temporary(named=False)  # as a rank on such a node does
    if name != "TMPDIR":  # which goes before it
        monkeypatch.setenv("TMPDIR", str(tmp_path / "there"))
        monkeypatch.setattr("tempfile.tempdir", None)
        plan("depth=20 dataset=digits")


def test_threads_that_cannot_be_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    with pytest.raises(ConfigError, match=r"^OMP_NUM_THREADS=0: expected a whole number from 1 to 4096 .nearest: 1.; "):
        plan("depth=20 dataset=digits")
    plan("depth=50 loader=synthetic", "slurm")  # a job has its own
