"""Ends the jobs of a sweep, and begins those again that did not complete."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.batch.script import BatchError
from launch.sweep import submit
from launch.sweep.account import SlurmError, ask, call
from launch.sweep.choose import Chosen
from launch.sweep.manifest import Manifest, SweepCell
from launch.sweep.status import CellState, SweepState, look
from results.words import ConfigError, counted, printable

__all__ = ["cancel", "retry"]

AT_ONCE = 500  # jobs of one scancel: a command line has its length
AGAIN = ("failed", "killed", "cancelled")


def cancel(manifest: Manifest, cells: Sequence[SweepCell]) -> int:
    """Cancel the jobs of cells that wait or run, those of all their submissions, and say which these were.

    Returns:
        Exit status: 1 where Slurm does not say what lives, or refuses.
    """
    by_job = {one.job_id: cell for cell in cells for one in cell.submissions}
    account = ask(by_job)
    if by_job and not account.queue:
        reason = "; ".join(account.notices)
        print(f"launch: nothing was cancelled, since what lives cannot be seen: {printable(reason)}", file=sys.stderr)
        return 1
    living = [job for job in account.jobs.values() if job.lives and job.is_of(manifest.sweep_id)]
    failed = 0
    for first in range(0, len(living), AT_ONCE):
        part = living[first : first + AT_ONCE]
        try:
            call("scancel", *(job.job_id for job in part))
        except SlurmError as error:
            failed += len(part)
            print(f"launch: {printable(str(error))}", file=sys.stderr)
            continue
        for job in part:
            print(printable(f"cancelled {job.job_id} ({job.state}): {by_job[job.job_id].label}"), flush=True)
    others = len(by_job) - len(living)
    print(f"{counted(len(living) - failed, 'job')} cancelled; {others} had ended before", flush=True)
    return 1 if failed else 0


def retry(chosen: Chosen) -> int:
    """Submit those cells again that failed, were killed or cancelled, of the same code; others are left as they are.

    What another sweep has done or queued since is not submitted, and what saved before it ended goes on from there.

    Returns:
        Exit status: 1 where Slurm refuses or does not say what lives, and where a cell cannot run.

    Raises:
        BatchError: Slurm refuses.
        ConfigError: the sweep lies elsewhere by now, or the copy of its code is gone.
    """
    manifest, _ = chosen.read()
    if not _same(chosen.store, Path(manifest.results)):
        raise ConfigError(
            f"{manifest.sweep_id} was submitted with results={manifest.results}, and lies in {chosen.store} now: its "
            "jobs would write there; submit it anew with results=PATH"
        )
    if not manifest.code.is_dir():
        raise ConfigError(f"{manifest.code} is gone, the code that {manifest.sweep_id} ran: submit it anew")

    def places(now: Manifest) -> list[int]:
        """The cells to submit, seen while no other command submits."""
        meant = chosen.read()[1]
        found = look(now, chosen.store, [cell for cell in now.cells if cell in meant])
        again, says = _again(found)
        for text in says:
            print(printable(text), file=sys.stderr, flush=True)
        return [at for at, cell in enumerate(now.cells) if any(cell is one.cell for one in again)]

    return 1 if submit.again(chosen.path, places) else 0


def _again(found: SweepState) -> tuple[list[CellState], list[str]]:
    """The cells to submit again, and why others are not."""
    if not found.account.queue and any(cell.submission for cell in found.cells):
        reason = "; ".join(found.account.notices)
        raise BatchError(f"nothing was submitted, since what lives cannot be seen: {reason}")
    again = [cell for cell in found.cells if not cell.lives and (cell.state in AGAIN or _lost(cell))]
    left: Callable[[str], int] = lambda state: sum(c.state == state and c not in again for c in found.cells)  # noqa: E731
    says = [f"launch: {counted(left(state), 'cell')} {state}" for state in ("completed",) if left(state)]
    if living := sum(cell.lives for cell in found.cells):
        says.append(f"launch: {counted(living, 'cell')} waiting or running")
    if left("unknown"):
        says.append(f"launch: {counted(left('unknown'), 'cell')} unknown, and left alone: python -m results.recover")
    if left("not submitted"):
        says.append(
            f"launch: {counted(left('not submitted'), 'cell')} never submitted: the same command does it "
            f"(python launch/slurm.py {shlex.join(found.manifest.words)})"
        )
    if not again:
        says.append("launch: nothing to submit again")
    return again, says


def _lost(cell: CellState) -> bool:
    """Whether Slurm knows nothing of a job any more, and nothing of it was ever written."""
    return cell.state == "unknown" and cell.gone and cell.progress.epoch is None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
