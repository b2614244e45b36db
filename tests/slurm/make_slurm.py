"""Brings the throw-away Slurm of this checkout up or down, or runs the tests that need one.

make slurm-up     python tests/slurm/make_slurm.py up [FOLDER]
make slurm-down   python tests/slurm/make_slurm.py down [FOLDER]
make test-slurm   python tests/slurm/make_slurm.py test [WORDS OF PYTEST]
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from throwaway import lifetime, packages
from throwaway.layout import ClusterError, Layout
from throwaway.settings import HIGH, LOW, PROFILE_NAME

ROOT = Path(__file__).resolve().parents[2]
# Where the tests find the folder that their cluster is to lie in; without it they skip.
VARIABLE = "RESNET_BENCH_TEST_SLURM"


def folder_of(checkout: Path) -> Path:
    """Where the cluster of a checkout lies: its path is short however long that of the checkout is."""
    return Path("/tmp", f"slurm-{hashlib.sha256(os.fsencode(checkout)).hexdigest()[:7]}")


def up(folder: Path) -> int:
    began = time.monotonic()
    state = lifetime.state(folder) if os.geteuid() == 0 else "none"
    if state == "starting":
        raise ClusterError(f"{folder} is being brought up; wait for that")
    if state == "broken":
        raise ClusterError(f"{folder} is what is left of another one; make slurm-down ends it")
    if state == "up":
        print(f"slurm-up: it is up already\n{usage(Layout.load(folder))}")
        return 0
    if packages.install():
        began = time.monotonic()
    layout = lifetime.up(folder, say=lambda what: print(f"{time.monotonic() - began:5.1f} s  {what}", flush=True))
    print(f"slurm-up: up after {time.monotonic() - began:.1f} s\n{usage(layout)}")
    return 0


def usage(layout: Layout) -> str:
    """How a cluster is used, where it is, and what it leaves to systemd."""
    words = f"depth=8 dataset=digits nodes=2 ranks_per_node=1 epochs=1 cluster={PROFILE_NAME}"
    return f"""\
    export SLURM_CONF={layout.folder}/slurm.conf RESNET_BENCH_CLUSTERS={layout.profiles}
    .venv/bin/python launch/slurm.py {words}
    srun --nodes={layout.nodes} --partition={HIGH} --gpus-per-node=pretend:1 hostname
{layout.nodes} nodes with {layout.gpus} pretend GPUs each; the partition {HIGH} preempts {LOW}, the default one
folder {layout.folder}, logs {layout.logs}; make slurm-down ends it and all its jobs
{packages.services()}"""


def down(folder: Path) -> int:
    began = time.monotonic()
    if os.geteuid() != 0:
        raise ClusterError("only root can end what root has started")
    if lifetime.state(folder) == "starting":
        raise ClusterError(f"{folder} is being brought up; end that first")
    if not lifetime.down(folder):
        print(f"slurm-down: there is none in {folder}")
        return 0
    print(f"slurm-down: {folder} is gone after {time.monotonic() - began:.1f} s")
    return 0


def test(words: Sequence[str]) -> int:
    """Run pytest and then end what its cluster left, however it ended."""
    packages.install()
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slurm", "tests/slurm", *words]
    process = None

    def pass_on(number: int, _: object) -> None:
        # A terminal's Ctrl-C reaches pytest by itself.
        if process and number != signal.SIGINT:
            process.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    try:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, VARIABLE: str(folder)})
        status = process.wait()
        return status if status >= 0 else 128 - status  # as a shell says that a signal ended it
    finally:
        lifetime.down(folder)


def main(words: Sequence[str]) -> int:
    verb, *rest = words or ["nothing"]
    if verb not in ("up", "down", "test") or (verb != "test" and len(rest) > 1):
        print(f"{' '.join(words)}: expected up [FOLDER], down [FOLDER] or test [WORDS OF PYTEST]", file=sys.stderr)
        return 2
    try:
        if verb == "test":
            return test(rest)
        folder = Path(rest[0]).resolve() if rest else folder_of(ROOT)
        return up(folder) if verb == "up" else down(folder)
    except (ClusterError, OSError) as error:
        print(f"slurm-{verb}: {error}" if verb != "test" else f"test-slurm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    # What ends a start or a stop from outside is to leave nothing either.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
