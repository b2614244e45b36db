"""What is said beside a verdict: intervals, power, and how a suspicion is settled."""

import json
import re
import shlex
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from judging import MAIN, accept, baseline, check, of
from made_up import NEW, OLD, Memory, spread

from results.check.gather import gather
from results.check.judge import judge
from results.check.metrics import METRICS
from results.check.noise import estimate
from results.check.output import commands
from results.check.power import visible
from results.check.screen import SOLE, SUSPECT
from results.check.verdict import Verdict
from results.selection import select
from results.store.journal import OWNER, Owner


def varied(memory: Memory, count: int, commit: str = OLD) -> list[str]:
    """Runs of which every metric varies."""
    return [
        memory.run(
            rate, epochs_to_target=(9, 10, 11)[index % 3], final_top1=0.97 + 0.00001 * rate,
            peak_mem_bytes=int(600_000 * rate), git_commit=commit,
        )
        for index, rate in enumerate(spread(count))
    ]  # fmt: skip


UNKNOWN = r"0\.\d% between allocations, within unknown and taken as large"
POWER = {
    MAIN: (r"drop of 2\.\d%", UNKNOWN),
    "step_ms_p50": (r"rise of 2\.\d%", UNKNOWN),
    "tta_s": (r"rise of 2\.\d%", UNKNOWN),
    "epochs_to_target": (r"rise of 66\.8% or more, or a drop of 54\.4%", r"deviation 14\.1%"),
    "final_top1": (r"drop of 0\.005", r"deviation 0\.000\d"),
    "peak_mem_bytes": (r"rise of 2\.\d%", r"deviation 0\.\d%"),
}


def test_the_power_is_that_of_each_metrics_own_rule(memory: Memory) -> None:
    accept(memory, varied(memory, 20))
    findings = check(memory, varied(memory, 3, NEW))
    rows = [row for row in memory.rows["runs"] if row["git_commit"] == OLD]
    for metric in METRICS:
        one = of(findings, metric.name)
        noise = estimate([row[metric.name] for row in rows], absolute=metric.absolute, whole=not metric.timed)
        assert one.visible == visible(
            noise, 3, 20, floor=metric.floor, rule=SUSPECT if metric.timed else SOLE, higher=metric.better == "higher",
            confirmed=metric.timed, absolute=metric.absolute,
        )  # fmt: skip
        less = visible(noise, 3, 20, floor=metric.floor, rule=SOLE, higher=True, confirmed=False)
        assert one.visible_faster == (less if metric.better == "same" else None) and not one.blind
        what, noise_words = POWER[metric.name]
        comma = "," if metric.better == "same" else ""
        words = rf"could have seen a {what} or more{comma} with 95% \(3 against 20 runs, {noise_words}\)"
        assert re.fullmatch(words, one.power), one.power
        assert (one.unit, one.absolute, one.higher_is_better) == (
            metric.unit, metric.absolute, metric.better == "higher",
        )  # fmt: skip
        assert one.floor is not None and one.floor >= metric.floor


def test_runs_that_differ_too_much_could_have_shown_nothing(memory: Memory) -> None:
    accept(memory, [memory.run(10 ** (1 + index / 4)) for index in range(20)])
    one = of(check(memory, [memory.run(10 ** (3 + index / 4)) for index in range(3)]))
    assert one.visible is None and one.power == (
        "could have seen no drop, however large: 3 against 20 runs differ too much"
    )
    assert one.blind and one.verdict is Verdict.INCONCLUSIVE and one.why.startswith("they say nothing: run more")


def test_one_side_that_cannot_be_seen_is_enough_to_be_blind(memory: Memory) -> None:
    """No run can need fewer than no epochs, so where they differ this much a rise alone can be seen."""
    accept(memory, [memory.run(1000.0, epochs_to_target=4 + 2 * (index % 8)) for index in range(20)])
    one = of(check(memory, [memory.run(1000.0, epochs_to_target=10) for _ in range(3)]), "epochs_to_target")
    assert one.visible is not None and one.visible_faster is None and one.blind


