"""Figures: whose curves are drawn, in which picture, and where their points lie."""

import re
from xml.etree import ElementTree

import pytest

from results.paper import curves, measured

PLAIN = {"shortcut": "none"}


def epochs(*top1, train=True):
    return [
        {"epoch": number, "top1": value, "train_top1": value + 0.01 if train else None}
        for number, value in enumerate(top1, 1)
    ]


def test_curves_have_training_and_test_error_by_step(store, rows):
    store.train("a", 0.91, epochs=epochs(0.5, 0.91), **PLAIN)
    found = rows("figure=1", run_id="a")
    assert [(row["epoch"], row["step"]) for row in found] == [(1, 390), (2, 780)]
    assert [row["test_error"] for row in found] == pytest.approx([0.5, 0.09])
    assert [row["train_error"] for row in found] == pytest.approx([0.49, 0.08])
    assert {(row["published"], row["published_bound"]) for row in found} == {(0.095, "about")}
    (missing,) = rows("figure=1", status="missing")
    assert missing["system"] == "plain-56" and "depth=56 " in missing["fill"] and missing["published"] == 0.135


def test_the_last_step_is_that_of_the_schedule(store, rows):
    store.train("a", 0.91, epochs=[{"epoch": 165, "top1": 0.91}], **PLAIN)
    (found,) = rows("figure=1", run_id="a")
    assert (found["step"], found["train_error"]) == (64_000, None)


def test_an_epoch_that_was_trained_twice_counts_once(store, rows):
    store.train("a", 0.5, status="killed", epochs=epochs(0.5, 0.6), **PLAIN)
    store.train("a", 0.9, restart_count=1, epochs=[{"epoch": 2, "top1": 0.9}], **PLAIN)
    assert [row["test_error"] for row in rows("figure=1", run_id="a")] == pytest.approx([0.5, 0.1])


@pytest.mark.parametrize(
    ("row", "section", "copy"),
    [
        ({"scale": "small"}, "reduced, not comparable", ""),
        ({"steps_completed": 100}, "reduced, not comparable", ""),
        ({"recipe": "fast"}, "another recipe, not the paper's", ""),
        ({"sample": "cifar10-jpeg"}, "comparable", "cifar10-jpeg"),
    ],
)
def test_what_is_not_the_papers_is_apart_and_has_no_published_end(store, rows, run, row, section, copy):
    store.train("apart", 0.91, epochs=epochs(0.5, 0.91), **PLAIN, **row)
    found = rows("figure=1", run_id="apart")
    assert {(one["section"], one["copy"], one["published"]) for one in found} == {(section, copy, None)}
    assert {one["system"] for one in rows("figure=1", status="missing")} == {"plain-20", "plain-56"}
    out = run("figure=1")[1]
    assert out.index("missing, and") < out.index("\napart\n") < out.index("apart  ") < len(out)
    assert curves.build("1", measured.read(store.root)).curves == []


def test_runs_that_failed_are_not_drawn_and_named(store, rows, run):
    store.train("broken", 0.9, status="failed", epochs=epochs(0.9), **PLAIN)
    assert not rows("figure=1", run_id="broken") and "are not drawn: broken" in run("figure=1")[1]


@pytest.mark.parametrize("broken", [True, False])
def test_completed_runs_whose_epochs_cannot_be_read_are_named(store, run, broken):
    store.train("whole", 0.91, epochs=epochs(0.5, 0.91), **PLAIN)
    (path,) = store.root.glob("epochs/*/*.parquet")
    path.write_bytes(b"PAR1") if broken else path.unlink()
    status, out, err = run("figure=1")
    assert status == 0 and "note: run whole: completed, and no epochs of it can be read: not drawn\n" in out
    assert (str(path) in err) == broken


def test_figure_4_has_nothing_published_under_its_protocol(store, rows):
    assert {row["published"] for row in rows("figure=4")} == {None}


