"""Stand-ins for Slurm's commands after submission, and sweeps with rows and journals, for tests of what follows."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main
from launch.sweep.manifest import Array, Manifest, Submission, SweepCell
from results.store.writer import RunWriter

SWEEP = "20261127T010203-sweep-0a1b2c3d"
QUEUE_HEAD = "JOBID|STATE|RESTART_COUNT|NODELIST|TIME_LEFT|REASON|COMMAND|"
ACCOUNT_HEAD = "JobID|State|ExitCode|NodeList|SubmitLine"
# A command answers what its file holds; what its file of errors holds is said in place of an answer.
COMMAND = """#!/bin/sh
cd FOLDER
echo "NAME $*" >> calls
env > environment
if [ -s NAME.error ]; then cat NAME.error >&2; exit 1; fi
[ "$1" = --helpformat ] && exec cat helpformat
[ "$1" = --noheader ] && exec cat plain
[ -f NAME ] && cat NAME
exit 0
"""
SBATCH = """#!/bin/sh
cd FOLDER
echo "sbatch $*" >> calls
[ "$1" = --test-only ] && exec cat > /dev/null
if [ -s sbatch.error ]; then cat sbatch.error >&2; exit 1; fi
echo "Submitted batch job $((900 + $(grep -c "^sbatch /" calls)))"
"""


class Slurm:
    """What Slurm's commands answer, and how they were called.

    Args:
        folder: a new one.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.commands = folder / "slurm", folder / "commands"
        self.folder.mkdir()
        self.commands.mkdir()
        for name in ("squeue", "sacct", "scancel", "scontrol"):
            self._install(name, COMMAND)
        self._install("sbatch", SBATCH)
        monkeypatch.setenv("PATH", str(self.commands), prepend=os.pathsep)
        self.set("helpformat", "JobID State ExitCode NodeList SubmitLine")
        self.set("plain", "")
        self.set("scontrol", "MaxArraySize            = 1001\n")
        self.queue()
        self.accounting()

    def _install(self, name: str, text: str) -> None:
        path = self.commands / name
        path.write_text(text.replace("FOLDER", str(self.folder)).replace("NAME", name))
        path.chmod(0o755)

    def set(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def queue(self, *jobs: str, head: str = QUEUE_HEAD) -> None:
        """Let squeue know jobs, each of them by its fields with bars between them."""
        self.set("squeue", "\n".join([head, *jobs, ""]))

    def job(self, job_id: str, state: str, nodes: str = "n1", **more: str) -> str:
        """A line of `queue`."""
        fields = {"restarts": "0", "left": "20:00", "reason": "None", "script": f"/rows/jobs/{SWEEP}/array-0.sh"} | more
        words = [job_id, state, fields["restarts"], nodes, fields["left"], fields["reason"], fields["script"]]
        return "|".join([*words, ""])

    def accounting(self, *jobs: str, head: str = ACCOUNT_HEAD) -> None:
        self.set("sacct", "\n".join([head, *jobs, ""]))

    def fails(self, name: str, said: str) -> None:
        self.set(f"{name}.error", said)

    def remove(self, *names: str) -> None:
        """Let there be no such commands on this machine."""
        for name in names:
            (self.commands / name).unlink()

    def calls(self, name: str) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


def caller(store: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Calls the launcher on a store, and returns what was printed; fails where the exit status is another."""

    def one(*words: str, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        got = main("slurm", [*words, *([] if any("results=" in word for word in words) else [f"results={store}"])])
        out, err = capsys.readouterr()
        assert got == status, (out, err)
        return out, err

    return one


def sweep(store: Path, jobs: Sequence[str | None], sweep_id: str = SWEEP, **more: Any) -> Manifest:
    """Write the manifest of a sweep with a cell for each job, of labels "depth=20", "depth=21" and so on.

    Args:
        jobs: their ids; None for what was never submitted. The run of cell N is "runN".
    """
    cells = []
    base = Manifest(
        sweep_id=sweep_id,
        created="2026-11-27T01:02:03+00:00",
        words=("depth=20,21", "dataset=digits"),
        cluster="default",
        results=str(store),
        commit="0123456789abcdef",
        dirty=False,
        snapshot="fedcba9876543210",
        synthetic=False,
        cells=(),
        arrays=(Array(script="array-0.sh", cells=(0,), run_ids=("run0",), job_id="17"),),
    )
    for at, job_id in enumerate(jobs):
        one = Submission(
            job_id=job_id or "",
            run_id=f"run{at}",
            submitted="2026-11-27T01:02:04+00:00",
            log=str(base.folder / "logs" / f"{at:03d}-depth={20 + at}"),
        )
        cell = SweepCell(
            label=f"depth={20 + at}",
            name=f"resnet{20 + at}A-digits",
            config_hash=f"hash{at}",
            seed=0,
            nodes=2,
            ranks_per_node=1,
            submissions=(one,) if job_id else (),
        )
        cells.append(cell)
    found = Manifest(**{**vars(base), "cells": tuple(cells), **more})
    found.write()
    return found


def begin(store: Path, run_id: str, restart: int = 0, *, elsewhere: bool = True, steps: int = 0) -> RunWriter:
    """Begin a run of four epochs of ten steps, of 64 images each; its journal says that it goes on another machine.

    Args:
        elsewhere: else it says that this process is the run.
        steps: that it has done, of 10 ms each; and the epochs that are whole by then, of top-1 0.1, 0.2 and so on.
    """
    row = {
        "run_id": run_id, "restart_count": restart, "epochs": 4, "images_per_epoch": 640, "global_batch": 64,
        "warmup_steps": 2, "nodelist": "n[1-2]",
    }  # fmt: skip
    writer = RunWriter(store, row)
    for step in range(1, steps + 1):
        both = [
            {"rank": rank, "step": step, "t_ns": step, "step_ms": 10.0 + 90 * rank, "data_ms": 1.0} for rank in (0, 1)
        ]
        writer.steps(both)
        if step % 10 == 0:
            epoch = step // 10
            writer.epoch({"epoch": epoch, "elapsed_s": epoch * 1.0, "top1": epoch / 10, "images": 640, "eval_s": 0.5})
    if elsewhere:
        path = store / "journal" / f"{run_id}.{restart}.jsonl"
        first, _, rest = path.read_bytes().partition(b"\n")
        header = json.loads(first)
        header["owner"]["hostname"] = "elsewhere"
        path.write_bytes(json.dumps(header, separators=(",", ":")).encode() + b"\n" + rest)
    return writer


def log(manifest: Manifest, at: int, job_id: str, text: str, name: str = "out") -> None:
    """Write a log of a job: of its batch script, or of a rank where the name is such as "0-1.log"."""
    folder = Path(manifest.cells[at].submissions[-1].log)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"digits-2x1-{job_id}.{name}").write_text(text)
