"""What became of the cells of a sweep, from rows, journals, and what Slurm says of their jobs.

The row of a run counts before all else, then its job's state, then its journal. Rows of jobs that Slurm calls over are
made from their journals; what merely cannot be seen from here is unknown, and nothing is done to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from launch.sweep.account import Account, Job, ask
from launch.sweep.evidence import Evidence, of_job
from launch.sweep.manifest import Manifest, Submission, SweepCell
from launch.sweep.progress import Progress, age_s, of_journal, of_row
from results import recover
from results.store import journal
from results.store.files import journals, read_rows
from results.store.schema import Row
from results.words import counted

__all__ = ["OVER", "STATES", "CellState", "SweepState", "look"]

# What a cell can be, and those in which nothing more comes by itself.
STATES = ("not submitted", "pending", "running", "completed", "failed", "killed", "cancelled", "unknown")
OVER = ("not submitted", "completed", "failed", "killed", "cancelled")
# Of rows: what a signal alone says, of which Slurm may know who sent it and why.
VAGUE = ("interrupted", "unknown", "rank_lost")
KNOWN_BY_SLURM = ("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT", "DEADLINE")
COLUMNS = (
    "run_id", "restart_count", "status", "failure_kind", "failure_message", "epochs", "epochs_completed", "steps_cap",
    "steps_completed", "images_per_epoch", "global_batch", "images_per_s", "final_top1", "nodelist",
    "synthetic", "recovered",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CellState:
    """What became of one cell.

    Attributes:
        submission: the last one; None before the first.
        state: one of `STATES`.
        detail: why it waits, or is unknown; empty where there is nothing to add.
        job: what Slurm says of it; None where it says nothing.
        lives: whether Slurm has it waiting or running: it may end, and must not be begun again.
        gone: whether Slurm has answered, and knows no such job.
        kind, message: why it did not complete; empty where it did, or is not over.
        log: folder of the logs of the submission, where it lies now; empty before the first.
    """

    cell: SweepCell
    submission: Submission | None = None
    state: str
    detail: str = ""
    job: Job | None = None
    lives: bool = False
    gone: bool = False
    progress: Progress = Progress()
    nodes: str = ""
    kind: str = ""
    message: str = ""
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """What became of a sweep.

    Attributes:
        store: folder of its rows.
        cells: in the manifest's order.
        sources: what was read, such as rows, journals, squeue.
        notices: what was not, and why; and what was recovered.
    """

    manifest: Manifest
    store: Path
    cells: tuple[CellState, ...]
    account: Account
    sources: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether nothing more comes by itself: all that there is to see is seen."""
        return all(cell.state in OVER or cell.gone for cell in self.cells) and not any(c.lives for c in self.cells)

    def counts(self) -> dict[str, int]:
        """Cells by state, in the order of `STATES`; none of those that no cell has."""
        found = {state: sum(cell.state == state for cell in self.cells) for state in STATES}
        return {state: count for state, count in found.items() if count}


@dataclass(frozen=True)
class _Attempt:
    """The journal of an attempt without a row.

    Attributes:
        lives: whether its process does; None where that cannot be seen from here.
        age_s: since its last line.
    """

    restart: int
    progress: Progress
    lives: bool | None
    age_s: float
    nodes: str


@dataclass(frozen=True)
class _Facts:
    """What is known of a submission: the row of its last attempt, a journal without one, and what Slurm says."""

    row: Row | None
    attempt: _Attempt | None
    job: Job | None
    end: Evidence | None