@pytest.mark.parametrize(("pinned", "accepted"), [(10, 20), (20, 5)])
def test_noise_is_that_of_the_longer_history(memory: Memory, pinned: int, accepted: int) -> None:
    rates = {"pinned": spread(pinned, by=0.002), "accepted": spread(accepted, 1001.0, 0.02)}
    accept(memory, [memory.run(rate) for rate in rates["pinned"]], "pin")
    accept(memory, [memory.run(rate) for rate in rates["accepted"]])
    findings = check(memory, [memory.run(rate) for rate in spread(3)])
    for against, size in (("pinned", pinned), ("accepted", accepted)):
        longer = max((rates[against], rates["accepted"]), key=len)
        expected = visible(estimate(longer), 3, size, floor=0.02, rule=SUSPECT, higher=True)
        assert of(findings, against=against).visible == expected


def test_what_is_only_pinned_has_the_noise_of_its_pin_and_no_fault(memory: Memory) -> None:
    rates = spread(10, by=0.002)
    accept(memory, [memory.run(rate) for rate in rates], "pin")
    ids = [memory.run(rate) for rate in spread(3)]
    evidence = gather(memory.root, ids, now=memory.now)
    findings = judge(evidence)
    assert {one.against for one in findings} == {"pinned"} and not evidence.faults
    one = of(findings, against="pinned")
    assert one.visible == visible(estimate(rates), 3, 10, floor=0.02, rule=SUSPECT, higher=True)


@pytest.mark.parametrize("around", [950.0, 1050.0])
def test_p_is_of_the_direction_in_which_the_runs_differ(memory: Memory, around: float) -> None:
    baseline(memory)
    one = of(check(memory, [memory.run(rate) for rate in spread(3, around, 0.001)]))
    assert one.p == pytest.approx(1 / 1771) and one.worsening == pytest.approx(1 - around / 1000, abs=0.002)
    assert one.interval and one.interval.ratio == pytest.approx(around / 1000, abs=0.002)


def test_p_of_runs_of_the_same_median_is_that_of_being_worse(memory: Memory) -> None:
    baseline(memory)
    middle = statistics.median(spread(20))
    one = of(check(memory, [memory.run(rate) for rate in (middle * 0.99, middle, middle * 1.0001)]))
    mine, theirs = [middle * 0.99, middle, middle * 1.0001], spread(20)
    worse = scipy.stats.mannwhitneyu(mine, theirs, alternative="less", method="exact").pvalue
    better = scipy.stats.mannwhitneyu(mine, theirs, alternative="greater", method="exact").pvalue
    assert one.worsening == 0 and one.p == pytest.approx(worse) and worse < 0.5 < better


def test_a_figure_that_neither_side_has_is_said_of_the_cell_s_first_alone(memory: Memory) -> None:
    columns = {"peak_mem_bytes": None, "step_ms_p50": 40.0}
    accept(memory, [memory.run(None, **columns) for _ in range(4)])
    for _ in range(3):
        memory.run(None, **columns)
    findings = check(memory)
    assert [one.metric for one in findings if one.why.startswith("nothing measured")] == [MAIN]
    assert "peak_mem_bytes" not in {one.metric for one in findings}


def test_what_neither_side_has_for_no_fault_is_not_named_as_one(memory: Memory) -> None:
    columns = {"tta_s": None, "epochs_to_target": None, "final_top1": None, "target_top1": None}
    baseline(memory, **columns)
    evidence = gather(memory.root, [memory.run(rate, **columns) for rate in spread(3)], now=memory.now)
    assert {one.metric for one in judge(evidence)} == {MAIN, "step_ms_p50", "peak_mem_bytes"}
    assert not [text for text in evidence.faults if "the baseline has none" in text], evidence.faults


@pytest.mark.parametrize(("drop", "verdict"), [(0.004, Verdict.PASS), (0.006, Verdict.REGRESSION)])
def test_the_floor_of_accuracy_is_in_points_whatever_the_accuracy(
    memory: Memory, drop: float, verdict: Verdict
) -> None:
    """Of an accuracy of a tenth, four thousandths are 4%, and still less than half a point."""
    accept(memory, [memory.run(1000.0, final_top1=0.1 + 0.00001 * index) for index in range(20)])
    one = of(check(memory, [memory.run(1000.0, final_top1=0.1 - drop) for _ in range(3)]), "final_top1")
    assert (one.verdict, one.absolute) == (verdict, True), one


