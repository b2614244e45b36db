"""Where a command's runs and checkouts lie while it goes, and what becomes of those that a dead command left.

Only one command at a time runs pairs on a machine, since two would disturb each other's times. Its runs write into a
store of their own, RESULTS/jobs/PAIRS_ID/rows, whose files go on into RESULTS as each run ends: so it is known which
rows are whose, whoever else writes there, and whatever version of the suite wrote them.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.pairs import checkouts
from results.durable import create_file, publish, sync_folder
from results.recover import recover
from results.store.files import read_rows, table_path, write_once
from results.store.journal import OWNER, Owner
from results.store.schema import Row, clean_row, to_table
from results.words import ConfigError

PREFIX = "resnet-bench-pairs"
STORE, CHECKOUTS = "rows", "checkouts"
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextlib.contextmanager
def only_one() -> Iterator[int]:
    """Be the only command that runs pairs on this machine, for the `with` block.

    Returns:
        A descriptor; as long as a process has it, no other command begins. Launchers inherit it, and so outlast a
        killed command until their ranks are gone.

    Raises:
        ConfigError: another one runs.
    """
    path = Path(tempfile.gettempdir()) / f"{PREFIX}.lock"
    try:
        # Without O_CREAT first: Linux forbids it in a shared /tmp where another user made the file.
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = path.read_text().strip() or "unknown"
            raise ConfigError(
                f"another bench.pairs (process {number}), or a run that it left, goes on this machine, and two would "
                f"disturb each other's times; wait for it"
            ) from None
        with contextlib.suppress(OSError):  # another user's file
            path.write_text(f"{os.getpid()}\n")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal that ends a command end the `with` block: what it ends is ended in order."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def scratch(root: Path, pairs_id: str) -> Iterator[Path]:
    """A folder of this command under a store, for the `with` block; rows that are left in it go on into the store."""
    folder = root / "jobs" / pairs_id
    folder.mkdir(parents=True)
    try:
        owner = json.dumps(asdict(Owner.of_this_process())).encode()
        create_file(folder / OWNER, lambda file: file.write(owner))
        yield folder
    finally:
        with undisturbed():
            _clear(folder, root)


def clear_dead(root: Path) -> None:
    """Keep the rows of commands on this machine that were killed, and remove what else they left.

    Call it as the only command on the machine, see `only_one`.
    """
    for path in sorted((root / "jobs").glob(f"*/{OWNER}")):
        owner = Owner.of(path.parent)
        if owner and owner.lives() is False:
            _clear(path.parent, root)
    here = _checkouts_here("")
    lost = [path for path in checkouts.worktrees() if path.parent.parent == here.parent]
    left = [path.parent for path in lost if path.parent.name.startswith(here.name)]
    for folder in {*left, *here.parent.glob(f"{here.name}*")}:
        if not folder.exists() or folder.stat().st_uid == os.getuid():
            _remove_checkouts(folder)


@contextlib.contextmanager
def checkouts_folder(folder: Path, pairs_id: str, *, shared: bool) -> Iterator[Path]:
    """A folder for checkouts of commits, for the `with` block.

    Args:
        folder: of the command, see `scratch`.
        shared: whether other nodes need it; else it is on this machine's own disk.
    """
    path = folder / CHECKOUTS if shared else _checkouts_here(pairs_id)
    path.mkdir()
    try:
        yield path
    finally:
        with undisturbed():
            _remove_checkouts(path)


def _checkouts_here(pairs_id: str) -> Path:
    # The name of the machine: another one that uses the same repository has a temporary folder of the same name.
    return Path(tempfile.gettempdir()).resolve() / f"{PREFIX}-{socket.gethostname()}-{pairs_id}"


def _remove_checkouts(folder: Path) -> None:
    lost = [path for path in checkouts.worktrees() if path.parent == folder]
    for path in {*lost, *folder.glob("*")}:
        checkouts.remove(path)
    shutil.rmtree(folder, ignore_errors=True)


def claim(root: Path, pairs_id: str, row: Row, side: Mapping[str, Any]) -> None:
    """Write the row of `pairs` that says of a run that it was made for a pair.

    Args:
        row: of `runs`.
        side: columns of `pairs` of a run that is one side of a pair; none of a run that did not come to be one.

    Raises:
        OSError: the disk refuses.
    """
    whole = {"pairs_id": pairs_id, "run_id": row["run_id"], "restart": row["restart_count"], **side}
    name = f"{pairs_id}-p{side['pair']:02d}{side['side']}" if side else f"{pairs_id}-{secrets.token_hex(4)}"
    month = f"{datetime.now(UTC):%Y-%m}"
    write_once(table_path(root, "pairs", month, name, 0), [to_table("pairs", [clean_row("pairs", whole)])])


def ended_rows(folder: Path) -> list[Row]:
    """Return the rows of `runs` of a run that has ended, from its own store; of one that was killed, from its journal.

    Args:
        folder: of the command, see `scratch`.
    """
    recover(folder / STORE, failure_kind="interrupted", failure_message="its launcher ended before it")
    return read_rows(folder / STORE, "runs")[0]


def take_rows(folder: Path, root: Path, side: Mapping[str, Any] | None = None) -> list[Row]:
    """Move the rows of a run that has ended from its own store into the store, those of `runs` last.

    Before these it is claimed as one of pairs, so that no check ever sees it as a run by itself.

    Args:
        folder: of the command, see `scratch`; named as its pairs are.
        root: of the store.
        side: see `claim`.

    Returns:
        Rows of `runs`.

    Raises:
        ConfigError: the store has rows of a run of this name already; what was not moved stays where it is.
        OSError: the disk refuses.
    """
    store, rows = folder / STORE, ended_rows(folder)
    claimed = {row["run_id"] for row in read_rows(root, "pairs")[0] if row["pairs_id"] == folder.name}
    for row in rows:
        if row["run_id"] not in claimed:
            claim(root, folder.name, row, side or {})
    files = sorted(store.glob("*/month=*/[!.]*.parquet"), key=lambda path: path.relative_to(store).parts[0] == "runs")
    for path in files:
        target = root / path.relative_to(store)
        if target.exists():
            raise ConfigError(f"{target}: exists already; the rows of this run stay in {store}")
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(path, target)
        for parent in (target.parent.parent, root):  # either may be new
            sync_folder(parent)
    return rows


def take_logs(folder: Path, root: Path) -> None:
    """Move what a run that did not complete left of its processes' output to where such output lies."""
    for path in (folder / STORE / "jobs").glob("*"):
        target = root / "jobs" / path.name
        if not target.exists():
            shutil.move(path, target)


def empty(folder: Path) -> None:
    """Make a command's own store ready for the next run."""
    shutil.rmtree(folder / STORE, ignore_errors=True)


def _clear(folder: Path, root: Path) -> None:
    if (folder / STORE).exists():
        try:
            take_rows(folder, root)
            take_logs(folder, root)
        except (ConfigError, OSError) as error:
            print(f"bench.pairs: {error}; {folder} is left as it is", file=sys.stderr)
            return
    _remove_checkouts(folder / CHECKOUTS)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty: there are others
        folder.parent.rmdir()
