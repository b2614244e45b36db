"""A sweep's page while it runs: what was planned, what is done, and how far the rest is."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launch.sweep.manifest import Array, Manifest, SweepCell
from results.report.page.blocks import Commands, Table, Words
from results.report.page.evidence import gathered
from results.report.page.sections import sweeps
from results.store.journal import Journal

NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
IDS = [f"20261122T200{place}00-resnet20A-digits-0000000{place}" for place in range(4)]


def submitted(root: Path, sweep_id: str = "20261122T195900-abcd", cells: int = 5) -> Manifest:
    """A sweep of five cells as the launcher writes it down, of which Slurm has taken four."""
    own = [
        SweepCell(label=f"depth={20 + 12 * place}", name="x", config_hash=f"{place}", seed=0, nodes=1, ranks_per_node=2)
        for place in range(cells)
    ]
    made = Manifest(
        sweep_id=sweep_id, created=NOW.isoformat(), words=("depth=20,32,44,56,68",), cluster="example",
        results=str(root), commit="", dirty=None, snapshot="", synthetic=False, cells=tuple(own),
    )  # fmt: skip
    array = Array(script="a.sh", cells=tuple(range(min(cells, 4))), run_ids=tuple(IDS[: min(cells, 4)]))
    made = made.begun(array).taken(array, "17")
    made.write()
    return made


def journal(root: Path, run_id: str, restart: int = 0) -> None:
    (root / "journal").mkdir(parents=True, exist_ok=True)
    row = {"run_id": run_id, "schema_version": 1, "restart_count": restart, "status": "running", "epochs": 8}
    one = Journal(root / "journal" / f"{run_id}.{restart}.jsonl", row, "2026-11")
    for number, top1 in ((2, 0.5), (3, 0.625)):
        epoch = {"run_id": run_id, "restart": restart, "epoch": number, "elapsed_s": 9.0, "top1": top1}
        one.append("epoch", {"row": epoch}, sync=True)
    one.close()


def states(root: Path) -> tuple[str, dict[str, tuple[str, ...]], list[str]]:
    found = gathered(root, {}, ())
    made = sweeps.section(found)
    assert made is not None
    rows = {row[0]: tuple(row[1:]) for block in made.blocks if isinstance(block, Table) for row in block.rows}
    words = [block.text for block in made.blocks if isinstance(block, Words)]
    words += [line for block in made.blocks if isinstance(block, Commands) for line in block.lines]
    return made.status, rows, words


def test_each_cell_is_as_far_as_its_rows_and_journal_say(add: Any, tmp_path: Path) -> None:
    submitted(tmp_path)
    add(IDS[0])
    journal(tmp_path, IDS[1])
    add(IDS[2], status="failed", figures={"failure_kind": "oom", "failure_message": "no memory"})
    status, rows, words = states(tmp_path)
    assert status == "1 of 5 cells done"
    assert "depth=20" not in rows  # it is done
    state, so_far, job, run = rows["depth=32"]
    assert (state, job, run) == ("running, or died", "17_1", IDS[1])
    assert so_far.startswith("epoch 3 of 8, top-1 62.50%, last word ") and so_far.endswith(" before this page")
    assert rows["depth=44"][:3] == ("failed", "oom: no memory", "17_2")
    assert rows["depth=56"][0] == "no word of it yet" and rows["depth=56"][1].startswith("submitted 20")
    assert rows["depth=68"] == ("not submitted", "", "-", "-")
    assert words[0].startswith("20261122T195900-abcd (depth=20,32,44,56,68): 5 cells, ")
    for said in ("1 completed", "1 running, or died", "1 failed", "1 no word of it yet", "1 not submitted"):
        assert said in words[0]
    assert f"python launch/slurm.py status 20261122T195900-abcd results={tmp_path}" in words


def test_a_cell_that_was_begun_again_after_its_row_runs(add: Any, tmp_path: Path) -> None:
    submitted(tmp_path)
    add(IDS[0], status="killed", figures={"failure_kind": "preempted", "failure_message": "gone"})
    journal(tmp_path, IDS[0], restart=1)
    assert states(tmp_path)[1]["depth=20"][0] == "running, or died"


def test_a_sweep_that_is_done_is_a_line(add: Any, tmp_path: Path) -> None:
    submitted(tmp_path, cells=2)
    add(IDS[0])
    add(IDS[1])
    status, rows, words = states(tmp_path)
    assert status == "2 of 2 cells done" and rows == {} and len(words) == 1


def test_sweeps_that_are_not_done_come_first_and_old_ones_are_counted(add: Any, tmp_path: Path) -> None:
    for place in range(8):
        submitted(tmp_path, f"2026112{place}T195900-abcd", cells=1 if place == 7 else 2)
    add(IDS[0])
    _, _, words = states(tmp_path)
    assert words[0].startswith("20261126T") and "2 older sweeps not shown." in words
    assert [word[:9] for word in words if "1 completed." in word] == ["20261127T"]


def test_a_cell_that_completed_is_done_whatever_was_submitted_after_it(add: Any, tmp_path: Path) -> None:
    made = submitted(tmp_path, cells=1)
    again = Array(script="b.sh", cells=(0,), run_ids=(IDS[3],))
    made.begun(again).taken(again, "18").write()
    add(IDS[0])
    assert states(tmp_path)[0] == "1 of 1 cell done"


def test_a_cell_whose_rows_cannot_be_read_says_so(add: Any, tmp_path: Path) -> None:
    submitted(tmp_path, cells=1)
    add(IDS[0])
    (file,) = (tmp_path / "runs").rglob("*.parquet")
    file.write_text("no Parquet")
    found = gathered(tmp_path, {}, ())
    made = sweeps.section(found)
    assert made is not None and made.status == "0 of 1 cell done"
    (table,) = [block for block in made.blocks if isinstance(block, Table)]
    assert table.rows[0][1] == "its rows cannot be read" and any(IDS[0] in fault for fault in found.faults)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1}', "[" * 5000, "\ud800"])
def test_a_damaged_manifest_is_named_and_hides_nothing(text: str, add: Any, tmp_path: Path) -> None:
    submitted(tmp_path)
    bad = tmp_path / "jobs" / "20261123T000000-bad" / "manifest.json"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(text.encode(errors="surrogatepass"))
    found = gathered(tmp_path, {}, ())
    made = sweeps.section(found)
    assert made is not None and made.status == "0 of 5 cells done"
    assert any("20261123T000000-bad" in fault and "manifest" in fault for fault in found.faults)


def test_a_store_without_sweeps_has_no_such_section(add: Any, tmp_path: Path) -> None:
    add(IDS[0])
    assert sweeps.section(gathered(tmp_path, {}, ())) is None


def test_the_launcher_writes_what_is_read(tmp_path: Path) -> None:
    """The manifest is the launcher's, and the page has no other knowledge of it than its JSON."""
    made = submitted(tmp_path)
    stored = json.loads((made.folder / "manifest.json").read_text())
    assert stored["version"] == sweeps.VERSION and set(stored) >= {"sweep_id", "words", "cells"}
    assert list(tmp_path.glob(sweeps.MANIFESTS)) == [made.folder / "manifest.json"]


@pytest.mark.parametrize(("age_s", "said"), [(5, "5 s"), (300, "5 min"), (7200, "2 h"), (864000, "10 days")])
def test_an_age_has_a_unit(age_s: int, said: str) -> None:
    assert sweeps._age(timedelta(seconds=age_s).total_seconds()) == said
