"""One writer to a save= path: a marker with host, process and heartbeat; a shared file system may have no locks."""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

from bench.training.checkpoint.folder import CheckpointError, home_of, parsed, read_text, shown
from results.durable import create_file, special_file
from results.store.journal import Owner

MARKER = "writer.json"
BEAT_S = 15.0
STALE_S = 90.0  # without a heartbeat, where the process cannot be looked up
WAIT_S = 0.02  # for who takes away the marker of a dead writer


def refuse_if_taken(save: str) -> None:
    """See that no live run writes to a save= path; writes nothing but a file that is gone at once.

    Raises:
        CheckpointError: one does.
    """
    home = home_of(Path(save))
    _check_home(save, home)
    if home.is_dir():
        _refuse(save, home / MARKER)


class Writer:
    """The claim of this process to a save= path, from `__init__` to `release`.

    Args:
        save: the path.
        attempt: RUN.RESTART that writes there.

    Raises:
        CheckpointError: another one lives.
    """

    def __init__(self, save: str, attempt: str) -> None:
        self.save, self.attempt = save, attempt
        home = home_of(Path(save))
        _check_home(save, home)
        self._path = home / MARKER
        owner = Owner.of_this_process()
        self._text = json.dumps({"attempt": attempt, "owner": asdict(owner), "token": os.urandom(8).hex()})
        home.mkdir(parents=True, exist_ok=True)
        while not self._claim():
            seen = _refuse(save, self._path)
            if seen is not None:
                self._take_away(seen)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="save-marker", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See that the path is still this run's.

        Raises:
            CheckpointError: another run took it over while this one gave no sign of life.
        """
        text = _content(self._path)
        if text == self._text or (text is None and self._claim()):
            return
        raise CheckpointError(
            f"save={self.save}: {_who(text)} has taken it over while this run gave no sign of life; nothing was written"
        )

    def release(self) -> None:
        """Let others write there."""
        self._ended.set()
        self._thread.join(timeout=5.0)
        with contextlib.suppress(OSError):
            if _content(self._path) == self._text:
                self._path.unlink()
            self._path.parent.rmdir()  # where no checkpoint came about

    def _claim(self) -> bool:
        try:
            create_file(self._path, lambda file: file.write(self._text.encode()))
        except FileExistsError:
            return False
        return True

    def _take_away(self, seen: str) -> None:
        """Remove the marker of a dead writer: of those who saw it one may, or a later writer's would be taken too."""
        ticket = self._path.with_name(f"{MARKER}.{hashlib.sha256(seen.encode(errors='replace')).hexdigest()[:16]}")
        try:
            create_file(ticket, lambda file: file.write(self._text.encode()))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if _age_s(ticket) >= STALE_S:  # whoever has it died meanwhile
                    ticket.unlink()
            time.sleep(WAIT_S)
            return
        with contextlib.suppress(FileNotFoundError):
            if _content(self._path) == seen:
                self._path.unlink()
        ticket.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(OSError):
                if _content(self._path) == self._text:
                    os.utime(self._path)


def _check_home(save: str, home: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if special := special_file(os.stat(save).st_mode):  # it may have come while the run waited for its start
            raise CheckpointError(f"save={save}: {special}, and weights would take its place; save elsewhere")
    if home.is_symlink() or (home.exists() and not home.is_dir()):
        what = "a link" if home.is_symlink() else "not a folder"
        raise CheckpointError(
            f"save={save}: its checkpoints go to {home}, which is {what}; remove it, or save elsewhere"
        )


def _refuse(save: str, path: Path) -> str | None:
    """The marker of a writer that is dead; None where there is none.

    Raises:
        CheckpointError: it lives.
    """
    text = _content(path)
    if text is None:
        return None
    lives, where = _owner_lives(text)
    if lives is False:
        return text
    try:
        age_s = _age_s(path)
    except FileNotFoundError:
        return None
    if lives is None and age_s >= STALE_S:
        return text
    until = "" if lives else f"; without one for {STALE_S:g} s it counts as dead"
    raise CheckpointError(
        f"save={save}: {_who(text)} writes there ({where}, last sign of life {max(0.0, age_s):.0f} s ago{until}); "
        "save elsewhere, or wait for its end"
    )


def _age_s(path: Path) -> float:
    """How long ago a file was written or touched.

    Raises:
        FileNotFoundError: it is gone.
    """
    with tempfile.TemporaryFile(dir=path.parent) as now:  # both times from the file system's clock
        return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime


def _content(path: Path) -> str | None:
    """What a marker says; None where there is none."""
    if not os.path.lexists(path):
        return None
    try:
        return read_text(path)
    except CheckpointError:  # a folder, say, or gone in between
        return "" if os.path.lexists(path) else None


def _owner_lives(text: str) -> tuple[bool | None, str]:
    """Whether the process of a marker lives, None where that cannot be seen from here; and which it is."""
    try:
        owner = Owner(**parsed(MARKER, text)["owner"])
        return owner.lives(), f"process {shown(owner.pid)} on {shown(owner.hostname)}"
    except (CheckpointError, KeyError, TypeError, ValueError, OverflowError):
        return None, "an unreadable marker"


def _who(text: str | None) -> str:
    try:
        return f"run {shown(parsed(MARKER, text or '')['attempt'])}"
    except (CheckpointError, KeyError):
        return "another run"
