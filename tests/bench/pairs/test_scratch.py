"""Checkouts of commits, rows on their way into a store, and what dead commands left: nothing of others is touched."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.pairs import checkouts, scratch
from results.store.files import read_rows
from results.store.journal import Owner
from results.store.writer import RunWriter
from results.words import ConfigError


def a_run(store: Path, run_id: str, finish: bool = True) -> None:
    writer = RunWriter(store, {"run_id": run_id})
    writer.steps([{"rank": 0, "step": 1, "t_ns": 1}])
    writer.epoch({"epoch": 1})
    writer.system({"cpu_model": "none"})
    if finish:
        writer.finish("completed", images_per_s=1.0)


def a_dead_owner() -> Owner:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return replace(Owner.of_this_process(), pid=int(child.stdout), started="1")


def left_behind(root: Path, name: str, owner: Owner) -> Path:
    folder = root / "jobs" / name
    folder.mkdir(parents=True)
    (folder / scratch.OWNER).write_text(json.dumps(asdict(owner)))
    return folder


def test_a_worktree_is_the_commit_and_goes_whatever_ends_its_use(repository, tmp_path: Path) -> None:
    commit = repository.commit(first=1.0)
    repository.commit(first=2.0)
    hook = repository.root / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    with pytest.raises(KeyboardInterrupt), checkouts.worktree("a", commit, tmp_path / "tree") as place:
        assert json.loads((place.path / "plan.json").read_text()) == {"first": 1.0}
        assert (place.commit, str(place)) == (commit, commit[:10])
        assert len(repository.worktrees()) == 2
        (place.path / "new").write_text("a run writes")
        raise KeyboardInterrupt
    assert len(repository.worktrees()) == 1 and not (tmp_path / "tree").exists() and not (tmp_path / "hooked").exists()


def test_a_commit_without_a_launcher_is_said(repository, tmp_path: Path) -> None:
    repository.git("rm", "--quiet", "--cached", "launch/local.py", "launch/slurm.py", "--ignore-unmatch")
    (repository.root / "readme").write_text("old")
    repository.git("add", "readme")
    repository.git("commit", "--quiet", "--message=old")
    commit = repository.git("rev-parse", "HEAD")
    with pytest.raises(ConfigError, match=r"has no launch/local.py"), checkouts.worktree("a", commit, tmp_path / "t"):
        pass
    assert len(repository.worktrees()) == 1 and not (tmp_path / "t").exists()


def test_the_state_of_a_checkout_is_its_code(repository) -> None:
    repository.commit()
    clean = checkouts.this_checkout()
    assert str(clean) == clean.commit[:10] and clean == checkouts.this_checkout()
    (repository.root / "rows.parquet").write_text("rows may lie in a checkout")
    assert checkouts.this_checkout() == clean
    (repository.root / "new.py").write_text("1")
    new = checkouts.this_checkout()
    (repository.root / "new.py").write_text("2")
    newer = checkouts.this_checkout()
    (repository.root / "new.py").unlink()
    repository.plan(first=3.0)
    edited = checkouts.this_checkout()
    assert len({clean, new, newer, edited}) == 4 and str(edited) == f"{clean.commit[:10]} with changes"


def test_one_command_at_a_time_runs_pairs(repository) -> None:
    with scratch.only_one():
        with pytest.raises(ConfigError, match=f"another bench.pairs .process {os.getpid()}.") as error:
            with scratch.only_one():
                pass
        assert "\n" not in str(error.value)
    with scratch.only_one():
        pass


def test_rows_move_into_the_store_whole_and_those_of_runs_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, root = tmp_path / "rows" / "jobs" / "p", tmp_path / "rows"
    a_run(folder / "rows", "run-1")
    a_run(root, "another")
    moved: list[str] = []
    whole = scratch.publish
    monkeypatch.setattr(
        scratch, "publish", lambda path, to: (moved.append(to.relative_to(root).parts[0]), whole(path, to))
    )
    side = {"pair": 2, "side": "b", "position": 1, "words": ["depth=8"], "allocation": "slurm-7", "commit": "c" * 40}
    claimed: list[bool] = []
    claim = scratch.claim
    monkeypatch.setattr(scratch, "claim", lambda *given: (claimed.append(bool(moved)), claim(*given)))
    (row,) = scratch.take_rows(folder, root, side)
    assert row["run_id"] == "run-1" and claimed == [False]  # a check must never see it as a run by itself
    (pair,) = read_rows(root, "pairs")[0]
    assert {name: pair[name] for name in side} == side and (pair["pairs_id"], pair["run_id"]) == ("p", "run-1")
    assert sorted(moved) == ["epochs", "runs", "steps", "system"] and moved[-1] == "runs"
    for table in moved:
        rows, bad = read_rows(root, table, ["run-1"])
        assert len(rows) == 1 and not bad
    assert not list((folder / "rows").glob("*/month=*/*.parquet"))


def test_a_run_whose_name_is_taken_is_kept_where_it_is(tmp_path: Path) -> None:
    folder, root = tmp_path / "rows" / "jobs" / "p", tmp_path / "rows"
    a_run(folder / "rows", "run-1")
    a_run(root, "run-1")
    with pytest.raises(ConfigError, match="exists already; the rows of this run stay in"):
        scratch.take_rows(folder, root)
    assert len(list((folder / "rows").glob("*/month=*/run-1.0.parquet"))) == 4
    assert read_rows(root, "runs")[0][0]["images_per_s"] == 1.0


@pytest.mark.slow
def test_what_a_dead_command_left_is_kept_and_removed(repository, tmp_path: Path) -> None:
    root = repository.results
    folder = left_behind(root, "pairs-dead", a_dead_owner())
    a_run(folder / "rows", "run-done")
    logs = folder / "rows" / "jobs" / "run-failed"
    logs.mkdir(parents=True)
    (logs / "0.err").write_text("why")
    # The journal of a run that died with its launcher.
    start = "import sys; from pathlib import Path; sys.path[:0] = sys.argv[1:2]; from test_scratch import a_run; "
    start += "a_run(Path(sys.argv[2]), 'run-torn', False)"
    subprocess.run([sys.executable, "-c", start, str(Path(__file__).parent), str(folder / "rows")], check=True)
    commit = repository.commit()
    lost = scratch._checkouts_here("pairs-dead")
    lost.mkdir()
    gone = scratch._checkouts_here("pairs-gone")
    for path in (lost / "a", gone / "a", tmp_path / "mine", folder / "checkouts" / "b"):
        checkouts.git("worktree", "add", "--quiet", "--detach", str(path), commit)
    for path in (gone, tmp_path / "mine"):  # a temporary folder was cleared; another's disk is not mounted
        path.rename(tmp_path / f"away-{path.name}")
    scratch.clear_dead(root)
    status = {row["run_id"]: row["status"] for row in read_rows(root, "runs")[0]}
    assert status == {"run-done": "completed", "run-torn": "killed"}
    assert (root / "jobs" / "run-failed" / "0.err").read_text() == "why"
    assert not folder.exists() and not lost.exists()
    assert [line.rpartition("/")[2] for line in repository.worktrees()] == ["checkout", "mine"]


def test_what_lives_or_cannot_be_seen_is_left_alone(repository) -> None:
    root = repository.results
    repository.commit()
    elsewhere = replace(a_dead_owner(), hostname="elsewhere")
    folders = [left_behind(root, "live", Owner.of_this_process()), left_behind(root, "elsewhere", elsewhere)]
    for folder in folders:
        a_run(folder / "rows", f"run-{folder.name}")
    (root / "jobs" / "run-1").mkdir()
    (root / "jobs" / "torn").mkdir()
    (root / "jobs" / "torn" / scratch.OWNER).write_text("{")
    other = Path(scratch.tempfile.gettempdir()) / f"{scratch.PREFIX}-not{socket.gethostname()}-x"
    other.mkdir()
    scratch.clear_dead(root)
    assert all((folder / "rows" / "runs").exists() for folder in folders)
    assert (root / "jobs" / "run-1").exists() and (root / "jobs" / "torn").exists() and other.exists()
    assert not read_rows(root, "runs")[0]


def test_a_run_that_is_no_side_of_a_pair_is_claimed_once(tmp_path: Path) -> None:
    folder, root = tmp_path / "rows" / "jobs" / "p", tmp_path / "rows"
    a_run(folder / "rows", "run-1")
    scratch.claim(root, "p", {"run_id": "run-1", "restart_count": 0}, {})
    scratch.take_rows(folder, root)
    (pair,) = read_rows(root, "pairs")[0]
    assert (pair["pairs_id"], pair["run_id"], pair["pair"], pair["side"]) == ("p", "run-1", None, None)
