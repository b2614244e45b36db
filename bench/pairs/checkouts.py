"""Checkouts that runs are started from: this one as it is, and commits in worktrees that are removed afterwards."""

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.config.grammar import WordError
from bench.config.paths import ROOT
from results.words import nearest

LAUNCHER = Path("launch") / "local.py"


@dataclass(frozen=True)
class Checkout:
    """A checkout.

    Attributes:
        path: its root.
        commit: whole; None where this is no repository.
        state: hash of how it differs from its commit; what it was run with when it is the same again.
    """

    path: Path
    commit: str | None
    state: str

    def __str__(self) -> str:
        clean = self.state == hashlib.sha256().hexdigest()
        return "no commit" if self.commit is None else f"{self.commit[:10]}{'' if clean else ' with changes'}"


def git(*words: str, at: Path | None = None) -> str:
    """Run git on a checkout, without its hooks.

    Raises:
        subprocess.CalledProcessError: it refuses.
        OSError: there is no git.
    """
    where = at or ROOT
    # The checkout may belong to another user, as in a container.
    options = ["-c", f"safe.directory={where}", "-c", "core.hooksPath=/dev/null", "-C", str(where)]
    return subprocess.run(["git", *options, *words], capture_output=True, text=True, check=True).stdout


def find_commit(name: str, revision: str) -> str:
    """Return the whole hash of a commit.

    Args:
        name: of the side, for the message.
        revision: as git takes it.

    Raises:
        WordError: there is no such commit, or no repository; one line.
    """
    word = f"{name}=commit:{revision}"
    try:
        inside = git("rev-parse", "--show-toplevel").strip()
    except (OSError, subprocess.CalledProcessError):
        inside = ""
    if not inside or Path(inside).resolve() != ROOT:
        raise WordError(f"{word}: {ROOT} is not a git repository; leave {name} out, or give it words of a run")
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        names = git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes").split()
        near = nearest(revision, ["HEAD", *names])
        raise WordError(
            f"{word}: no such commit here; nearest is {near} (git log --oneline --all lists them)"
        ) from None


def this_checkout() -> Checkout:
    """The checkout that this code is of, as it is now."""
    try:
        changes = hashlib.sha256(git("diff", "HEAD", "--binary").encode())
        # New files as well, but only those that a run may read: rows may be written beside them.
        for name in git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py", "*.yaml").split("\0")[:-1]:
            changes.update(name.encode() + (ROOT / name).read_bytes())
        return Checkout(ROOT, git("rev-parse", "HEAD").strip(), changes.hexdigest())
    except (OSError, subprocess.CalledProcessError):
        return Checkout(ROOT, None, "")


@contextlib.contextmanager
def worktree(name: str, commit: str, path: Path) -> Iterator[Checkout]:
    """Check a commit out for the `with` block.

    Raises:
        WordError: it has no launcher.
        OSError: it cannot be checked out.
    """
    try:
        try:
            git("worktree", "add", "--quiet", "--detach", "--force", str(path), commit)
        except subprocess.CalledProcessError as error:
            raise OSError(f"git worktree add: {error.stderr.strip()}") from None
        if not (path / LAUNCHER).is_file():
            raise WordError(f"{name}=commit:{commit[:10]}: has no {LAUNCHER}, so it cannot be run; take a later one")
        yield Checkout(path, commit, hashlib.sha256().hexdigest())
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a worktree, whatever is left of it; no other is touched, which may lie on a disk that is not seen here."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        git("worktree", "remove", "--force", "--force", str(path))
    shutil.rmtree(path, ignore_errors=True)


def worktrees() -> list[Path]:
    """Return where the worktrees of this repository lie or lay."""
    try:
        lines = git("worktree", "list", "--porcelain").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
