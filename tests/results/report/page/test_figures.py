"""Each figure of the page by hand: what is the median of what, which cell is missing, what is said of a change."""

import statistics
from dataclasses import replace
from pathlib import Path

import made_up_year
import pytest
from matplotlib.colors import to_hex

from results.plot import kernels
from results.report.page.blocks import Picture, Table
from results.report.page.build import Page
from results.report.page.evidence import RECENT, Evidence, groups_of, marks_of
from results.report.page.sections import (
    changes,
    grid,
    kernel_floors,
    learning,
    paper,
    scaling,
    step_time,
    systems,
    verdict,
)
from results.report.page.sections.verdict import once
from results.store.files import read_rows
from results.words import RECORD_ROOT

pytestmark = pytest.mark.slow


def rows_of(year: Path, depth: int, shortcut: str) -> list[dict[str, object]]:
    rows = read_rows(year, "runs")[0]
    mine = [row for row in rows if (row["depth"], row["shortcut"]) == (depth, shortcut)]
    return sorted(mine, key=lambda row: row["run_start"])


def alt_of(page: Page, start: str) -> str:
    return next(picture.alt for picture in page.pictures if picture.stem.startswith(start))


def test_a_map_shows_the_median_of_the_last_completed_runs(page: Page, year: Path) -> None:
    alt = alt_of(page, "cells-images-per-s")
    for depth, shortcut in ((20, "A"), (56, "B"), (44, "A")):
        rates = [row["images_per_s"] for row in rows_of(year, depth, shortcut) if row["status"] == "completed"]
        value = statistics.median(rates[-RECENT:])  # type: ignore[type-var]
        assert f"ResNet-{depth} with shortcut {shortcut} {value:,.0f}" in alt
    rates = [row["images_per_s"] for row in rows_of(year, 110, "C") if row["status"] == "completed"]
    assert f"ResNet-110 with shortcut C {statistics.median(rates[-RECENT:]):,.0f}" in alt  # type: ignore[type-var]
    tops = [row["final_top1"] for row in rows_of(year, 32, "C")]
    assert f"ResNet-32 with shortcut C {100 * statistics.median(tops[-RECENT:]):.2f}" in alt_of(page, "cells-final")  # type: ignore[operator,type-var]


def test_a_cell_of_which_no_run_completed_or_none_is_there_says_so(evidence: Evidence) -> None:
    failed = [run for run in evidence.runs if not run.completed]
    others = [run for run in evidence.runs if run.row["depth"] == 20 and run.row["shortcut"] != "B"]
    (group,) = groups_of([*others, *failed])
    assert set(group.cells) == {(20, "A"), (20, "C"), (110, "C")}
    picture = grid._picture(evidence, group, grid.MAPS[0], {})
    assert picture is not None
    assert "ResNet-110 with shortcut A missing" in picture.alt and "ResNet-110 with shortcut C failed" in picture.alt
    assert "old figure" not in picture.alt
    # Where it has a figure of before, that is shown as what it is.
    (group,) = groups_of(evidence.training)
    picture = grid._picture(evidence, group, grid.MAPS[0], {(group.cells[44, "A"][-1].key, ""): grid.STALE})
    assert picture is not None and picture.alt.count("(an old figure)") == 2
    for net in ("ResNet-110 with shortcut C", "ResNet-44 with shortcut A"):
        assert "(an old figure)" in picture.alt.partition(net)[2].partition(";")[0]


def test_a_regression_is_marked_in_its_cell_alone(evidence: Evidence) -> None:
    (group,) = groups_of(evidence.training)
    key = group.cells[56, "B"][-1].key
    picture = grid._picture(evidence, group, grid.MAPS[0], {(key, "images_per_s"): grid.WORSE})
    assert picture is not None and picture.alt.count("(regression)") == 1
    assert picture.alt.partition("(regression)")[0].rpartition(";")[2].startswith(" ResNet-56 with shortcut B")
    other = grid._picture(evidence, group, grid.MAPS[1], {(key, "images_per_s"): grid.WORSE})
    assert other is not None and "(regression)" not in other.alt


