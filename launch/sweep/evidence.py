"""Why a job ended, from what Slurm says of it and from what its tools wrote into its log."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.sweep.account import Job

__all__ = ["Evidence", "logs_of", "of_job"]

TAIL = 65536  # bytes of a log that are looked at: Slurm's tools speak last
# State of a job by which Slurm says why it ended, and the kind of failure that it is.
KINDS = {
    "BOOT_FAIL": "launch",
    "CANCELLED": "interrupted",
    "DEADLINE": "timeout",
    "LAUNCH_FAILED": "launch",
    "NODE_FAIL": "rank_lost",
    "OUT_OF_MEMORY": "oom",
    "PREEMPTED": "preempted",
    "RECONFIG_FAIL": "launch",
    "REVOKED": "interrupted",
    "TIMEOUT": "timeout",
}
# What srun and slurmstepd write, from Slurm 20.11 to 25.05; the first that is met in this order counts.
_HOST = r"(?P<host>[\w.\-\[\],]+)"
_TASKS = r"tasks? (?P<rank>[\d,\-]+)"
LINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("rank_lost", re.compile(rf"srun: error: Node failure on {_HOST}")),
    ("oom", re.compile(r"slurmstepd\S* error: Detected \d+ oom[-_ ]kill event.*")),
    ("oom", re.compile(rf"srun: error: {_HOST}: {_TASKS}: Out Of Memory")),
    ("preempted", re.compile(rf"ON {_HOST} CANCELLED AT \S+ DUE TO PREEMPTION")),
    ("timeout", re.compile(rf"ON {_HOST} CANCELLED AT \S+ DUE TO TIME LIMIT")),
    ("rank_lost", re.compile(rf"ON {_HOST} CANCELLED AT \S+ DUE TO NODE FAILURE")),
    ("launch", re.compile(rf"srun: error: Task launch for StepId=\S+ failed on node {_HOST}: .+")),
    ("launch", re.compile(rf"srun: error: {_TASKS} launch failed: .+")),
    ("launch", re.compile(r"srun: error: Application launch failed: .+")),
    ("launch", re.compile(r"slurmstepd\S* error: (?:execve\(\)|pyxis|couldn't chdir|Could not open std).+")),
    ("rank_lost", re.compile(rf"srun: error: {_HOST}: {_TASKS}: (?P<signal>(?!Exited|Terminated)[A-Z][a-z][\w ()]*)")),
    ("unknown", re.compile(rf"srun: error: {_HOST}: {_TASKS}: Exited with exit code (?P<code>\d+)")),
)
# From here on srun ends the other tasks: how these end is no cause.
ENDING = re.compile(r"^srun: (?:.*Terminating |error: Timed out waiting|Job step aborted|forcing job)", re.M)
FULL = re.compile(r"[^\n]*(?:No space left on device|Disk quota exceeded)[^\n]*")
SIGNALS_MOST = 64  # numbers above are states of Slurm's own, such as 125 for out of memory
SIGNALS = {
    "Killed": 9, "Aborted": 6, "Segmentation fault": 11, "Bus error": 7, "Floating point exception": 8,
    "Illegal instruction": 4, "Hangup": 1, "Interrupt": 2, "Quit": 3, "User defined signal 1": 10,
    "User defined signal 2": 12, "Trace/breakpoint trap": 5, "CPU time limit exceeded": 24,
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """Why a job ended.

    Attributes:
        status: killed, where something outside of the run ended it, or failed.
        kind: one of `results.store.schema.FAILURE_KINDS`.
        message: one line, with who says so.
    """

    status: str
    kind: str
    message: str


def of_job(job: Job, folder: str) -> Evidence:
    """Return why a job ended that is over.

    Args:
        folder: of its logs.
    """
    said = spoken(job)
    line = next(_lines(Path(folder), job.job_id), None)
    if kind := KINDS.get(job.state):
        if job.state == "NODE_FAIL" and not job.failed_node and line and (host := line.groupdict().get("host")):
            said += f", {host} by its log"
        return Evidence("failed" if kind == "launch" else "killed", kind, f"by Slurm's account: {said}")
    if line is not None:
        kind = next(kind for kind, pattern in LINES if pattern is line.re)
        status = "failed" if kind in ("launch", "unknown") else "killed"
        return Evidence(status, kind, f"{_told(line)}, by the job's log; by Slurm's account: {said}")
    if full := _full(Path(folder), job.job_id):
        return Evidence("failed", "storage", f"{full}, by the job's log; by Slurm's account: {said}")
    if job.signal:
        return Evidence("killed", "rank_lost", f"by Slurm's account: {said}")
    return Evidence("failed", "unknown", f"by Slurm's account: {said}; the log is in {folder}")


def spoken(job: Job) -> str:
    """Return a job's end in Slurm's words, such as "FAILED on n[1-2], exit code 137"."""
    where = f" on {job.failed_node or job.nodes}" if job.failed_node or job.nodes else ""
    by = f" by {job.by}" if job.by else ""
    code = f", exit code {job.exit_code}" if job.exit_code else ""
    number = f", signal {job.signal}" if job.signal and job.signal <= SIGNALS_MOST else ""
    return f"{job.state}{by}{where}{code}{number}"


def _told(line: re.Match[str]) -> str:
    found = line.groupdict()
    if word := found.get("signal"):
        name = word.partition(" (")[0].strip()
        number = f"signal {SIGNALS[name]}" if name in SIGNALS else f"a signal ({name})"
        return f"rank {found['rank']} on {found['host']} was killed by {number}"
    if found.get("code"):
        return f"rank {found['rank']} on {found['host']} exited with code {found['code']}"
    return " ".join(re.sub(r"^(?:srun|slurmstepd\S*): (?:error: )?", "", line[0]).split())


def logs_of(folder: Path, job_id: str, rank: int | None = None) -> list[Path]:
    """Return the logs of a job's batch script, or of one of its ranks, which has another at each restart; newest last.

    A cell has one folder for all its jobs; names of logs end in the job's number.
    """
    # The whole of a folder's name is what it is: a bracket in it is no pattern.
    pattern = f"*-{job_id}.out" if rank is None else f"*-{job_id}.*-{rank}.log"
    return sorted(folder.glob(pattern), key=_age)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _lines(folder: Path, job_id: str) -> Iterator[re.Match[str]]:
    """What is known of the end from the last log of a batch script, the most telling first."""
    for path in logs_of(folder, job_id)[-1:]:
        text = tail(path)
        ending = ENDING.search(text)
        for _, pattern in LINES:
            of_task = {"signal", "code"} & set(pattern.groupindex)
            if found := pattern.search(text, 0, ending.start() if ending and of_task else len(text)):
                yield found


def _full(folder: Path, job_id: str) -> str:
    """The line of a log, of whichever rank, that says that a disk is full; empty where none does."""
    for path in (*logs_of(folder, job_id)[-1:], *sorted(folder.glob(f"*-{job_id}.*.log"))):
        if found := FULL.search(tail(path)):
            return " ".join(found[0].split())[-200:]
    return ""


def tail(path: Path, size: int = TAIL) -> str:
    """Return the end of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