@pytest.mark.parametrize("columns", [{"final_top1": 0.0}, {"tta_s": None}])
def test_there_is_no_ratio_of_nothing_nor_of_what_was_not_reached(memory: Memory, columns: dict[str, Any]) -> None:
    baseline(memory)
    ids = [memory.run(rate, **(columns if index else {})) for index, rate in enumerate(spread(3))]
    findings = check(memory, ids)
    assert {one.metric for one in findings if one.interval is None} == set(columns)


def test_some_runs_without_a_value_are_named_where_too_few_are_left(memory: Memory) -> None:
    baseline(memory)
    bad = memory.run(images_per_s=None, null_reasons={"images_per_s": "too short"})
    for rate in spread(2):
        memory.run(rate)
    assert of(check(memory)).why == (
        f"runs of 2 allocations; 3 in allocations of their own are needed; 1 without a value: too short ({bad})"
    )


def test_a_baseline_without_a_value_is_named(memory: Memory) -> None:
    ids = [memory.run(None) for _ in range(4)]
    accept(memory, ids)
    one = of(check(memory, [memory.run(rate) for rate in spread(3)]))
    assert one.verdict is Verdict.NOT_COMPARABLE and one.candidate_median is not None
    assert one.why == f"the baseline has no {MAIN}: no value ({ids[0]})"


@pytest.mark.parametrize(
    ("runs", "resumed", "why", "judged"),
    [
        (3, 0, "", True),
        (3, 1, "not judged: 1 of 3 runs were resumed, and their clocks have the pause", False),
        (3, 2, "not judged: 2 of 3 runs were resumed, and their clocks have the pause", False),
        (4, 1, "1 without a value: the run was resumed, and its clock has the pause (", True),
        (5, 2, "2 without a value: the run was resumed, and its clock has the pause (", True),
    ],
)
def test_what_a_resumed_run_leaves_of_a_time_is_said(
    memory: Memory, runs: int, resumed: int, why: str, judged: bool
) -> None:
    baseline(memory)
    for index, rate in enumerate(spread(runs)):
        memory.run(rate, restart_count=int(index < resumed))
    one = of(check(memory), "tta_s")
    assert one.verdict is Verdict.PASS and one.why.startswith(why) and bool(one.why) == bool(why)
    assert (one.p is not None) == judged and len(one.candidates) == runs - resumed


def test_too_few_runs_are_too_few_whether_one_was_resumed_or_not(memory: Memory) -> None:
    baseline(memory)
    memory.run(1000.0, restart_count=1)
    memory.run(1001.0)
    assert of(check(memory), "tta_s").verdict is Verdict.INCONCLUSIVE


def test_the_command_has_the_configuration_as_it_is_written_on_a_command_line(memory: Memory) -> None:
    config = {"recipe": {"name": "paper", "lr": 0.1}, "nesterov": True, "fused": False, "warmup": None}
    baseline(memory, config=config)
    for rate in spread(3, 950.0, 0.001):
        memory.run(rate, config=config, git_commit=NEW)
    words = of(check(memory)).confirm_with.split()
    assert words[:5] == ["python", "-m", "bench.pairs", f"a=commit:{OLD[:12]}", f"b=commit:{NEW[:12]}"]
    assert {"recipe=paper", "nesterov=true", "fused=false", "depth=20", "shortcut=A"} <= set(words)
    assert not [word for word in words if word.startswith(("warmup", "seed"))]
    assert words[-2:] == [f"metric={MAIN}", f"results={memory.root.resolve()}"]