def test_what_the_check_suspects_and_what_is_old_is_marked_on_the_page(page: Page) -> None:
    alt = alt_of(page, "cells-images-per-s")
    assert alt.count("(suspected regression)") == 1 and "(regression)" not in alt
    assert "(suspected regression)" in alt.partition("ResNet-56 with shortcut B")[2].partition(";")[0]
    assert alt.count("(an old figure)") == 2  # that which failed, and that which was not measured
    assert "(suspected" not in alt_of(page, "cells-final")


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_on_a_cell_of_a_map_can_be_read() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )
    for place in range(101):
        color = to_hex(grid.COLORS(0.15 + 0.85 * place / 100))
        assert contrast(color, grid._readable(color)) >= 4.5, color


def test_lighter_is_better_on_each_map(evidence: Evidence) -> None:
    (group,) = groups_of(evidence.training)
    for map_, best in ((grid.MAPS[0], (20, max)), (grid.MAPS[2], (110, min))):
        picture = grid._picture(evidence, group, map_, {})
        assert picture is not None
        patches = [patch for patch in picture.figure.axes[0].patches if not patch.get_hatch()]
        light = {sum(patch.get_facecolor()[:3]): patch.get_y() for patch in patches}
        depths = sorted({depth for depth, _ in group.cells})
        values = {depth: grid.cell_of(group.cells[depth, "A"], map_.metric)[0] for depth in depths}
        best_depth = best[1](values, key=lambda depth: values[depth])  # type: ignore[operator]
        assert depths[int(light[max(light)])] == best_depth


def test_the_fastest_net_is_that_with_the_least_median_time(evidence: Evidence, year: Path) -> None:
    said = grid._fastest(evidence, groups_of(evidence.training))
    times = {
        (depth, shortcut): statistics.median([row["tta_s"] for row in rows_of(year, depth, shortcut)][-RECENT:])  # type: ignore[type-var]
        for depth, shortcut in {(row["depth"], row["shortcut"]) for row in read_rows(year, "runs")[0]}
        if (depth, shortcut) != made_up_year.FAILING
    }
    depth, shortcut = min(times, key=lambda cell: times[cell])
    assert said.startswith(
        f"Fastest to top-1 0.9: ResNet-{depth} with shortcut {shortcut}, {times[depth, shortcut]:,.1f} s"
    )
    assert "of 14 nets that reached it" in said  # the newest run of one failed


def test_groups_never_mix_settings(evidence: Evidence) -> None:
    """Another precision, machine or data make another map; depth, shortcut and seed do not."""
    runs = evidence.training
    assert len(groups_of(runs)) == 1
    for part, value in (
        ("processors", "8xB200"),
        ("data", {"sample": "other", "hash": "1"}),
        ("software", {"torch": "3"}),
    ):
        changed = [type(run)(run.row, run.root, {**run.parts, part: value}, run.key + part) for run in runs[:9]]
        both = groups_of([*runs, *changed])
        assert len(both) == 2 and sorted(len(group.runs) for group in both) == [9, len(runs)]
        assert len({group.label for group in both}) == 2


def test_learning_has_the_latest_run_of_each_seed(evidence: Evidence) -> None:
    (group,) = groups_of(evidence.training)
    chosen = learning._of_each_seed(group.cells[20, "A"])
    assert sorted(run.row["seed"] for run in chosen) == list(made_up_year.SEEDS)
    newest = max(run.started for run in group.cells[20, "A"])
    assert all((newest - run.started).days == 0 for run in chosen)


def test_of_many_seeds_the_latest_are_drawn(evidence: Evidence) -> None:
    runs = [run for run in evidence.runs if (run.row["depth"], run.row["shortcut"]) == (20, "A")][:7]
    seeds = (1, 2, 3, 4, 5, 6, 1)
    runs = [
        type(run)({**run.row, "seed": seed}, run.root, run.parts, run.key)
        for run, seed in zip(runs, seeds, strict=True)
    ]
    assert learning._of_each_seed(runs) == runs[2:]


