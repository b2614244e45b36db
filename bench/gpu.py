"""Everything that wants a GPU, in the order of what is wanted most: `make gpu`, or

    python -m bench.gpu [stages=1,2] [minutes=25] [results=PATH] [to=results/record] [restart=true]

1 correctness of the kernels on the device; 2 ResNet-50 in bf16; 3 microbenchmarks; 4 ResNet-50 in fp16; 5 CIFAR nets
with CUDA graphs; 6 max-autotune of torch.compile. A stage is cut into parts of at most eight minutes, each a process
of its own that writes its rows as it goes. What is done is noted in RESULTS/gpu/state.json and left out the next time;
a part that ran out of time is begun again, and goes on from the rows or the choices of kernels that it left. What each
part printed is in RESULTS/gpu/PART.log.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    from bench.config import command
    from bench.config.grammar import WordError, key, parse
    from bench.config.paths import ROOT, check_folder
    from bench.config.slurm import cores_here
    from kernels.child_process import die_with_parent
    from results.durable import replace_file
    from results.export import export
    from results.identity import benchmark_of
    from results.store.files import read_rows, table_files
    from results.words import DEFAULT_ROOT
except ModuleNotFoundError as missing:
    sys.exit(f"bench.gpu: {missing.name} is not installed for {sys.executable}: make setup installs it in .venv")

PART_S = 480.0
LEAST_S = 20.0  # with less time left no part is begun
STAGES = {
    1: "correctness on the device",
    2: "ResNet-50 in bf16",
    3: "microbenchmarks",
    4: "ResNet-50 in fp16",
    5: "CIFAR nets with CUDA graphs",
    6: "max-autotune",
}


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    stages: int | None = key("which of the stages 1 to 6", "all", least=1, most=6)
    minutes: float | None = key(
        "time after which nothing more is begun or goes on", "no limit", unit="min", above=0, one=True
    )
    results: str = key("folder that rows are written to", "results/v1", default=str(DEFAULT_ROOT), path=True, one=True)
    to: str | None = key(
        "folder that rows are exported to in the end, such as results/record", "none", path=True, one=True
    )
    restart: bool = key("whether to begin again, whatever was done", "false", default=False, one=True)


@dataclass(frozen=True)
class Part:
    """One process of a stage.

    Attributes:
        name: also of its log.
        words: after `python -m`.
        attempts: how often it may run out of time before it counts as failed; later ones go on from the first.
    """

    stage: int
    name: str
    words: tuple[str, ...]
    attempts: int = 1


@dataclass
class State:
    """What has been done, as it stands in the file.

    Attributes:
        path: of the file.
        parts: status ("done", "failed", "out of time"), seconds and attempts of each part, by its name.
        run_ids: of runs that more than one process writes, by part.
    """

    path: Path
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    run_ids: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, *, restart: bool = False) -> "State":
        """What the file says; nothing done where there is none, or it is to be begun again."""
        if restart or not path.exists():
            return cls(path)
        try:
            content = json.loads(path.read_text())
            parts, run_ids = content["parts"], content["run_ids"]
            if not (isinstance(parts, dict) and isinstance(run_ids, dict)):
                raise TypeError("parts and run_ids are no objects")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: does not say what was done ({error!r}); restart=true begins again") from None
        return cls(path, parts, run_ids)

    def write(self) -> None:
        """Replace the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"parts": self.parts, "run_ids": self.run_ids}, indent=1)
        replace_file(self.path, lambda file: file.write(text.encode()))

    def run_id(self, part: str) -> str:
        """The run that a part goes on with; made at the first call."""
        if part not in self.run_ids:
            self.run_ids[part] = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{part}-{secrets.token_hex(4)}"
        return self.run_ids[part]