def test_the_command_is_against_the_last_clean_commit_that_is_another(memory: Memory) -> None:
    ids = [memory.run(rate, git_commit="e" * 40) for rate in spread(18)]
    ids += [memory.run(), memory.run(1001.0, git_commit="d" * 40, dirty=True), memory.run(1002.0, git_commit=NEW)]
    accept(memory, ids)
    memory.count += 48
    for rate in spread(3, 950.0, 0.001):
        memory.run(rate, git_commit=NEW)
    assert f" a=commit:{OLD[:12]} b=commit:{NEW[:12]} " in of(check(memory)).confirm_with


def test_a_baseline_of_a_checkout_with_changes_says_so(memory: Memory) -> None:
    held = baseline(memory, dirty=True)
    for rate in spread(3, 950.0, 0.001):
        memory.run(rate, git_commit=NEW)
    one = of(check(memory))
    assert f"the baseline {held[-1]} is of a checkout with changes" in one.why and one.confirm_with == ""


def test_there_are_no_pairs_of_other_benchmarks(memory: Memory) -> None:
    baseline(memory, benchmark="step")
    for rate in spread(3, 950.0, 0.001):
        memory.run(rate, benchmark="step", git_commit=NEW)
    one = of(check(memory))
    assert "bench.pairs runs no pairs of step" in one.why and one.confirm_with == ""


def test_the_last_unfinished_pairs_are_named(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    memory.pairs([0.05] * 5)
    later = memory.pairs([0.05] * 2)
    assert of(check(memory, ids)).why == f"suspected; {later} ended after 7 of 8 pairs; confirm it with the command"


@pytest.mark.parametrize(("metric", "columns"), [("tta_s", {"tta_s": None}), ("step_ms_p50", {"step_ms_p50": None})])
def test_a_pair_without_the_figure_ends_the_pairs(memory: Memory, metric: str, columns: dict[str, Any]) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 900.0, 0.001)]
    name = memory.pairs([0.1] * 8)
    third = [row for row in memory.rows["pairs"] if row["pair"] == 3 and row["side"] == "b"][0]["run_id"]
    next(row for row in memory.rows["runs"] if row["run_id"] == third).update(columns)
    one = of(check(memory, ids), metric)
    assert (
        one.verdict is Verdict.INCONCLUSIVE
        and one.confirm_with == ""
        and one.why
        == (
            f"suspected; pair 3 of {name} has no {metric}, and only those before it count, 2 of 8 pairs; "
            f"they confirm {MAIN}, and need not run again"
        )
    )
    assert of(check(memory, ids)).verdict is Verdict.REGRESSION


def test_a_pair_of_which_a_run_was_killed_ends_the_pairs_whatever_it_measured(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 900.0, 0.001)]
    name = memory.pairs([0.1] * 8)
    third = [row for row in memory.rows["pairs"] if row["pair"] == 3 and row["side"] == "b"][0]["run_id"]
    next(row for row in memory.rows["runs"] if row["run_id"] == third)["status"] = "killed"
    one = of(check(memory, ids))
    assert one.verdict is Verdict.INCONCLUSIVE and one.confirmation is not None and one.confirmation.pairs == 2
    assert one.why.startswith(
        f"suspected; pair 3 of {name} has no {MAIN}, and only those before it count, 2 of 8 pairs"
    )


def test_what_no_metric_is_confirmed_by_is_to_be_paired_again(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 900.0, 0.001)]
    memory.pairs([0.1] * 8, tta_s=None)
    memory.rows["pairs"] = [row for row in memory.rows["pairs"] if row["pair"] <= 5]
    one = of(check(memory, ids), "tta_s")
    assert one.why.endswith("only those before it count, 0 of 8 pairs; confirm it with the command")
    assert one.confirm_with and of(check(memory, ids)).why.endswith(
        "ended after 5 of 8 pairs; confirm it with the command"
    )


