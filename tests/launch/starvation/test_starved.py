"""Runs whose loaders die or starve: they end by themselves, their row says of what, and no process stays."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from results.store.files import read_rows

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
PATIENCE_S = 90.0
LOCAL = """
import sys
import launch.foreground
from launch.cli import main
from starved import StarvedJob
launch.foreground.Job = StarvedJob
sys.exit(main("local", sys.argv[1:]))
"""
WORDS = (
    "depth=8", "family=cifar", "dataset=imagefolder", "image_size=32", "batch=16", "engine=ddp", "ranks_per_node=2",
)  # fmt: skip
WORKER = r"worker 1 of 1 \(process \d+\)"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 40), ("val", 16)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.effect_noise((40, 36), 40 + i).convert("RGB").save(root / split / name / f"{i:02d}.jpg")
    return root


class Run:
    """A run in a session of its own, and all of its processes."""

    def __init__(self, folder: Path, images: Path, *words: str, before: str = "", **environment: str) -> None:
        self.folder = folder
        command = [sys.executable, "-c", LOCAL, *WORDS, f"data={images}", f"results={folder}/rows", *words]
        command += [] if any(word.startswith("epochs=") for word in words) else ["epochs=500"]
        if before:
            command = ["unshare", "--mount", "sh", "-c", f'{before}\nexec "$@"', "sh", *command]
        variables = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1", **environment}
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            command, env=variables, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, event: str) -> None:
        while self.process.poll() is None and time.monotonic() - self.began_s < PATIENCE_S:
            if any(f'"event": "{event}"' in path.read_text() for path in self.folder.glob("rows/jobs/*/*.jsonl")):
                return
            time.sleep(0.05)
        raise AssertionError(f"no {event}: {self.process.communicate(timeout=10)}")

    def family(self) -> list[psutil.Process]:
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.cwd() == str(self.folder) and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    def worker(self) -> psutil.Process:
        """One that the training of rank 0 waits for."""
        return next(
            each for each in sorted(self.family(), key=lambda each: each.pid) if each.name() == "pt_data_worker"
        )

    def message(self, kind: str = "data") -> str:
        """What the row says, once the run has ended in time, and with all of its processes."""
        began_s = time.monotonic()
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - began_s < PATIENCE_S
        assert self.process.returncode == 1, (out, err)
        deadline = time.monotonic() + 5
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
        (row,), bad = read_rows(self.folder / "rows", "runs")
        assert not bad and row["failure_kind"] == kind and row["status"] in ("failed", "killed"), row
        assert "Traceback" not in err and f"{row['status']} ({kind}): {row['failure_message']}" in err, err
        return row["failure_message"]


@pytest.fixture
def running(tmp_path: Path, images: Path) -> Iterator[type]:
    made: list[Run] = []

    def start(*words: str, **options: str) -> Run:
        made.append(Run(tmp_path, images, *words, **options))
        return made[-1]

    yield start  # type: ignore[misc]
    for run in made:
        for each in run.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        run.process.communicate()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, r"was killed \(SIGKILL\)( at \S+\.jpg)?, as the kernel does where memory runs out"),
        (signal.SIGSEGV, r"crashed \(SIGSEGV\)( at \S+\.jpg)?; python -m bench\.check_data names images"),
        (signal.SIGSTOP, r"is suspended, as by SIGSTOP; it has "),
    ],
)
def test_a_worker_that_dies_or_is_suspended(running, number: int, words: str) -> None:
    run = running("loader=torch")
    run.wait_for("epoch")
    run.worker().send_signal(number)
    assert re.search(rf"{WORKER} {words}", message := run.message()), message


def test_a_suspended_worker_goes_with_a_rank_that_is_killed(running) -> None:
    run = running("loader=torch")
    run.wait_for("epoch")
    worker = run.worker()
    worker.suspend()
    worker.parent().kill()
    # Who notices first: the other rank, or the launcher, which may see the signal.
    said = r"rank \d (\(\S+\) ended without a word: .+|(was killed by signal 9 \(SIGKILL\)|is gone)( \(last line .+)?)"
    assert re.fullmatch(said, run.message("rank_lost"))


@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_a_read_that_never_returns(running, loader: str) -> None:
    message = running(f"loader={loader}", HANG_AT="13.jpg").message()
    assert message.startswith(f"loader={loader}: nothing has moved for ") and "/13.jpg" in message


def test_data_that_cannot_be_opened(running) -> None:
    """Small folders are hashed by content: here the main thread itself hangs in a read."""
    message = running(HANG_AT="00.jpg", HANG_IN="open").message()
    assert re.match(r"waiting for data has been stuck for \d+ s; opening \S+: does its file system answer\?", message)


def mounted(size: str) -> str:
    """A line of shell by which /dev/shm has that size, for the processes of the shell alone."""
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("may not mount a small /dev/shm")
    return mount


def test_a_small_shared_memory_is_refused_before_anything_is_read(running) -> None:
    message = running("loader=torch", before=mounted("1m")).message()
    assert re.match(
        r"loader=torch: its workers hand batches over in /dev/shm, where 1\.0 MB of 1\.0 MB are free and up to 1\.1 MB "
        r"needed \(2 ranks x 2 loaders x \(1 workers x 4 batches \+ 1\) x batch=16 x 32 x 32 x 3 bytes\); nearest is "
        r"batch=1\d or loader_threads=0, a larger /dev/shm \(a container's --shm-size\), or loader=dali$",
        message,
    ), message


def test_shared_memory_that_others_fill(running, tmp_path: Path) -> None:
    fill = "until grep -q epoch rows/jobs/*/progress.jsonl; do sleep 0.1; done; cat /dev/zero > /dev/shm/x"
    message = running("loader=torch", before=f"{mounted('4m')}\n({fill}) 2> /dev/null &").message()
    # Where it is filled between two loaders, the next one's workers find no room for their semaphores.
    put = r"a worker cannot put 49\.3 kB into /dev/shm: No space left on device \(28\) \("
    started = (
        r"its 1 worker processes cannot be started \(No space left on device\); 0\.0 kB of 4\.2 MB in /dev/shm are free"
    )
    assert re.match(f"loader=torch: ({put}|{started})", message), message


def test_a_run_in_shared_memory_that_is_just_large_enough(running) -> None:
    run = running("loader=torch", "epochs=2", before=mounted("1280k"))
    out, err = run.process.communicate(timeout=PATIENCE_S)
    assert run.process.returncode == 0, (out, err)