def test_nets_of_one_layer_blocks_stand_beside_both_others_and_in_no_figure_of_the_paper(store, rows, run):
    kinds = {"plain": ("cifar", "none"), "each": ("one-layer", "A"), "second": ("cifar", "A")}
    for seed, (name, (family, shortcut)) in enumerate(kinds.items()):
        store.train(name, 0.91, family=family, shortcut=shortcut, epochs=epochs(0.5, 0.8 + seed / 100))
    title, panels = curves.FIGURES["one-layer"]
    assert [{(net.family, net.shortcut, net.depth) for net in panel.nets} for panel in panels] == [
        {(*kind, 20), (*kind, 56)} for kind in kinds.values()
    ]
    found = {row["run_id"]: row for row in rows("figure=one-layer", epoch=2)}
    assert {name: (row["system"], row["section"], row["published"]) for name, row in found.items()} == {
        "plain": ("plain-20", "comparable", None), "each": ("ResNet-20 one-layer A", "comparable", None),
        "second": ("ResNet-20", "comparable", None),
    }  # fmt: skip
    assert [found[name]["test_error"] for name in kinds] == pytest.approx([0.2, 0.19, 0.18])
    missing = {row["system"]: row["fill"] for row in rows("figure=one-layer", status="missing")}
    assert set(missing) == {"plain-56", "ResNet-56 one-layer A", "ResNet-56"}
    assert [system for system, command in missing.items() if " family=one-layer " in command] == list(missing)[1:2]
    out = run("figure=one-layer")[1]
    assert title in out and not re.search(r"(figure|table) \d", out, re.IGNORECASE)


def test_nets_of_one_layer_blocks_never_stand_under_the_papers(store, rows):
    words = ("table=6", "figure=6")
    store.train("right", 0.91, epochs=epochs(0.5, 0.91))
    before = [rows(word) for word in words]
    store.train("each", 0.99, family="one-layer", epochs=epochs(0.5, 0.99), parameters=1, multiply_adds=1)
    store.train("better", 0.99, family="one-layer", seed=1, depth=56, epochs=epochs(0.5, 0.99), sample="cifar10-jpeg")
    store.evaluate("e", {"trained_by": "each.0", "epoch": 165, "family": "one-layer", "depth": 20, "shortcut": "A",
                         "dataset": "cifar10", "protocol": "whole image", "bn": "exact", "top1": 0.99})  # fmt: skip
    assert [rows(word) for word in words] == before
    assert rows("figure=one-layer", run_id="each")


@pytest.mark.slow
def test_each_kind_has_a_picture_of_its_own(store, run, tmp_path):
    usual = {"epochs": epochs(0.5, 0.91)}
    store.train("a", 0.91, **usual, **PLAIN), store.train("b", 0.91, **usual)
    store.train("c", 0.91, **{**usual, "epochs": epochs(0.6, train=False)}, sample="cifar10-jpeg", seed=1)
    store.train("d", 0.91, **usual, scale="small", seed=2), store.train("e", 0.91, **usual, recipe="fast", seed=3)
    assert run("figure=6", f"to={tmp_path}")[0] == 0
    svgs = {path.stem: path.read_text() for path in tmp_path.glob("*.svg")}
    assert {name: set(re.findall(r'id="test-\d-[^"]+-(\w)"', text)) for name, text in svgs.items()} == {
        "figure-6": {"a", "b"}, "figure-6-cifar10-jpeg": {"c"}, "figure-6-reduced": {"d"},
        "figure-6-another-recipe": {"e"},
    }  # fmt: skip
    assert {name for name, text in svgs.items() if 'id="published-' in text} == {"figure-6"}
    assert 'id="train-0-plain-20-a"' in svgs["figure-6"] and "train-" not in svgs["figure-6-cifar10-jpeg"]
    assert "ResNet-20, published 8.75" in svgs["figure-6"] and "published" not in svgs["figure-6-reduced"]
    marks = re.findall(r'id="published-(\d-[\w-]+)"', svgs["figure-6"])
    assert len(marks) == len(set(marks)) == 12
    assert "c: cifar10-jpeg." in svgs["figure-6-cifar10-jpeg"] and "d: scale=small." in svgs["figure-6-reduced"]
    store.train("f", 0.91, **usual, scale="small", sample="cifar10-jpeg", seed=4)
    run("figure=6", f"to={tmp_path}")
    assert "f: scale=small, cifar10-jpeg." in (tmp_path / "figure-6-reduced.svg").read_text()
    for name in svgs:
        ElementTree.fromstring(svgs[name])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