@pytest.mark.parametrize(
    ("column", "value", "mark"),
    [
        ("synthetic", True, "SYNTHETIC images"), ("loader", "synthetic", "SYNTHETIC images"),
        ("scale", "small", "REDUCED (scale=small)"), ("node_shared", True, "SHARED NODE"), ("mixed", "{}", "MIXED"),
        ("resumed_from", "r.0", "resumed: its clock includes the interruption"),
        ("restart_count", 1, "resumed: its clock includes the interruption"),
        ("recovered", True, "recovered from its journal"), ("dirty", True, "changed code"),
    ],
)  # fmt: skip
def test_what_must_be_seen_beside_a_figure(evidence: Evidence, column: str, value: object, mark: str) -> None:
    run = evidence.runs[0]
    assert marks_of(run) == []
    marked = type(run)({**run.row, column: value}, run.root, run.parts, run.key)
    assert marks_of(marked) == [mark]
    found = Evidence(root=evidence.root, made=evidence.made, runs=[marked])
    (alone,) = [block for block in grid.section(found).blocks if isinstance(block, Table)]
    assert mark in alone.rows[0][1]
    other = type(run)({**marked.row, "depth": 32, "run_id": "other"}, run.root, run.parts, run.key + "32")
    found = Evidence(root=evidence.root, made=evidence.made, runs=[marked, other])
    pictures = [block for block in grid.section(found).blocks if isinstance(block, Picture)]
    assert pictures and all(mark in picture.note for picture in pictures)


def test_the_median_of_curves_is_by_epoch() -> None:
    curves = [[{"epoch": 1, "elapsed_s": t, "top1": v}, {"epoch": 2, "elapsed_s": 2 * t, "top1": w}]
              for t, v, w in ((1.0, 0.1, 0.5), (2.0, 0.3, 0.4), (9.0, 0.2, 0.9))]  # fmt: skip
    assert learning._median(curves, "elapsed_s", "top1") == [(2.0, 0.2), (4.0, 0.5)]
    curves[0][1]["top1"] = None  # what is not known of all is no median of all
    assert learning._median(curves, "elapsed_s", "top1") == [(2.0, 0.2)]


def test_errors_are_those_of_the_last_epoch(page: Page, year: Path) -> None:
    alt = alt_of(page, "errors-20-")
    newest = [row["run_id"] for row in rows_of(year, 20, "A")[-3:]]
    epochs = [row for row in read_rows(year, "epochs", newest)[0] if row["epoch"] == 163]  # type: ignore[arg-type]
    test = 100 * (1 - statistics.median(row["top1"] for row in epochs))
    training = 100 * (1 - statistics.median(row["train_top1"] for row in epochs))
    assert f"shortcut A, test error {test:.2f}% in the end" in alt
    assert f"shortcut A, training error {training:.2f}% in the end" in alt


def test_efficiency_is_over_the_smallest_world(evidence: Evidence) -> None:
    runs = [run for run in evidence.runs if (run.row["depth"], run.row["shortcut"]) == (20, "A")][:6]
    wide = []
    for run, rate in zip(runs[:3], (3000.0, 3300.0, 3600.0), strict=True):
        config = {**run.parts["configuration"], "nodes": 2}
        row = {**run.row, "world_size": 4, "nodes": 2, "images_per_s": rate}
        wide.append(type(run)(row, run.root, {**run.parts, "configuration": config}, run.key + "wide"))
    narrow = [type(run)({**run.row, "images_per_s": 2000.0}, run.root, run.parts, run.key) for run in runs[3:]]
    found = Evidence(root=evidence.root, made=evidence.made, runs=[*narrow, *wide])
    section = scaling.section(found)
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [row[1:6] for row in table.rows] == [("2", "1", "2,000", "100.0%", "3"), ("4", "2", "3,300", "82.5%", "3")]
    assert scaling.section(evidence).status == "one size"


