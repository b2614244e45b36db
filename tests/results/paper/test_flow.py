"""Norms of activations and gradients: whose are shown, of which epochs and attempts, and what is missing."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from bench.training.examination import FLOW_KINDS
from results.paper import flow
from results.store.files import table_path, write_once
from results.store.schema import to_table

WORD = "figure=gradient-flow"
NAMES = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1"]
NORMS = {"activation": [1.0, 0.9, 0.5, 0.8], "output_gradient": [0.4, 0.3, 0.2, 0.1], "weight_gradient": [5, 6, 7, 3.0]}


@pytest.fixture
def look(store):
    """Write the rows that a run leaves after an epoch; words are laid over what is usual."""
    count = 0

    def write(attempt, epoch, norms=NORMS, **row):
        nonlocal count
        count += 1
        usual = {
            "evaluation_id": f"look{count}", "created": datetime(2000, 2, 1, tzinfo=UTC) + timedelta(days=count),
            "trained_by": attempt, "epoch": epoch, "family": "cifar", "depth": 20, "shortcut": "A", "stride": "v1",
            "num_classes": 10, "dataset": "cifar10", "sample": "cifar10", "split": "train", "images": 128,
            "protocol": "whole image", "git_commit": "1" * 40, "dirty": False,
        }  # fmt: skip
        whole = [{**usual, "kind": "response", "stage": 1, "block": 1, "layer": "layer1.0.conv1", "value": 9.0, **row}]
        for place, name in reversed(list(enumerate(NAMES))):  # in no order
            stage, block = (int(one) for one in name[5:].split(".")[:2]) if place else (0, -1)
            at = {"layer": name, "stage": stage, "block": block + 1}
            whole += [{**usual, **at, "kind": kind, "value": values[place], **row} for kind, values in norms.items()]
        path = table_path(store.root, "lesions", "2000-02", f"look{count}", 0)
        write_once(path, [to_table("lesions", whole)])

    return write


def scaled(by):
    return {kind: [by * value for value in values] for kind, values in NORMS.items()}


def test_the_kinds_are_those_that_a_run_writes():
    assert flow.KINDS == FLOW_KINDS


def test_every_layer_of_every_epoch_is_in_the_order_of_the_net(store, look, rows):
    store.train("run", 0.91)
    for epoch, by in ((165, 3.0), (0, 1.0), (64, 2.0)):
        look("run.0", epoch, scaled(by))
    found = rows(WORD, run_id="run")
    assert [(row["epoch"], row["place"], row["layer"]) for row in found] == [
        (epoch, place, name) for epoch in (0, 64, 165) for place, name in enumerate(NAMES, 1)
    ]
    for kind, values in NORMS.items():
        assert [row[kind] for row in found] == [by * value for by in (1.0, 2.0, 3.0) for value in values]
    assert {(row["section"], row["copy"], row["seed"], row["images"]) for row in found} == {("comparable", "", 0, 128)}
    assert {row["system"] for row in rows(WORD, status="missing")} == {
        "plain-20", "plain-56", "plain-110", "ResNet-56", "ResNet-110"
    }  # fmt: skip


def test_a_line_before_training_and_one_of_the_last_epoch(store, look, run):
    store.train("run", 0.91)
    for epoch, by in ((0, 1.0), (64, 2.0), (165, 3.0)):
        look("run.0", epoch, scaled(by))
    lines = [re.sub(" +", " ", line) for line in run(WORD)[1].splitlines() if line.startswith("ResNet-20 ")]
    assert [line.strip() for line in lines] == [
        "ResNet-20 run 0 0 1, 0.8; 0.5 in layer1.0.conv2 0.4, 0.1; 0.1 in layer2.0.conv1 5, 3; 3 in layer2.0.conv1 128",
        "ResNet-20 run 0 165 3, 2.4; 1.5 in layer1.0.conv2 1.2, 0.3; 0.3 in layer2.0.conv1 "
        "15, 9; 9 in layer2.0.conv1 128",
    ]


def test_of_two_attempts_the_last_one_counts_whenever_it_was_written(store, look, rows):
    store.train("run", 0.5, status="killed")
    store.train("run", 0.91, restart_count=1)
    look("run.1", 0, scaled(2.0))
    look("run.0", 0), look("run.0", 64), look("run.1", 165)
    found = {row["epoch"]: row["activation"] for row in rows(WORD, run_id="run", place=1)}
    assert found == {0: 2.0, 64: 1.0, 165: 1.0}


def test_a_resumed_run_says_that_nothing_was_looked_at_before_training(store, look, run, rows):
    store.train("later", 0.91, resumed_from="first.0", resumed_epoch=30, lineage="first.0@30")
    look("later.0", 64), look("later.0", 165)
    out = run(WORD)[1]
    assert re.search(r"ResNet-20 +later +0 +0 +not looked at before training: it goes on from first.0", out)
    assert re.search(r"ResNet-20 +later +0 +165 +1, 0.8;", out)
    # It is there, and the command for what it lacks too.
    assert "ResNet-20" in {row["system"] for row in rows(WORD, status="missing")}
    assert {row["section"] for row in rows(WORD, run_id="later")} == {"comparable"}


@pytest.mark.parametrize(
    ("trained_as", "epoch", "row", "section", "said"),
    [
        ({"scale": "small"}, 165, {}, "reduced, not comparable", "scale=small"),
        ({"recipe": "fast"}, 165, {}, "another recipe, not the paper's", "recipe=fast"),
        ({}, 64, {}, "reduced, not comparable", "looked at up to epoch 64 of 165"),
        ({"recipe": "fast"}, 64, {}, "another recipe, not the paper's", "recipe=fast, looked at up to epoch 64 of 165"),
        ({"sample": "cifar10-jpeg"}, 165, {}, "another copy of the images", "cifar10-jpeg"),
        ({}, 165, {"sample": "cifar10-jpeg"}, "another copy of the images", "cifar10-jpeg"),
    ],
)
def test_what_is_not_the_papers_is_apart(store, look, rows, run, trained_as, epoch, row, section, said):
    store.train("run", 0.91, **trained_as)
    look("run.0", 0, **row), look("run.0", epoch, **row)
    found = rows(WORD, run_id="run")
    assert {one["why"] or one["copy"] for one in found} == {said} and len(found) == 8
    assert "ResNet-20" in {one["system"] for one in rows(WORD, status="missing")}
    out = run(WORD)[1]
    assert f"{section}, {said}" in out[out.index("\napart\n") :] or said in out[out.index("\napart\n") :]


@pytest.mark.parametrize(
    "row", [{"depth": 32}, {"family": "one-layer"}, {"dataset": "digits"}, {"trained_by": "failed.0"}]
)
def test_other_nets_images_and_failed_runs_are_not_there(store, look, rows, row):
    store.train("run", 0.91), store.train("failed", 0.91, status="failed", seed=1)
    look("run.0", 0, **row)
    assert not rows(WORD, status="measured")


def test_runs_that_are_not_shown_are_named(store, look, run):
    store.train("broken", 0.91, status="failed")
    look("broken.0", 0), look(None, 0)
    out = run(WORD)[1]
    assert "note: 1 failed or killed runs are not shown: broken" in out
    assert "note: 1 measurement of no attempt or epoch, not shown" in out


def test_norms_that_are_not_finite_are_said_and_never_the_smallest(store, look, run, rows):
    store.train("run", 0.91)
    look("run.0", 0, {**NORMS, "weight_gradient": [float("nan"), 2.0, 3.0, float("inf")]}), look("run.0", 165)
    assert [row["weight_gradient"] for row in rows(WORD, run_id="run", epoch=0)] == [None, 2.0, 3.0, None]
    assert "not finite, not finite; 2 in layer1.0.conv1 (2 of 4 not finite)" in re.sub(" +", " ", run(WORD)[1])


@pytest.mark.slow
def test_both_gradients_are_drawn_before_and_after_on_a_logarithmic_axis(store, look, run, tmp_path):
    store.train("run", 0.91), store.train("plain", 0.91, shortcut="none"), store.train("small", 0.91, scale="small")
    powers = {kind: [1.0, 10.0, 100.0, 1000.0] for kind in NORMS}
    for attempt, row in (("run.0", {}), ("plain.0", {"shortcut": "none"}), ("small.0", {})):
        look(attempt, 0, powers, **row), look(attempt, 165, scaled(2.0), **row)
    assert run(WORD, f"to={tmp_path}")[0] == 0
    svgs = {path.stem: path.read_text() for path in tmp_path.glob("*.svg")}
    drawn = {name: set(re.findall(r'id="(\w+-(?:before|after)-[\w-]+)"', text)) for name, text in svgs.items()}
    both = [f"{kind}_gradient-{when}" for kind in ("output", "weight") for when in ("before", "after")]
    assert drawn == {
        "figure-gradient-flow": {f"{one}-{who}" for one in both for who in ("ResNet-20-run", "plain-20-plain")},
        "figure-gradient-flow-reduced": {f"{one}-ResNet-20-small" for one in both},
    }
    whole = svgs["figure-gradient-flow"]
    for one in both:
        lines = {
            who: re.search(rf'id="{one}-{who}".*?<path ([^>]+)>', whole, re.S)[1]
            for who in ("ResNet-20-run", "plain-20-plain")
        }
        assert ["stroke-dasharray" in lines[who] for who in lines] == [False, True]
    points = re.search(r'id="weight_gradient-before-ResNet-20-run".*?d="([^"]+)"', whole, re.S)[1]
    heights = [-float(y) for y in re.findall(r"[ML] \S+ (\S+)", points)]  # up is less in an SVG
    steps = [after - before for before, after in zip(heights, heights[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 3, rel=1e-3) and steps[0] > 0
    assert (tmp_path / "figure-gradient-flow.png").read_bytes().startswith(b"\x89PNG")
