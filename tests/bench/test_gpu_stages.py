"""`make gpu`: order of the stages, what is resumed, and what it says without a GPU. No part is run here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from bench import gpu
from bench.gpu import Part, State, parts_of, run_parts, summary
from bench.micro.plan import plan as plan_micro
from bench.step.plan import plan as plan_step

ROOT = Path(__file__).resolve().parents[2]
PARTS = [Part(1, "a", ("x",)), Part(2, "b", ("y",), attempts=3), Part(3, "c", ("z",))]


class Fake:
    """A runner and its clock; `statuses` are what parts end with, in order."""

    def __init__(self, *statuses: int | None, seconds: float = 100.0) -> None:
        self.statuses, self.seconds = list(statuses), seconds
        self.ran: list[tuple[str, float]] = []
        self.now = 0.0
        self.said: list[str] = []

    def __call__(self, part: Part, limit_s: float) -> int | None:
        self.ran.append((part.name, limit_s))
        self.now += min(self.seconds, limit_s)
        return self.statuses.pop(0)

    def go(self, state: State, minutes: float | None = None) -> list[str]:
        run_parts(PARTS, state, self, minutes=minutes, clock=lambda: self.now, say=self.said.append)
        return [name for name, _ in self.ran]


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "gpu" / "state.json")


def test_parts_run_in_order_and_what_is_done_is_left_out(state: State) -> None:
    fake = Fake(0, 1, 0)
    assert fake.go(state) == ["a", "b", "c"] and [limit for _, limit in fake.ran] == [480, 480, 480]
    again = State.read(state.path)
    assert {name: part["status"] for name, part in again.parts.items()} == {
        "a": "done", "b": "failed (exit status 1)", "c": "done",
    }  # fmt: skip
    assert summary(PARTS, again, say=str) == 1
    resumed = Fake(0)
    assert resumed.go(again) == ["b"] and summary(PARTS, again, say=str) == 0
    again = Fake(0, 0, 0)
    assert again.go(State.read(state.path, restart=True)) == ["a", "b", "c"]


def test_a_part_that_runs_out_of_time_goes_on(state: State) -> None:
    fake = Fake(0, None, None, 0, None)
    assert fake.go(state) == ["a", "b", "b", "b", "c"]
    assert state.parts["b"] == {"status": "done", "seconds": 100.0, "attempts": 3}
    assert state.parts["c"]["status"] == "out of time" and summary(PARTS, state, say=str) == 3


def test_a_limit_of_time_cuts_the_last_part_and_begins_no_other(state: State) -> None:
    fake = Fake(0, None, seconds=200.0)
    fake.go(state, minutes=6)
    assert fake.ran == [("a", 360), ("b", 160)]
    assert "6 minutes are over before b" in fake.said[-1]
    assert json.loads(state.path.read_text())["parts"]["b"]["status"] == "out of time"


@pytest.mark.slow
def test_stages_come_in_their_order_with_words_that_are_understood(tmp_path: Path) -> None:
    state = State(tmp_path / "state.json")
    parts = parts_of(state, str(tmp_path))
    assert [part.stage for part in parts] == sorted(part.stage for part in parts)
    assert {part.stage for part in parts} == set(gpu.STAGES)
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        module, *words = part.words
        if module == "bench.step":
            assert len(plan_step(words)) == 1
        elif module == "bench.micro":
            (one,) = plan_micro(words)
            assert one.keys.run == state.run_ids[part.name]
        else:
            assert module == "pytest" and (ROOT / words[-1]).exists()
    kernels = [" ".join(part.words) for part in parts if part.stage == 2]
    assert "kernels=torch,compile,triton graphs" in kernels[0] and "auto" in kernels[-1]
    state.write()
    assert [part.words for part in parts_of(State.read(state.path), str(tmp_path))] == [part.words for part in parts]


@pytest.mark.parametrize(("cores", "workers"), [(4, 2), (15, 13), (16, 14), (17, 14), (64, 14)])
def test_tests_share_the_cores_where_they_can(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    monkeypatch.setattr(gpu, "cores_here", lambda environ: cores)
    assert [part.words[-2:] for part in gpu.test_parts(ROOT)] == [
        (f"--numprocesses={workers}", "tests/kernels"), (f"--numprocesses={workers}", "tests/resnet/fused"),
    ]  # fmt: skip
    with monkeypatch.context() as without:
        without.setattr(gpu.importlib.util, "find_spec", lambda name: None)
        alone = gpu.test_parts(ROOT)
    for few in (1, 2, 3):  # one worker would only cost its start
        monkeypatch.setattr(gpu, "cores_here", lambda environ, few=few: few)
        assert gpu.test_parts(ROOT) == alone
    assert len({part.name for part in alone}) == len(alone) > 20
    tests = {path for folder in ("kernels", "resnet/fused") for path in (ROOT / "tests" / folder).rglob("test_*.py")}
    assert {ROOT / part.words[-1] for part in alone} == tests


def test_a_part_is_shown_logged_and_ended_in_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = Part(1, "quick", ("platform",))
    assert gpu.run(quick, 60, tmp_path) == 0
    assert (tmp_path / "quick.log").read_text() == capfd.readouterr().out != ""
    start = time.monotonic()
    assert gpu.run(Part(1, "slow", ("http.server", "0", "--bind", "127.0.0.1")), 1.0, tmp_path) is None
    assert time.monotonic() - start < 20


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
def test_a_log_without_room_ends_no_part(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "p.log").symlink_to("/dev/full")
    part = Part(1, "p", ("json.tool", "--help"))
    assert gpu.run(part, 60.0, tmp_path / "logs") == 0


@pytest.mark.parametrize("word", ["stages=7", "stage=1", "minutes=0", "minutes=1,2"])
def test_a_bad_word_is_one_line_and_exit_status_2(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([word]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_device_one_line_says_so(tmp_path: Path) -> None:
    words = ["make", "gpu", f"GPU=results={tmp_path / 'v1'}", f"PYTHON={sys.executable}"]
    # Where this runs under make, a make below it would say which directory it enters.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0 and done.stdout == "" and len(said) == 1 and "no CUDA device here" in said[0]
    assert gpu.main([]) == 1 and not (tmp_path / "v1").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parts": [], "run_ids": {}}'])
def test_a_damaged_state_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path}: does not say what was done .*restart=true begins again$"):
        gpu.State.read(path)
    assert gpu.State.read(path, restart=True).parts == {}


def test_a_full_disk_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = gpu.State(tmp_path / "state.json", {"a": {"status": "done"}}, {"b": "run"})
    state.write()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        gpu.State(tmp_path / "state.json").write()
    assert gpu.State.read(tmp_path / "state.json") == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.slow
def test_a_part_does_not_outlive_a_killed_run(tmp_path: Path) -> None:
    """By SIGTERM, which runs `finally`, and by SIGKILL, which nothing runs after."""
    code = (
        "import sys; from pathlib import Path; from bench import gpu; from bench.config import command\n"
        "nap = lambda task: gpu.run(gpu.Part(1, 'nap', ('tests_nap',)), 60, Path(sys.argv[1]))\n"
        "sys.exit(command.run('nap', '', gpu.Keys, lambda words: None, nap, []))"
    )
    (tmp_path / "tests_nap.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    for number in (signal.SIGTERM, signal.SIGKILL):
        command = [sys.executable, "-u", "-c", code, str(tmp_path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            parent.send_signal(number)
            parent.wait(timeout=20)
            child.wait(timeout=20)
        assert not child.is_running()