def test_a_change_is_dated_and_said_with_what_changed_beside_it(evidence: Evidence) -> None:
    section = changes.section(evidence)
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    (row,) = [row for row in table.rows if row[1].startswith("resnet56B")]
    assert row[0] == "2026-01-06" and row[4].startswith("-") and 6 < float(row[4].strip("-%")) < 10
    assert "commit" in row[5]


def test_kernels_of_the_record_stand_beside_their_floor() -> None:
    from results.report.page.evidence import gathered

    found = gathered(RECORD_ROOT, {}, ())
    section = kernel_floors.section(found)
    table = next(block for block in section.blocks if isinstance(block, Table) and block.caption.startswith("Ours"))
    rows, _ = read_rows(RECORD_ROOT, "kernels", ["20261126T190000-micro-resnet50-bf16-h200"])
    for place in (0, len(table.rows) - 1):
        label, floor, ours, theirs, ratio = table.rows[place]
        op, shape = label.split("  ")[0], label.split("  ")[1]
        cold = "cold" if label.endswith("cold") else "warm"
        mine = [row for row in rows if row["op"] == op and row["shape"] == shape and row["l2"] == cold]
        mine = [row for row in mine if row["dtype"] in label]
        by = {who: min(row["p50"] for row in mine if (row["backend"] in ("eager", "compile")) == (who == "library"))
              for who in ("library", "ours")}  # fmt: skip
        least = max(
            mine[0]["bytes_min"] / mine[0]["copy_bytes_per_s"], mine[0]["flops"] / mine[0]["matrix_flops_per_s"]
        )
        assert (floor, ours, theirs) == (f"{1e6 * least:.1f}", f"{by['ours']:.1f}", f"{by['library']:.1f}")
        assert ratio == f"{by['library'] / by['ours']:.2f}"
        assert (place in table.marked) == (by["library"] < by["ours"])
    chosen = [block for block in section.blocks if isinstance(block, Table) and "chose for" in block.caption]
    assert chosen and all("torch" in block.caption and sum(int(row[1]) for row in block.rows) == 53 for block in chosen)
    for block in chosen:
        assert all(len(row[0].split()) == int(row[1]) for row in block.rows) and len(block.rows) < 25
    steps = step_time.section(found)
    (times,) = [block for block in steps.blocks if isinstance(block, Table)]
    assert "ResNet-50 B v1.5, batch 256, bf16, 1xNVIDIA H200" in times.caption
    assert any(row[:2] == ("torch", "yes") and row[3].startswith("53.") for row in times.rows)
    assert [float(row[3]) for row in times.rows] == sorted(float(row[3]) for row in times.rows)
    ratios = [float(row[4]) for row in table.rows]
    assert ratios == sorted(ratios)  # where ours is slowest beside the library stands first


def test_the_paper_stands_beside_runs_of_its_own_recipe_alone(evidence: Evidence) -> None:
    section = paper.section(evidence)
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert {row[0] for row in table.rows} >= {"ResNet-20", "ResNet-56"}
    mine = [row for row in table.rows if row[:2] == ("ResNet-20", "top-1 error")]
    assert mine[0][2:4] == ("8.75 (Table 6)", "missing") and mine[1][2] == "-"
    assert "images are made-up images, not the paper's: not comparable" in mine[1][5] and mine[1][4] == "3: 1, 2, 3"
    heads = [column.head for column in table.columns]
    assert heads[:4] == ["system", "metric", "published", "measured"]


def test_systems_that_do_not_differ_have_no_changes(evidence: Evidence) -> None:
    alike = Evidence(root=evidence.root, made=evidence.made, runs=evidence.runs[:45])
    assert systems.changes(alike) == [] and len(systems.changes(evidence)) == 1