def look(manifest: Manifest, store: Path, cells: Sequence[SweepCell]) -> SweepState:
    """Look at cells of a sweep, and write the rows of those whose jobs Slurm calls over.

    Args:
        store: folder of the rows, which may have moved since the manifest was written.
        cells: of the manifest.
    """
    last = {id(cell): cell.submissions[-1] for cell in cells if cell.submissions}
    account = ask(one.job_id for one in last.values())
    jobs = {one.run_id: account.jobs.get(one.job_id) for one in last.values()}
    mine = {one.run_id: job for one in last.values() if (job := jobs[one.run_id]) and job.is_of(manifest.sweep_id)}
    logs = {one.run_id: log_of(one, manifest, store) for one in last.values()}
    # The journals first: a run that ends between the two looks has left its row by the second one.
    attempts, unlisted = _attempts(store, set(jobs))
    dead = [run_id for run_id in attempts if run_id in mine and mine[run_id].phase == "over"]
    ends = {run_id: of_job(job, logs[run_id]) for run_id, job in mine.items() if job.phase == "over"}
    notices = [*account.notices, *_recover(store, dead, ends)]
    if any(not array.job_id for array in manifest.arrays):
        notices.append("a submission was cut short: the same command finds out whether Slurm has it")
    rows, bad = _rows(store, list(jobs))
    notices += [f"cannot be read: {path}" for path in (*unlisted, *bad)]
    states = []
    for cell in cells:
        if (one := last.get(id(cell))) is None:
            states.append(CellState(cell=cell, state="not submitted"))
            continue
        facts = _Facts(rows.get(one.run_id), attempts.get(one.run_id), mine.get(one.run_id), ends.get(one.run_id))
        states.append(replace(_state(cell, one, facts, account), log=logs[one.run_id]))
    sources = ["rows", "journals", *(["squeue"] if account.queue else []), *(["sacct"] if account.accounting else [])]
    return SweepState(
        manifest=manifest,
        store=store,
        cells=tuple(states),
        account=account,
        sources=tuple(sources),
        notices=tuple(notices),
    )


def log_of(submission: Submission, manifest: Manifest, store: Path) -> str:
    """Where the logs of a job lie now: in the store, wherever that is mounted."""
    try:
        return str(store / Path(submission.log).relative_to(manifest.results))
    except ValueError:
        return submission.log


def _state(cell: SweepCell, submission: Submission, facts: _Facts, account: Account) -> CellState:
    """What a submitted cell is."""
    row, attempt, job = facts.row, facts.attempt, facts.job
    nodes = (job.nodes if job else "") or (row.get("nodelist") if row else attempt.nodes if attempt else "") or ""
    common = CellState(
        cell=cell,
        submission=submission,
        state="unknown",
        job=job,
        lives=job is not None and job.lives,
        gone=account.queue and (job is None or not job.known),
        progress=of_row(row) if row else attempt.progress if attempt else Progress(),
        nodes=nodes,
    )
    if row is not None and (row["status"] == "completed" or not _begun_again(row, facts)):
        return _ended(common, row, facts)
    if job is not None and job.phase == "waiting":
        before = f"; attempt {row['restart_count']} was {row['failure_kind']}" if row else ""
        reason = job.reason or ("no reason given yet" if job.state == "PENDING" else job.state)
        return replace(common, state="pending", detail=f"{reason}{before}")
    if job is not None and job.phase == "running":
        progress = attempt.progress if attempt else Progress()
        return replace(common, state="running", detail="" if job.state == "RUNNING" else job.state, progress=progress)
    if job is not None and facts.end is not None:
        return _without_row(common, attempt, job, facts.end)
    return _unseen(common, attempt, account)


def _ended(common: CellState, row: Row, facts: _Facts) -> CellState:
    """A cell whose run has its row."""
    state, kind, message = row["status"], row.get("failure_kind") or "", row.get("failure_message") or ""
    if state == "completed":
        return replace(common, state=state)
    job, end = facts.job, facts.end
    if job and end and end.message not in message:  # else the row was made from it
        knows = job.state in KNOWN_BY_SLURM and kind in VAGUE
        if knows or (kind in ("interrupted", "unknown") and end.kind in ("preempted", "timeout", "oom")):
            kind, message = end.kind, f"{end.message}; by the run: {message}"
    if job and job.state == "CANCELLED" and kind == "interrupted":
        state = "cancelled"
        message = f"by {job.by}: {message}" if job.by and end and end.message not in message else message
    return replace(common, state=state, kind=kind, message=message)


def _without_row(common: CellState, attempt: _Attempt | None, job: Job, end: Evidence) -> CellState:
    """A cell whose job is over, and which has no row."""
    if job.state == "COMPLETED":
        late = "by Slurm's account it COMPLETED, and it has no row (yet: a shared folder may show one late)"
        return replace(common, detail=late, gone=True)
    why = ""
    if attempt is not None:
        why = "; its process lives on this machine" if attempt.lives else "; its row cannot be written"
    elif not job.nodes:
        why = ", before it began"
    state = "cancelled" if job.state == "CANCELLED" else end.status
    return replace(common, state=state, kind=end.kind, message=f"{end.message}{why}")


