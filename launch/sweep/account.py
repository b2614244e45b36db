"""What Slurm says of jobs: its queue (squeue) and its accounting (sacct), each read by the names of its fields.

Versions add, rename and reorder fields: a column is found by its head, and sacct, which refuses a list with one field
that it does not know, is asked for those alone that it lists. Both are asked once for all jobs.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bench.config.slurm import of_submitter

__all__ = ["Account", "Job", "SlurmError", "ask", "call"]

Phase = Literal["waiting", "running", "over", "unknown"]
# https://slurm.schedmd.com/job_state_codes.html, of all versions. "unknown" is any other word.
PHASES: dict[Phase, set[str]] = {
    "waiting": {
        "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
        "EXPEDITING",
    },
    "running": {
        "RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED", "RESIZING", "POWER_UP_NODE",
        "UPDATE_DB",
    },
    "over": {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
    },
}  # fmt: skip
# The last one may have bars in it.
QUEUE_FIELDS = ("JobArrayID", "State", "RestartCnt", "NodeList", "TimeLeft", "Reason", "Command")
ACCOUNT_FIELDS = ("JobID", "State", "ExitCode", "NodeList")
LATER_FIELDS = ("FailedNode", "Restarts", "SubmitLine")  # not in all versions; again, the last one may have bars
FORGOTTEN = "FORGOTTEN"  # no word of Slurm's
PATIENCE_S = 20.0  # a controller that is down makes its commands wait for minutes
MOST_TASKS = 4_000_001  # of an array: Slurm's own limit


class SlurmError(RuntimeError):
    """A command of Slurm's is missing, fails or does not answer; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job, or one task of an array, as Slurm describes it.

    Attributes:
        job_id: "17", or "17_4" for a task of an array.
        state: Slurm's word for it, such as RUNNING or NODE_FAIL.
        by: who cancelled it; empty where nobody did, or Slurm does not say.
        reason: why it waits or has ended, in Slurm's words; empty where there is none.
        nodes: such as "n[1-2]"; empty before it starts.
        failed_node: the node that was lost; empty where Slurm does not say.
        exit_code: of its script; None where that is not known.
        signal: that ended the script, or 0; None where that is not known.
        left: time to its limit as squeue shows it; empty where there is none.
        restarts: how often Slurm started it again; None where that is not known.
        script: the batch script, or the command that handed it in; empty where Slurm does not say.
    """

    job_id: str
    state: str
    by: str = ""
    reason: str = ""
    nodes: str = ""
    failed_node: str = ""
    exit_code: int | None = None
    signal: int | None = None
    left: str = ""
    restarts: int | None = None
    script: str = ""

    @property
    def phase(self) -> Phase:
        """Whether it waits, runs or is over; unknown for a word that no version documents."""
        return next((phase for phase, words in PHASES.items() if self.state in words), "unknown")

    @property
    def known(self) -> bool:
        """Whether the controller has it, or accounting says how it ended; no where the one has forgotten what the other
        takes for running."""
        return self.state != FORGOTTEN

    @property
    def lives(self) -> bool:
        """Whether it waits or runs, or may: of a job in the queue a word that no version documents may mean it."""
        return self.phase in ("waiting", "running") or (self.phase == "unknown" and self.known)

    def is_of(self, sweep_id: str) -> bool:
        """Whether this can be a job of a sweep: numbers begin again where a Slurm is set up anew.

        The batch script of a sweep lies in its folder, which has its id for a name.
        """
        return not self.script or sweep_id in self.script


@dataclass(frozen=True)
class Account:
    """What Slurm says of some jobs.

    Attributes:
        jobs: by id.
        queue, accounting: whether squeue, and sacct, have answered.
        notices: why one has not, in a line each.
    """

    jobs: Mapping[str, Job] = field(default_factory=dict)
    queue: bool = False
    accounting: bool = False
    notices: tuple[str, ...] = ()


def ask(job_ids: Iterable[str]) -> Account:
    """Ask Slurm about jobs and tasks of arrays; what does not answer is named in the notices."""
    ids = sorted({job_id for job_id in job_ids if re.fullmatch(r"[0-9]+(_[0-9]+)?", job_id)})
    if not ids:
        return Account()
    bases = sorted({job_id.partition("_")[0] for job_id in ids}, key=int)
    notices: list[str] = []
    queued: dict[str, Job] | None = None
    accounted: dict[str, Job] | None = None
    try:
        queued = in_queue(bases)
    except SlurmError as error:
        notices.append(str(error))
    try:
        accounted = in_accounting(bases)
    except SlurmError as error:
        notices.append(str(error))
    jobs = {one: _joined(one, queued, accounted) for one in ids}
    return Account(
        {one: job for one, job in jobs.items() if job},
        queued is not None,
        accounted is not None,
        tuple(dict.fromkeys(notices)),
    )


def _joined(job_id: str, queued: Mapping[str, Job] | None, accounted: Mapping[str, Job] | None) -> Job | None:
    """What both say of a job. The queue is ahead of the accounting, which knows more of what is over."""
    now, later = _of(job_id, queued or {}), _of(job_id, accounted or {})
    if now is None:
        if later and queued is not None and later.phase != "over":
            # The controller has forgotten it: what accounting last heard of it is no longer so.
            return replace(later, state=FORGOTTEN, reason=f"sacct still says {later.state}, and squeue has no such job")
        return later
    if later is None or now.phase != "over" or later.phase != "over":
        return now
    known = {name: getattr(later, name) for name in ("by", "exit_code", "signal", "failed_node")}
    return replace(now, **known, nodes=now.nodes or later.nodes)


def _of(job_id: str, jobs: Mapping[str, Job]) -> Job | None:
    """A job, or a task of an array: one that was cancelled before it was divided has a single record, of its own id."""
    base = jobs.get(job_id.partition("_")[0])
    if job_id in jobs or base is None or base.phase != "over":
        return jobs.get(job_id)
    return replace(base, job_id=job_id)


def in_queue(bases: Sequence[str]) -> dict[str, Job]:
    """What the controller knows of jobs, those included that have ended within its memory (MinJobAge).

    Raises:
        SlurmError: it does not answer.
    """
    # Fields end in a bar: their widths would cut them short.
    shown = ",".join(f"{name}:|" for name in QUEUE_FIELDS)
    try:
        said = call("squeue", f"--jobs={','.join(bases)}", "--array", "--states=all", f"--Format={shown}")
    except SlurmError as error:
        if "Invalid job id" in str(error):  # what it says where it has none of them
            return {}
        raise
    jobs = {}
    for row in table(said, "squeue"):
        number = row.get("RESTART_COUNT", "")
        for job_id in expand(row.get("JOBID", "")):
            jobs[job_id] = Job(
                job_id=job_id,
                state=row.get("STATE", "").partition(" ")[0],
                reason=_said(row.get("REASON", "")),
                nodes=_said(row.get("NODELIST", "")),
                left="" if row.get("TIME_LEFT", "") in ("INVALID", "NOT_SET", "N/A") else row.get("TIME_LEFT", ""),
                restarts=int(number) if number.isdecimal() else None,
                script=_said(row.get("COMMAND", "")),
            )
    return jobs


def in_accounting(bases: Sequence[str]) -> dict[str, Job]:
    """What accounting knows of jobs, whenever they ran.

    Raises:
        SlurmError: it is off, or does not answer.
    """
    listed = set(call("sacct", "--helpformat").lower().split())
    wanted = [*ACCOUNT_FIELDS, *(name for name in LATER_FIELDS if name.lower() in listed)]
    words = [f"--jobs={','.join(bases)}", "--allusers", "--parsable2", f"--format={','.join(wanted)}"]
    return accounted(call("sacct", *words))


def accounted(said: str) -> dict[str, Job]:
    """Read what sacct prints with --parsable2: jobs and tasks of arrays by id, their steps left out.

    Raises:
        SlurmError: it is no table of jobs.
    """
    jobs = {}
    for row in table(said, "sacct"):
        if "." in (name := row.get("JOBID", "")):
            continue
        state, _, by = row.get("STATE", "").rstrip("+").partition(" by ")
        code, _, number = row.get("EXITCODE", "").partition(":")
        restarts = row.get("RESTARTS", "")
        for job_id in expand(name):
            jobs[job_id] = Job(
                job_id=job_id,
                state=state.partition(" ")[0],
                by=_user(by),
                nodes=_said(row.get("NODELIST", "")),
                failed_node=_said(row.get("FAILEDNODE", "")),
                exit_code=int(code) if code.isdecimal() else None,
                signal=int(number) if number.isdecimal() else None,
                restarts=int(restarts) if restarts.isdecimal() else None,
                script=_said(row.get("SUBMITLINE", "")),
            )
    return jobs


def table(said: str, name: str) -> list[dict[str, str]]:
    """Rows of a text whose first line has the heads of its columns, with bars between them, by head in capitals.

    The last field may have bars of its own.

    Args:
        name: of the command that said it.

    Raises:
        SlurmError: there are no heads, which are there where there is no job as well.
    """
    lines = [line for line in said.splitlines() if "|" in line]
    heads = [head.strip().upper() for head in lines[0].rstrip("|").split("|")] if lines else []
    if not {"JOBID", "STATE"} <= set(heads):
        raise SlurmError(f"{name} says {said.strip()[:60]!r}, which is no table of jobs")
    rows = []
    for line in lines[1:]:
        values = [value.strip() for value in line.split("|", len(heads) - 1)]
        rows.append(dict(zip(heads, [*values[:-1], values[-1].rstrip("|").strip()], strict=False)))
    return rows


def expand(name: str) -> list[str]:
    """The ids of a job, or of an array's tasks that wait together, such as "17_[5-8%2]"; none of what is neither."""
    found = re.fullmatch(r"([0-9]+)(?:_(?:([0-9]+)|\[([0-9,:\-]+)(?:%[0-9]+)?\]))?", name)
    if not found:
        return []
    base, task, several = found.groups()
    if not several:
        return [base if task is None else f"{base}_{task}"]
    ids: list[str] = []
    for part in several.split(","):
        bounds = re.fullmatch(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?", part)
        if bounds and int(bounds[2] or 0) < MOST_TASKS:
            first, last, stride = int(bounds[1]), int(bounds[2] or bounds[1]), int(bounds[3] or 1)
            ids += [f"{base}_{index}" for index in range(first, last + 1, max(1, stride))]
    return ids


def call(*command: str) -> str:
    """Run a command of Slurm's in the environment of nobody's job, and return what it prints.

    Raises:
        SlurmError: it is missing, fails or does not answer.
    """
    name = command[0]
    if shutil.which(name) is None:
        raise SlurmError(f"no {name} on this machine")
    # What a shell says for people (SQUEUE_FORMAT, SACCT_FORMAT, SLURM_TIME_FORMAT) is not for programs. A list of tasks
    # is cut off after 64 characters unless this says otherwise.
    left = {key: value for key, value in os.environ.items() if key not in of_submitter(os.environ)}
    environment = {**left, "SLURM_BITSTR_LEN": "0"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="surrogateescape", timeout=PATIENCE_S,  # paths are to be found again, whatever their bytes
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name} does not answer within {PATIENCE_S:g} s") from None
    except OSError as error:
        raise SlurmError(f"{name}: {error.strerror or error}") from None
    complaint = " ".join(done.stderr.split())
    if "accounting storage is disabled" in complaint:
        raise SlurmError(f"{name} does not answer: accounting is off")
    if done.returncode:
        raise SlurmError(f"{name} does not answer: {complaint or f'exit status {done.returncode}'}")
    return done.stdout


def _said(text: str) -> str:
    return "" if text in ("None", "(null)", "None assigned", "N/A", "Unknown") else text


def _user(number: str) -> str:
    if not number.isdecimal():
        return number
    with contextlib.suppress(KeyError, OverflowError):
        return pwd.getpwuid(int(number)).pw_name
    return f"user {number}"