def parts_of(state: State, results: str, root: Path = ROOT) -> list[Part]:
    """All parts in order."""
    found = test_parts(root)
    to = f"results={results}"

    def step(stage: int, name: str, *words: str, attempts: int = 2) -> None:
        found.append(Part(stage, name, ("bench.step", *words, to), attempts))

    def micro(stage: int, name: str, *words: str, attempts: int = 4) -> None:
        words = ("bench.micro", *words, f"run={state.run_id(name)}", to)
        found.append(Part(stage, name, words, attempts))

    fifty = ("depth=50", "stride=v1.5", "batch=256")
    step(2, "resnet50-bf16", *fifty, "precision=bf16", "kernels=torch,compile,triton", "graphs=false,true")
    step(2, "resnet50-bf16-profile", *fifty, "precision=bf16", "kernels=triton", "graphs=false", "profile=true")
    # Choosing takes minutes the first time, and each choice is kept: what is cut off here goes on.
    step(2, "resnet50-bf16-choose", *fifty, "precision=bf16", "kernels=torch,auto", "graphs=false", attempts=4)
    step(2, "resnet50-bf16-auto", *fifty, "precision=bf16", "kernels=torch,compile,triton,auto", "graphs=false,true")
    backends = "backend=triton,eager,compile,cudnn-fused"
    micro(3, "micro-resnet50-bf16", *fifty, "precision=bf16", backends)
    micro(3, "micro-resnet50-fp16", *fifty, "precision=fp16", backends)
    step(4, "resnet50-fp16-choose", *fifty, "precision=fp16", "kernels=torch,auto", "graphs=false", attempts=4)
    step(4, "resnet50-fp16", *fifty, "precision=fp16", "kernels=torch,compile,triton,auto", "graphs=false,true")
    for depth in (20, 110):
        cifar = (f"depth={depth}", "batch=128", "precision=bf16", "kernels=torch,compile,triton,auto")
        step(5, f"resnet{depth}-cifar-graphs", *cifar, "graphs=true", attempts=3)
        step(5, f"resnet{depth}-cifar", *cifar, "graphs=false", attempts=3)
    autotuned = "kernels=torch,compile,compile-max-autotune,triton"
    step(6, "resnet50-bf16-max-autotune", *fifty, "precision=bf16", autotuned, "graphs=false,true", attempts=4)
    autotuned = "backend=triton,eager,compile-max-autotune"
    micro(6, "micro-resnet50-bf16-max-autotune", *fifty, "precision=bf16", autotuned, attempts=6)
    return found


def test_parts(root: Path) -> list[Part]:
    """The tests of kernels and of nets over them: most of their time goes into compiling, which all cores can share.

    With pytest-xdist a folder is a part, its tests spread over the cores but two; without, each file is one.
    """
    workers = min(cores_here(os.environ) - 2, 14)
    found = []
    for folder in ("kernels", "resnet/fused"):
        rooms = folder.split("/")
        if workers > 1 and importlib.util.find_spec("xdist"):
            # A line a test: what is cut off in the end has still said what failed.
            words = ("pytest", "-v", "--tb=short", f"--numprocesses={workers}", f"tests/{folder}")
            found.append(Part(1, "-".join(("tests", *rooms)), words, 3))
            continue
        for path in sorted((root / "tests" / folder).rglob("test_*.py")):
            *rooms, stem = path.relative_to(root / "tests").with_suffix("").parts
            name = "-".join(("tests", *rooms, stem.removeprefix("test_")))
            found.append(Part(1, name, ("pytest", "-q", str(path.relative_to(root))), 3))
    return found


Runner = Callable[[Part, float], int | None]  # exit status within so many seconds, None where they were not enough


