"""Copies of a checkout: what is in them, what they say of themselves, and what is left out or refused."""

import os
from pathlib import Path

import pytest
from slurm_stub import git

from bench.measure import revision
from launch.sweep import snapshot
from results.words import ConfigError

NOWHERE = Path("/nowhere")


def copy(tmp_path: Path, store: Path = NOWHERE) -> Path:
    folder = tmp_path / f"copy{len(list(tmp_path.glob('copy*')))}"
    snapshot.copy(snapshot.listing(store), folder)
    return folder


def names(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(str(path.relative_to(folder)) for path in found if path.name != revision.SNAPSHOT)


def test_a_copy_has_the_files_as_they_are_now(checkout: Path, tmp_path: Path) -> None:
    (checkout / "gone.py").write_text("x")
    (checkout / "tool.sh").write_text("#!/bin/sh")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "second")
    (checkout / "gone.py").unlink()
    (checkout / "bench" / "run.py").write_text("changed")
    (checkout / "bench" / "a new one.py").write_text("new")
    (checkout / " begins with a blank").write_text("odd")
    (checkout / "bench" / "ümlaut\n.py").write_text("odd")
    (checkout / "tool.sh").chmod(0o755)
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "run.pyc").write_text("ignored")
    (checkout / "results" / "v1").mkdir(parents=True)
    (checkout / "results" / "v1" / "rows").write_text("ignored")
    folder = copy(tmp_path)
    assert names(folder) == [
        " begins with a blank",
        ".gitignore",
        "bench/a new one.py",
        "bench/run.py",
        "bench/ümlaut\n.py",
        "tool.sh",
    ]
    assert (folder / "bench" / "run.py").read_text() == "changed"
    assert os.access(folder / "tool.sh", os.X_OK) and not os.access(folder / "bench" / "run.py", os.X_OK)


def test_a_copy_says_of_which_code_it_is(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, folder = snapshot.listing(NOWHERE).code, copy(tmp_path)
    assert (clean.commit, clean.dirty) == (git(checkout, "rev-parse", "HEAD"), False)
    (checkout / "bench" / "run.py").write_text("changed")
    changed = snapshot.listing(NOWHERE).code
    assert changed.dirty and changed.snapshot != clean.snapshot
    (checkout / "bench" / "run.py").write_text("first")
    (checkout / "bench" / "run.py").chmod(0o755)
    assert snapshot.listing(NOWHERE).code.snapshot not in (clean.snapshot, changed.snapshot)
    git(checkout, "commit", "-q", "-a", "-m", "later")
    for module in (revision, snapshot):
        monkeypatch.setattr(module, "ROOT", folder)
    assert revision.running() == clean
    # Whoever submits from a copy submits the same code.
    assert snapshot.listing(NOWHERE).code == clean


def test_links_lead_to_the_same_files_within_a_copy(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("outside")
    (tmp_path / "folder").mkdir()
    links = {
        "bench/relative.py": "run.py", "absolute.py": str(checkout / "bench" / "run.py"), "package": "bench",
        "outside.py": "../outside.py", "folder": "../folder", "dangling": "nothing",
    }  # fmt: skip
    for name, target in links.items():
        (checkout / name).symlink_to(target)
    git(checkout, "add", "bench/relative.py", "outside.py")
    folder = copy(tmp_path)
    read = {name: os.readlink(folder / name) for name in links if (folder / name).is_symlink()}
    assert read == {
        "bench/relative.py": "run.py", "absolute.py": "bench/run.py", "package": "bench",
        "folder": str(tmp_path / "folder"), "dangling": "nothing",
    }  # fmt: skip
    assert (folder / "outside.py").read_text() == "outside"  # of the moment, too
    assert (folder / "package" / "run.py").read_text() == "first"


def test_what_is_no_code_is_left_out_and_named(checkout: Path, tmp_path: Path) -> None:
    (checkout / "weights.bin").write_bytes(bytes(snapshot.FILE_BYTES + 1))
    (checkout / "limit.bin").write_bytes(bytes(snapshot.FILE_BYTES))
    (checkout / "tracked.bin").write_bytes(bytes(snapshot.FILE_BYTES + 1))
    git(checkout, "add", "tracked.bin")
    (checkout / "other").mkdir()
    git(checkout / "other", "init", "-q")
    store = checkout / "my rows"
    (store / "runs").mkdir(parents=True)
    (store / "runs" / "a.parquet").write_text("row")
    found = snapshot.listing(store)
    assert found.files == (".gitignore", "bench/run.py", "limit.bin", "tracked.bin")
    rows, big, odd = found.notices
    assert rows == f"results={store} lies in the checkout: 1 files there are not copied for the jobs"
    assert "larger than 10 MiB: weights.bin" in big and "a repository of its own or no file: other/" in odd


def test_a_store_that_is_the_checkout_leaves_the_code_in(checkout: Path, tmp_path: Path) -> None:
    (checkout / "jobs" / "a-sweep").mkdir(parents=True)
    (checkout / "jobs" / "a-sweep" / "manifest.json").write_text("{}")
    (checkout / "bench" / "new.py").write_text("new")
    assert snapshot.listing(checkout).files == (".gitignore", "bench/new.py", "bench/run.py")


def test_too_much_is_refused_with_its_folder(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "ALL_BYTES", 4 << 20)
    (checkout / "images").mkdir()
    for index in range(5):
        (checkout / "images" / f"{index}").write_bytes(bytes(1 << 20))
    with pytest.raises(ConfigError, match=f"{checkout}/images: has 5 MiB of the 5 MiB of new files .* at most 4;"):
        snapshot.listing(NOWHERE)
    (checkout / "images" / "0").unlink()
    snapshot.listing(NOWHERE)


def test_a_file_that_cannot_be_read_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "run.py":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=f"{checkout}/bench/run.py: cannot be copied .*Permission denied"):
        snapshot.listing(NOWHERE)


@pytest.mark.parametrize("why", ["no repository", "one around it", "no git"])
def test_a_checkout_without_a_repository_is_copied_too(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    (checkout / ".git").rename(tmp_path / (".git" if why == "one around it" else "away"))
    if why == "no git":
        monkeypatch.setenv("PATH", "")
    for name in (
        "bench/__pycache__/a.pyc",
        "results/v1/runs/a",
        "results/record/a",
        "suite.egg-info/a",
        "env/a",
        ".ci/run",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(name)
    (checkout / "env" / "pyvenv.cfg").write_text("")
    found = snapshot.listing(NOWHERE)
    assert found.files == (".ci/run", ".gitignore", "bench/run.py", "results/record/a")
    assert (found.code.commit, found.code.dirty) == (None, None) and len(found.code.snapshot or "") == 16
    assert names(copy(tmp_path)) == list(found.files)


def test_a_repository_without_a_commit_is_copied_too(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".git").rename(tmp_path / "away")
    git(checkout, "init", "-q")
    assert snapshot.listing(NOWHERE).files == (".gitignore", "bench/run.py")