@pytest.mark.parametrize("where", ["here", "elsewhere", "dead"])
def test_pairs_that_still_run_have_not_ended(memory: Memory, where: str) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    name = memory.pairs([0.05] * 5)
    owner = asdict(Owner.of_this_process())
    owner |= {"elsewhere": {"hostname": "other"}, "dead": {"started": "1"}}.get(where, {})
    folder = memory.root / "jobs" / name
    folder.mkdir(parents=True)
    (folder / OWNER).write_text(json.dumps(owner))
    one = of(check(memory, ids))
    why, command = {
        "here": (f"{name} still runs, 5 of 8 pairs so far: check again once it has ended", False),
        "elsewhere": (f"{name} may still run on other, 5 of 8 pairs so far; confirm it with the command", True),
        "dead": (f"{name} ended after 5 of 8 pairs; confirm it with the command", True),
    }[where]
    assert one.verdict is Verdict.INCONCLUSIVE and one.why == f"suspected; {why}" and bool(one.confirm_with) == command


@pytest.mark.parametrize(("benchmark", "commit"), [("training", OLD), ("step", NEW)])
def test_what_pairs_cannot_settle_has_the_whole_command_that_compares(
    memory: Memory, benchmark: str, commit: str
) -> None:
    held = baseline(memory, benchmark=benchmark)
    ids = [memory.run(rate, git_commit=commit, benchmark=benchmark) for rate in spread(3, 950.0, 0.001)]
    findings = check(memory, ids)
    one = of(findings)
    assert one.verdict is Verdict.INCONCLUSIVE and one.confirm_with == "" and "measure more runs" in one.why
    (line,) = commands(findings, "py")
    program, *words = shlex.split(line)
    assert (program, words[:2]) == ("py", ["-m", "results.compare"])
    root = Path(words[-1].removeprefix("results="))
    a, b = ([found.run_ids for found in select("A", side.split(","), root)] for side in words[2:4])
    assert (a, b) == ([sorted(held)], [sorted(ids)]) and len(words) == 5


def test_the_command_names_runs_whose_end_another_has_by_their_whole_id(memory: Memory) -> None:
    held = baseline(memory)
    twin = memory.run(run_id=f"20261101T000000-other-{held[0][-8:]}")
    ids = [memory.run(rate) for rate in spread(3, 950.0, 0.001)]
    a = shlex.split(of(check(memory, ids)).compare_with)[3].split(",")
    assert a == [held[0], *(one[-8:] for one in held[1:])] and twin


def test_a_pin_of_too_few_asks_for_pinned_runs(memory: Memory) -> None:
    held = baseline(memory)
    accept(memory, held[:5], "pin")
    one = of(check(memory, [memory.run(rate) for rate in spread(3)]), "final_top1", "pinned")
    assert one.why.endswith("; 7 pinned runs are needed")


def test_runs_on_both_sides_are_no_lack_of_a_baseline(memory: Memory) -> None:
    held = baseline(memory)
    for words in ({"baseline": held}, {}):
        (one,) = check(memory, held, **words)
        assert one.verdict is Verdict.NOT_COMPARABLE
        assert one.why == "the baseline's runs are the candidate's: name others by candidate= or baseline="
    other = [memory.run(config={"lr": 0.2}) for _ in range(3)]
    (one, *_) = check(memory, other, baseline=[memory.run(status="failed")])
    assert one.why.startswith("no baseline: ")


@pytest.mark.parametrize(("which", "pair"), [(0, 1), (1, 1), (-2, 8), (-1, 8)])
def test_pairs_of_which_a_run_is_lost_settle_nothing(memory: Memory, which: int, pair: int) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    name = memory.pairs([0.05] * 8)
    lost = memory.rows["pairs"][which]["run_id"]
    memory.rows["runs"] = [row for row in memory.rows["runs"] if row["run_id"] != lost]
    counted = f"pair {pair} of {name} has no images_per_s, and only those before it count, {pair - 1} of 8 pairs"
    assert of(check(memory, ids)).why == f"suspected; {counted}; confirm it with the command"


def test_half_a_pair_is_no_set_of_pairs(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    half = {"pairs_id": "half", "pair": 1, "side": "a", "run_id": memory.run(), "restart": 0}
    memory.write("pairs", [half], "half")
    assert of(check(memory, ids)).why == "suspected; confirm it with the command"


def test_pairs_of_another_cell_say_nothing_of_the_noise_of_this_one(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    memory.pairs([0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008], config={"lr": 0.2})
    assert "within unknown" in of(check(memory, ids)).power
