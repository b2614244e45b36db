"""Runs that a page could misread: of other nights or of the future, stopped, half at their target, ill named."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import reading

from results.check.baselines import append
from results.check.verdict import Verdict
from results.report import command
from results.report.page.blocks import Picture, Section, Table, Words
from results.report.page.build import page_of
from results.report.page.evidence import Evidence, gathered, groups_of
from results.report.page.sections import grid, learning, scaling, verdict
from results.report.page.tables import html_of
from results.words import ConfigError

pytestmark = pytest.mark.slow

FIRST = datetime(2026, 11, 1, 2, tzinfo=UTC)
RATE = {"images_per_s": 1000.0, "step_ms_p50": 5.0}


def named(night: int, seed: int, net: str = "resnet20A") -> str:
    return f"{FIRST + timedelta(days=night):%Y%m%dT%H%M%S}-{net}-digits-{100 * night + seed:08x}"


@pytest.fixture
def nights(add: Any) -> Callable[..., list[str]]:
    """Writes three runs a night: by night their rate, or what ended them."""

    def write(*each: float | str, **more: Any) -> list[str]:
        ids = []
        for night, value in enumerate(each):
            for seed in range(3):
                run_id = named(night, seed)
                start = FIRST + timedelta(days=night, minutes=seed)
                row = {"run_start": start, "seed": seed, "git_commit": f"{night:040x}", "dirty": False, **more}
                if isinstance(value, str):
                    add(run_id, status="failed" if value == "oom" else "killed",
                        figures={"failure_kind": value, "failure_message": value}, **row)  # fmt: skip
                else:
                    add(run_id, figures={**FIGURES, "images_per_s": value + seed}, **row)
                ids.append(run_id)
        return ids

    return write


FIGURES = {
    "images_per_s": 1000.0, "final_top1": 0.9, "best_top1": 0.9, "step_ms_p50": 5.0, "step_ms_p95": 6.0,
    "elapsed_s": 20.0, "active_s": 20.0, "train_s": 18.0, "data_wait_frac": 0.1, "steps_completed": 30,
    "peak_mem_bytes": 2**30, "instrumentation_s": 0.1, "tta_s": 10.0, "epochs_to_target": 2,
    "null_reasons": {"mfu": "CPU", "energy_j": "none"},
}  # fmt: skip


def accept(root: Path, ids: list[str]) -> None:
    found = gathered(root, {}, ())
    keys: dict[str, list[str]] = {}
    for run_id in ids:
        keys.setdefault(found.by_id[run_id].key, []).append(run_id)
    append(root, "accept", keys, reason="test")


def leads(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Words) and block.kind == "lead"]


def test_a_page_of_an_old_store_is_that_of_its_newest_night(nights: Any, tmp_path: Path) -> None:
    """Whenever it is made: a failure of that night is in its first lines."""
    ids = nights(1000.0, 1000.0, "oom")
    accept(tmp_path, ids[:6])
    newest = FIRST + timedelta(days=2)
    said = []
    for later in (timedelta(hours=2), timedelta(days=14), timedelta(days=400)):
        section = verdict.section(gathered(tmp_path, {}, (), now=newest + later))
        said.append((section.status, leads(section)))
    assert said[0] == said[1] == said[2] and said[0][0] == "1 failed" and said[0][1][0].startswith("Failed: resnet20A")


def test_what_somebody_stopped_did_not_fail(nights: Any, tmp_path: Path) -> None:
    accept(tmp_path, nights(1000.0, 1000.0, "interrupted")[:6])
    section = verdict.section(gathered(tmp_path, {}, (), now=FIRST + timedelta(days=3)))
    assert "failed" not in section.status and not any(line.startswith("Failed") for line in leads(section))


def test_a_change_for_the_better_is_no_date_of_a_regression(nights: Any, tmp_path: Path) -> None:
    accept(tmp_path, nights(1000.0, 1000.0, 930.0, 930.0, 930.0, 1000.0, 1000.0, 1000.0, 1000.0)[:6])
    found = gathered(tmp_path, {}, (), now=FIRST + timedelta(days=9))
    (history,) = found.changed
    up = history.segments[-1]
    assert up.change is not None and up.change > 0
    finding = next(iter(found.findings))
    made = type(finding)(**{**vars(finding), "metric": "images_per_s", "candidates": [up.points[0].run.run_id]})
    assert verdict._since(made, found) == ""
    history.segments = history.segments[:-1]
    down = history.segments[-1]
    made = type(finding)(**{**vars(made), "candidates": [down.points[0].run.run_id]})
    assert verdict._since(made, found) == f", seen since {down.points[0].when:%Y-%m-%d}"


def test_a_regression_is_said_before_a_suspicion_of_the_same_cell(nights: Any, tmp_path: Path) -> None:
    accept(tmp_path, nights(1000.0, 1000.0)[:3])
    found = gathered(tmp_path, {}, (), now=FIRST + timedelta(days=3))
    one = next(iter(found.findings))
    suspect = type(one)(
        **{
            **vars(one),
            "metric": "step_ms_p50",
            "verdict": Verdict.INCONCLUSIVE,
            "confirm_with": "python -m bench.pairs a=x b=y results=z",
        }
    )
    worse = type(one)(**{**vars(one), "metric": "images_per_s", "verdict": Verdict.REGRESSION, "confirm_with": ""})
    found.findings = [suspect, worse]
    section = verdict.section(found)
    assert section.status == "1 regression"
    assert [line.partition(":")[0] for line in leads(section)] == ["Regression"]


def test_a_cell_that_is_alone_has_its_marks(nights: Any, tmp_path: Path) -> None:
    accept(tmp_path, nights(1000.0, "oom")[:3])
    made = grid.section(gathered(tmp_path, {}, (), now=FIRST + timedelta(days=2)))
    (alone,) = [block for block in made.blocks if isinstance(block, Table)]
    assert alone.rows[0][2] == f"1,001 {grid.STALE}"
    found = gathered(tmp_path, {}, (), now=FIRST + timedelta(days=2))
    found.runs = found.runs[:3]
    one = next(iter(found.findings))
    key = found.runs[-1].key
    found.findings = [type(one)(**{**vars(one), "key": key, "metric": "images_per_s", "verdict": Verdict.REGRESSION})]
    (alone,) = [block for block in grid.section(found).blocks if isinstance(block, Table)]
    assert alone.rows[0][2] == f"1,001 {grid.WORSE}"


def test_time_to_a_target_that_few_reached_is_no_time(evidence: Evidence) -> None:
    (group,) = groups_of(evidence.training)
    runs = group.cells[20, "A"][-5:]
    missed = [type(run)({**run.row, "tta_s": None}, run.root, run.parts, run.key) for run in runs]
    assert grid.cell_of([*missed[:3], *runs[3:]], "tta_s") == (None, [])
    value, of = grid.cell_of([*missed[:2], *runs[2:]], "tta_s")
    assert value == max(run.row["tta_s"] for run in runs[2:]) and len(of) == 5  # the third of five
    synthetic = [type(run)({**run.row, "synthetic": True, "tta_s": None}, run.root, run.parts, run.key) for run in runs]
    found = Evidence(root=evidence.root, made=evidence.made, runs=synthetic)
    (alone,) = [block for block in grid.section(found).blocks if isinstance(block, Table)]
    assert alone.rows[0][4].startswith("none")


def test_runs_of_the_future_are_in_no_figure_and_said(nights: Any, add: Any, tmp_path: Path) -> None:
    nights(1000.0, 1000.0)
    add("20310101T000000-resnet20A-digits-0000dead", run_start=datetime(2031, 1, 1, tzinfo=UTC), seed=9,
        figures={**FIGURES, "images_per_s": 3000.0})  # fmt: skip
    found = gathered(tmp_path, {}, (), now=FIRST + timedelta(days=3))
    assert len(found.runs) == 6 and not any("2031" in run.run_id for run in found.runs)
    assert any("1 run said to begin after 2026-11-04" in fault and "0000dead" in fault for fault in found.faults)


def test_filters_that_mean_nothing_end_as_those_of_the_table(nights: Any, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    nights(1000.0)
    with pytest.raises(ConfigError, match="no runs with depth=9999 in "):
        gathered(tmp_path, {"depth": [9999]}, ())
    assert command.main([f"results={tmp_path}", f"html={tmp_path}/page.html", "depth=9999"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "page.html").exists()
    found = gathered(tmp_path, {"seed": [0]}, ())
    assert "the newest of those chosen" in found.judged
    assert any("were not looked for" in block.text for block in verdict.section(found).blocks
               if isinstance(block, Words))  # fmt: skip


def test_what_ends_early_is_no_end_of_the_others(evidence: Evidence) -> None:
    def curve(epochs: int, top1: float) -> list[dict[str, Any]]:
        return [{"epoch": one, "elapsed_s": float(one), "top1": top1 + one / 100} for one in range(1, epochs + 1)]

    assert learning._median([curve(12, 0.5), curve(9, 0.1), curve(12, 0.7)], "epoch", "top1")[-1][1] == \
        pytest.approx(0.72)  # fmt: skip
    (group,) = groups_of(evidence.training)
    nets = {"A": group.cells[20, "A"][:2]}
    apart = {"A": [[row for row in curve(9, 0.5) if row["epoch"] % 2 == odd] for odd in (0, 1)]}
    picture = learning._over_time(group, 20, nets, apart)
    assert picture is not None
    longest = [row["epoch"] for row in apart["A"][1]]
    assert "after 9.0 s" in picture.alt and longest[-1] == 9


def test_a_run_without_a_date_costs_no_page(nights: Any, add: Any, tmp_path: Path) -> None:
    nights(1000.0, 1000.0, 1000.0)
    add("nodate", run_start=None, init_start=None, seed=7, figures=FIGURES)
    page = page_of(gathered(tmp_path, {}, (), now=FIRST + timedelta(days=3)))
    assert "nodate" not in " ".join(
        run for picture in page.pictures for run in picture.runs if "history" in picture.stem
    )
    reading.check_form(page.html)


def test_runs_that_are_named_alike_have_pictures_of_their_own(add: Any, tmp_path: Path) -> None:
    for night in range(6):
        for depth in (20, 32):
            start = FIRST + timedelta(days=night, hours=depth)
            add(
                f"{start:%Y%m%dT%H%M%S}-nightly", run_start=start, depth=depth, config={"depth": depth}, figures=FIGURES
            )
    page = page_of(gathered(tmp_path, {}, (), now=FIRST + timedelta(days=9)))
    stems = [picture.stem for picture in page.pictures]
    assert len(set(stems)) == len(stems) and sum(stem.startswith("history") for stem in stems) == 2
    reading.check_form(page.html)


@pytest.mark.parametrize(
    "columns",
    [{"precision": "a\x00b"}, {"kernels": "<b>\x1b"}, {"shortcut_of_file": "$\\bad$"}, {"lineage": f"a.0@{'9' * 5000}"},
     {"target_top1": float("nan")}],
)  # fmt: skip
def test_odd_texts_and_numbers_of_rows_cost_no_page(evidence: Evidence, columns: dict[str, Any]) -> None:
    runs = [run for run in evidence.runs if run.row["depth"] == 20][:18]
    if "shortcut_of_file" in columns:
        columns = {"shortcut": columns["shortcut_of_file"]}
    odd = [type(run)({**run.row, **columns}, run.root, run.parts, run.key) for run in runs]
    page = page_of(Evidence(root=evidence.root, made=evidence.made, runs=odd))
    reading.check_form(page.html)
    assert "\x00" not in page.html and "\x1b" not in page.html and "target nan" not in page.html


def test_what_is_no_text_is_written_out_in_tables() -> None:
    from results.report.page.blocks import Column

    table = Table("t", [Column("a")], [("\ud800",), ("b\x07",)], marked=frozenset({1}))
    whole, rest = html_of(table, "t", 0, 2), html_of(table, "r", 1, 2)
    assert "\\ud800" in whole and "\\x07" in whole
    assert whole.count("font-weight: 700") == 1 and rest.count("font-weight: 700") == 1
    assert "font-weight" not in html_of(table, "f", 0, 1)


def test_rows_behind_a_line_that_opens_are_those_that_are_not_in_sight(nights: Any, tmp_path: Path) -> None:
    nights(*[1000.0] * 3)
    page = page_of(gathered(tmp_path, {}, (), now=FIRST + timedelta(days=4)))
    from results.report.page.blocks import Column
    from results.report.page.build import _rendered

    found = gathered(tmp_path, {}, ())
    table = Table("t", [Column("a")], [(f"row{place}",) for place in range(20)])
    shown = _rendered(table, "t", found)
    texts = str(shown["table"]), str(shown["rest"])
    assert [text.count("row1<") for text in texts] == [1, 0] and [text.count("row19<") for text in texts] == [0, 1]
    assert shown["more"] == "8 more rows" and "<summary>" in page.html


def test_efficiency_says_when_its_figures_were_measured(evidence: Evidence) -> None:
    runs = [run for run in evidence.runs if (run.row["depth"], run.row["shortcut"]) == (20, "A")]
    wide = [type(run)({**run.row, "world_size": 4, "nodes": 2}, run.root,
                      {**run.parts, "configuration": {**run.parts["configuration"], "nodes": 2}}, run.key + "w")
            for run in runs[-3:]]  # fmt: skip
    found = Evidence(root=evidence.root, made=evidence.made, runs=[*runs[:4], *wide])
    (table,) = [block for block in scaling.section(found).blocks if isinstance(block, Table)]
    assert [row[6] for row in table.rows] == [
        f"{runs[0].started:%Y-%m-%d} to {runs[3].started:%Y-%m-%d}", f"{runs[-1].started:%Y-%m-%d}",
    ]  # fmt: skip
    assert any(isinstance(block, Picture) for block in scaling.section(found).blocks)