def run_parts(
    parts: Sequence[Part],
    state: State,
    runner: Runner,
    *,
    minutes: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> None:
    """Run what is not done yet, in order, and note what came of it.

    Args:
        runner: runs one part.
        minutes: of all together, or None.
    """
    start = clock()
    stage = 0
    for part in parts:
        before = state.parts.get(part.name, {})
        if before.get("status") == "done":
            continue
        if part.stage != stage:
            stage = part.stage
            say(f"stage {stage}: {STAGES[stage]}")
        for attempt in range(1, part.attempts + 1):
            left_s = PART_S if minutes is None else min(PART_S, 60 * minutes - (clock() - start))
            if left_s < LEAST_S:
                say(f"{minutes:g} minutes are over before {part.name}; the same command goes on")
                return
            say(f"{part.name}: python -m {' '.join(part.words)}")
            began = clock()
            status = runner(part, left_s)
            word = "out of time" if status is None else "done" if status == 0 else f"failed (exit status {status})"
            seconds = round(clock() - began, 1)
            state.parts[part.name] = {"status": word, "seconds": seconds, "attempts": attempt}
            state.write()
            say(f"{part.name}: {word} after {seconds:.0f} s")
            if status is not None:
                break


def run(part: Part, limit_s: float, logs: Path) -> int | None:
    """Run a part in a process group of its own, which ends with it; shows and logs what it prints."""
    logs.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limit_s
    with kept_log(logs / f"{part.name}.log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *part.words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
        overdue = watch_deadline(process, deadline)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                sys.stdout.write(line)
                log(line)
            status = process.wait()
        finally:  # a signal, say: what the part started must not go on beside the next run
            expired = overdue()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return None if expired else status


@contextlib.contextmanager
def kept_log(path: Path) -> Iterator[Callable[[str], None]]:
    """A function that adds to a log as long as its disk has room: a full one ends no part."""
    file = path.open("a", buffering=1)

    def add(text: str) -> None:
        with contextlib.suppress(OSError):
            file.write(text)

    try:
        yield add
    finally:
        with contextlib.suppress(OSError):
            file.close()


def watch_deadline(process: "subprocess.Popen[str]", deadline: float) -> Callable[[], bool]:
    """Kill a process group at a deadline; what is returned ends the watch and says whether it came to that."""
    ended, expired = threading.Event(), threading.Event()

    def watch() -> None:
        if not ended.wait(max(0.0, deadline - time.monotonic())):
            expired.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def stop() -> bool:
        ended.set()
        thread.join()
        return expired.is_set()

    return stop


def publish(results: Path, to: Path, say: Callable[[str], None] = print) -> int:
    """Export the runs that are not there yet; returns how many."""
    rows, _ = read_rows(results, "runs")
    ids = sorted({row["run_id"] for row in rows if benchmark_of(row) != "training"})
    new = [run_id for run_id in ids if not table_files(to, "runs", [run_id])]
    for path in export(results, new, to):
        say(str(path))
    return len(new)


def plot(results: Path, say: Callable[[str], None] = print) -> None:
    """Draw every run that timed kernels, where there is something to draw with."""
    rows, _ = read_rows(results, "kernels")
    for run_id in sorted({row["run_id"] for row in rows}):
        words = ["results.plot", f"to={results / 'gpu'}", f"results={results}", f"run={run_id}"]
        done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["no message"]
        say(f"plot of {run_id}: {lines[-1]}")


@dataclass(frozen=True)
class Task:
    """What was asked for: stages, time in minutes, where rows go, and whether to begin again."""

    stages: frozenset[int]
    minutes: float | None
    results: Path
    to: Path | None
    restart: bool


def _read(words: Sequence[str]) -> Task:
    cells = parse(words, Keys)
    keys = cells[0]
    return Task(
        stages=frozenset(cell.stages for cell in cells if cell.stages) or frozenset(STAGES),
        minutes=keys.minutes,
        results=check_folder("results", keys.results),
        to=check_folder("to", keys.to) if keys.to else None,
        restart=keys.restart,
    )


def _run_stages(task: Task) -> int:
    """Run the stages; returns 0 when all that was asked for is done, 1 where something failed, 3 when time ran out.

    Raises:
        Failure: there is no GPU.
        WordError: the folder of results is in use, or what was done there cannot be read.
    """
    try:
        import torch
    except ImportError:
        raise command.Failure("torch is not installed for this Python; `make setup` installs it in .venv") from None
    if not torch.cuda.is_available():
        raise command.Failure("no CUDA device here, so nothing was run; `make test` checks the kernels without one")
    results = task.results
    (results / "gpu").mkdir(parents=True, exist_ok=True)
    lock = (results / "gpu" / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        state = State.read(results / "gpu" / "state.json", restart=task.restart)
    except BlockingIOError:
        raise WordError(f"results={results}: another run is timing there; wait for its end") from None
    except ValueError as error:
        raise WordError(str(error)) from None
    parts = [part for part in parts_of(state, str(results)) if part.stage in task.stages]
    state.write()
    run_parts(parts, state, lambda part, limit_s: run(part, limit_s, results / "gpu"), minutes=task.minutes)
    plot(results)
    if task.to:
        publish(results, task.to)
    return summary(parts, state)


def summary(parts: Sequence[Part], state: State, say: Callable[[str], None] = print) -> int:
    """Say what came of each part; returns the exit status."""
    statuses = [state.parts.get(part.name, {}).get("status", "not begun") for part in parts]
    for part, status in zip(parts, statuses, strict=True):
        say(f"{part.stage} {part.name:36} {status}")
    if any(status.startswith("failed") for status in statuses):
        return 1
    return 0 if all(status == "done" for status in statuses) else 3


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`, and `_run_stages` for the exit status."""
    return command.run("bench.gpu", __doc__, Keys, _read, _run_stages, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