def test_a_night_and_the_nights_before_it_are_one_line_where_they_agree(evidence: Evidence) -> None:
    shown = once(evidence.findings)
    assert len({(one.cell, one.verdict, one.metric, one.kernel, one.against) for one in shown}) == len(shown)
    assert len(shown) < len(evidence.findings)
    assert {one.key for one in shown} == {one.key for one in evidence.findings}


def test_a_history_is_drawn_from_enough_before_its_last_change(evidence: Evidence) -> None:
    (history,) = [one for one in evidence.changed if one.label.startswith("resnet56B")]
    before, after = history.segments
    many = replace(history, segments=[replace(before, points=before.points * 30), after])
    shown = changes._shown(many)
    assert [len(segment.points) for segment in shown] == [changes.MOST_DRAWN - len(after.points), len(after.points)]
    assert shown[0].points[-1] is before.points[-1] and shown[1].points == after.points
    assert changes._shown(history) == history.segments
    # A change of long ago is shown with as much before it as after it.
    old = replace(
        history, segments=[replace(before, points=before.points * 30), replace(after, points=after.points * 20)]
    )
    assert len(changes._shown(old)[0].points) == len(after.points) * 20


def test_changes_of_a_system_are_those_of_one_host(evidence: Evidence) -> None:
    """Two nodes of a kind, used in turn, are no change; where the host is not known what hosts differ in is none."""
    runs = evidence.runs[:4]
    base = evidence.systems[runs[0].run_id]

    def found(rows: list[dict[str, object]]) -> Evidence:
        made = Evidence(root=evidence.root, made=evidence.made, runs=runs)
        own = [{**base, **row, "system_id": str(place)} for place, row in enumerate(rows)]
        made.__dict__["systems"] = {run.run_id: row for run, row in zip(runs, own, strict=True)}
        return made

    turns = [{"hostname": f"n{place % 2}", "driver": str(place % 2)} for place in range(4)]
    assert systems.changes(found(turns)) == []
    (change,) = systems.changes(found([*turns[:3], {"hostname": "n1", "driver": "2"}]))
    assert change[1:3] == ("n1", "driver from 1 to 2")
    nameless = [{"hostname": None, "memory_bytes": place, "torch": str(place // 2)} for place in range(4)]
    (change,) = systems.changes(found(nameless))
    assert change[1:3] == ("not recorded", "torch from 0 to 1")


def test_bytes_are_shown_in_gib(evidence: Evidence) -> None:
    one = next(one for one in evidence.findings if one.metric == "peak_mem_bytes")
    made = replace(one, candidate_median=3 * 2**29, baseline_median=2**30, unit="bytes")
    assert verdict._medians(made) == "1.500 against 1.000 GiB"
    assert systems._shown({"memory_bytes": 3 * 2**29}, "memory_bytes") == "1.5 GiB"


def test_kernels_farthest_from_their_floor_come_first() -> None:
    def point(label: str, backend: str, time_s: float) -> kernels.Point:
        return kernels.Point(label=label, op="o", dtype="bf16", backend=backend, cold=True, time_s=time_s, bytes_min=1,
                             flops=0, copy_bytes_per_s=1.0, flops_per_s=1.0)  # fmt: skip

    points = [point("near", "triton", 1.2), point("far", "triton", 3.0), point("near", "eager", 9.0),
              point("twice", "triton", 8.0), point("twice", "ours2", 2.0), point("theirs", "eager", 5.0)]  # fmt: skip
    assert kernel_floors._farthest(points) == ["far", "twice", "near", "theirs"]


def test_seconds_of_runs_that_began_alike_have_ids_of_their_own(evidence: Evidence) -> None:
    run = evidence.runs[0]
    names = ["20261126T190000-micro-resnet50-bf16-h200", "20261126T160000-micro-resnet50-bf16-h200", "x-0000abcd"]
    runs = [type(run)({**run.row, "run_id": name}, run.root, run.parts, run.key) for name in names]
    ids = Evidence(root=evidence.root, made=evidence.made, runs=runs).ids
    assert [ids[name] for name in names] == [*names[:2], "0000abcd"]