def _unseen(common: CellState, attempt: _Attempt | None, account: Account) -> CellState:
    """A cell of which there is no row, and of which Slurm says nothing that is understood."""
    if attempt is not None and attempt.lives:
        return replace(common, state="running", detail="by its process, which is on this machine", gone=False)
    job = common.job
    asked = "Slurm knows no such job" if account.queue else "Slurm does not say"
    if job is not None:
        asked = job.reason or f"Slurm says {job.state}"
    if attempt is None:
        return replace(common, detail=f"{asked}; no row, no journal")
    if not account.queue and attempt.lives is None and attempt.age_s < recover.STALE_S:
        return replace(common, state="running", detail=f"by its journal, {attempt.age_s:.0f} s ago")
    written = f"last line of its journal {attempt.age_s:.0f} s ago"
    return replace(common, detail=f"{asked}; {written} (python -m results.recover makes its row)")


def _begun_again(row: Row, facts: _Facts) -> bool:
    """Whether a job waits for, or is in, another attempt than the last one that has its row."""
    job, attempt = facts.job, facts.attempt
    if job is None or job.phase not in ("waiting", "running"):
        return False
    later = attempt is not None and attempt.restart > row["restart_count"]
    return job.phase == "waiting" or later or (job.restarts or 0) > row["restart_count"]


def _attempts(store: Path, run_ids: set[str]) -> tuple[dict[str, _Attempt], list[str]]:
    """The newest journal of each run that has one, and why there are none."""
    found: dict[str, _Attempt] = {}
    try:
        paths = journals(store)
    except OSError as error:
        return found, [f"{store / 'journal'}: {error.strerror or error}"]
    for path in paths:
        run_id, _, restart = path.name.removesuffix(".jsonl").rpartition(".")
        if run_id not in run_ids or not restart.isdecimal():
            continue
        if run_id in found and found[run_id].restart > int(restart):
            continue
        try:
            with journal.open_journal(path) as file:
                contents = journal.read(file, path.name)
                progress = of_journal(contents, file)
        except (OSError, journal.JournalError):  # it has just ended, or is damaged: results.recover names it
            continue
        age = age_s(contents, datetime.now(UTC))
        nodes = contents.row.get("nodelist") or ""
        found[run_id] = _Attempt(int(restart), progress, contents.owner.lives(), age, nodes)
    return found, []


def _rows(store: Path, run_ids: Sequence[str]) -> tuple[dict[str, Row], list[str]]:
    """The row of the last attempt of each run that has one, and files that cannot be read."""
    rows, bad = read_rows(store, "runs", run_ids, COLUMNS) if run_ids else ([], [])
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["restart_count"] or 0):
        found[row["run_id"]] = row
    early = [run_id for run_id, row in found.items() if row.get("final_top1") is None]
    epochs, worse = read_rows(store, "epochs", early, ["run_id", "restart", "epoch", "top1"]) if early else ([], [])
    for epoch in sorted(epochs, key=lambda epoch: (epoch["restart"], epoch["epoch"])):
        if epoch["top1"] is not None:
            found[epoch["run_id"]]["last_top1"] = epoch["top1"]
    return found, [f"{file.path}: {file.reason}" for file in (*bad, *worse)]


def _recover(store: Path, dead: Sequence[str], ends: Mapping[str, Evidence]) -> list[str]:
    """Write the rows of runs whose jobs are over, and say so."""
    made, notices = 0, []
    for run_id in dead:
        kind, message = ends[run_id].kind, ends[run_id].message
        try:
            rows = recover.recover(store, [run_id], known_dead=True, failure_kind=kind, failure_message=message)
            made += len(rows)
        except OSError as error:
            notices.append(f"the row of {run_id} cannot be written: {error}")
    if made:
        notices.append(f"{counted(made, 'row')} made from journals, of jobs that Slurm calls over")
    return notices
