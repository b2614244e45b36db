"""Which code runs: that of a checkout, or of the copy that was made of it when a job was submitted."""

import dataclasses
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.config.paths import ROOT
from results.words import ConfigError

__all__ = ["SNAPSHOT", "Code", "running"]

SNAPSHOT = ".snapshot.json"  # at the root of a copy


@dataclass(frozen=True, kw_only=True)
class Code:
    """What is known of some code.

    Attributes:
        commit: of the checkout; None outside a repository.
        dirty: whether tracked or new files differ from it; None outside a repository.
        snapshot: of a copy, 16 hexadecimal digits of its content; None for a checkout, whose content may change.
    """

    commit: str | None
    dirty: bool | None
    snapshot: str | None = None

    def write(self, root: Path) -> None:
        """Say in a copy what it is a copy of."""
        (root / SNAPSHOT).write_text(json.dumps(dataclasses.asdict(self)))


def running() -> Code:
    """Return what is known of the code of this process.

    Raises:
        ConfigError: it is a copy that does not say of what.
    """
    try:
        return Code(**json.loads((ROOT / SNAPSHOT).read_text()))
    except FileNotFoundError:
        return of_checkout()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{ROOT / SNAPSHOT}: does not say of which code {ROOT} is a copy ({error})") from None


def of_checkout() -> Code:
    """Return what git knows of the checkout."""
    try:
        top, commit = git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        # Else it lies without a repository of its own in a folder of another one.
        if Path(top).resolve() == ROOT:
            return Code(commit=commit, dirty=bool(git("status", "--porcelain")))
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    return Code(commit=None, dirty=None)


def git(*words: str) -> str:
    """What git says of the checkout.

    Raises:
        OSError: there is no git.
        subprocess.SubprocessError: it refuses, as where there is no repository.
    """
    # The checkout may belong to another user, as in a container: reading its state is all that is done here.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *words]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    return done.stdout.decode(errors="surrogateescape")
