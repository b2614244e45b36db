"""Figure 7: whose responses are shown, in which order of layers, and what is missing."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from bench import depth
from bench.config import grammar
from results.paper import responses
from results.store.files import table_path, write_once
from results.store.schema import to_table

NAMES = ["layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer2.0.conv1"]


@pytest.fixture
def examine(store):
    """Write the rows of a command that examined a net's blocks; words are laid over what is usual."""
    count = 0

    def write(evaluation_id, values, **row):
        nonlocal count
        count += 1
        usual = {
            "evaluation_id": evaluation_id, "created": datetime(2000, 2, 1, tzinfo=UTC) + timedelta(days=count),
            "weights": [f"{count:02d}" * 32], "family": "cifar", "depth": 20, "shortcut": "A", "stride": "v1",
            "num_classes": 10, "dataset": "cifar10", "sample": "cifar10", "split": "test", "images": 10_000,
            "protocol": "whole image", "kind": "response", "git_commit": "1" * 40, "dirty": False,
        }  # fmt: skip
        whole = []
        for name, value in reversed(list(zip(NAMES, values, strict=True))):  # in no order
            stage, block = (int(part) for part in name.removeprefix("layer").split(".")[:2])
            place = {"layer": name, "stage": stage, "block": block + 1, "value": value}
            whole.append({**usual, **place, **row})
        whole.append({**usual, "stage": 1, "block": 1, "layer": "layer1.0", "value": 9.0, **row, "kind": "ratio"})
        write_once(table_path(store.root, "lesions", "2000-02", evaluation_id, 0), [to_table("lesions", whole)])

    return write


def test_layers_of_a_whole_run_are_in_the_order_of_the_net(store, examine, rows, run):
    store.train("run", 0.91)
    examine("e", [0.4, 0.3, 0.2, 0.1], trained_by="run.0", epoch=165, images=300)
    found = rows("figure=7", run_id="run")
    assert [(row["place"], row["layer"], row["std"]) for row in found] == [
        (place, *pair) for place, pair in enumerate(zip(NAMES, [0.4, 0.3, 0.2, 0.1], strict=True), 1)
    ]
    assert {(row["section"], row["images"], row["copy"]) for row in found} == {("comparable", 300, "")}
    assert {row["system"] for row in rows("figure=7", status="missing")} == {
        "plain-20", "plain-56", "ResNet-56", "ResNet-110"
    }  # fmt: skip
    out = run("figure=7")[1]
    assert re.search(r"ResNet-20 +run +4 +0.250 +0.400 +0.100 +300 of 10,000 test images", out)


def test_of_one_file_of_weights_the_latest_is_shown(store, examine, rows):
    store.train("run", 0.91)
    for name, value in (("e", 0.9), ("f", 0.1)):
        examine(name, [value] * 4, trained_by="run.0", epoch=165, weights=["ab"])
    assert [row["std"] for row in rows("figure=7", run_id="run")] == [0.1] * 4


@pytest.mark.parametrize(
    ("trained_as", "row", "section", "said"),
    [
        ({"scale": "small"}, {}, "reduced, not comparable", "scale=small"),
        ({"recipe": "fast"}, {}, "another recipe, not the paper's", "recipe=fast"),
        ({}, {"epoch": 3}, "reduced, not comparable", "weights of epoch 3 of 165"),
        ({"sample": "cifar10-jpeg"}, {}, "comparable", "cifar10-jpeg"),
        ({}, {"sample": "cifar10-jpeg"}, "comparable", "cifar10-jpeg"),
        ({}, {"image_size": 128}, "another recipe, not the paper's", "image_size=128"),
    ],
)
def test_what_is_not_the_papers_is_apart(store, examine, rows, trained_as, row, section, said):
    store.train("run", 0.91, **trained_as)
    examine("e", [0.1] * 4, **{"trained_by": "run.0", "epoch": 165, **row})
    found = rows("figure=7", run_id="run")
    assert {(one["section"], one["why"] or one["copy"]) for one in found} == {(section, said)}
    assert "ResNet-20" in {one["system"] for one in rows("figure=7", status="missing")}


@pytest.mark.parametrize("row", [{"depth": 26}, {"dataset": "digits"}, {"split": "train"}, {"trained_by": "failed.0"}])
def test_other_nets_images_and_failed_runs_are_not_there(store, examine, rows, row):
    store.train("run", 0.91), store.train("failed", 0.91, status="failed", seed=1)
    examine("e", [0.1] * 4, **{"trained_by": "run.0", "epoch": 165, **row})
    assert not rows("figure=7", status="measured")


@pytest.mark.parametrize("status", ["failed", "killed"])
def test_examined_runs_that_did_not_complete_are_named(store, examine, rows, run, status):
    store.train("broken", 0.91, status=status), store.train("deep", 0.91, status=status, depth=26)
    examine("e", [0.1] * 4, trained_by="broken.0", epoch=165), examine("f", [0.1] * 4, trained_by="deep.0", depth=26)
    assert not rows("figure=7", status="measured")
    assert "note: 1 failed or killed runs are not shown: broken\n" in run("figure=7")[1]


def test_of_one_net_the_latest_is_shown_whether_it_was_saved_or_not(store, examine, rows):
    store.train("run", 0.91), store.train("again", 0.92, seed=1)
    for name, value, weights in (("e", 0.9, None), ("f", 0.8, None), ("g", 0.1, ["ab"])):
        examine(name, [value] * 4, trained_by="run.0", epoch=165, weights=weights)
        assert [row["std"] for row in rows("figure=7", run_id="run")] == [value] * 4
    examine("h", [0.2] * 4, trained_by="again.0", epoch=165, weights=None)
    assert len(rows("figure=7", status="measured")) == 8


def test_a_later_examination_at_another_size_replaces_none(store, examine, rows):
    store.train("run", 0.91, precision="bf16")
    for name, size, value in (("e", None, 0.9), ("f", 32, 0.1), ("g", 128, 0.5)):
        examine(name, [value] * 4, trained_by="run.0", epoch=165, weights=["ab"], image_size=size, precision="fp16")
    found = rows("figure=7", run_id="run")
    assert {(row["std"], row["why"]) for row in found} == {(0.1, ""), (0.5, "image_size=128")} and len(found) == 8
    assert {tuple(row["marks"]) for row in found} == {("examined in fp16",)}


@pytest.mark.parametrize("lacking", ["stage", "block"])
def test_rows_of_no_layer_are_named_and_not_shown(store, examine, run, rows, lacking):
    store.train("run", 0.91)
    examine("e", [0.1] * 4, trained_by="run.0", epoch=165)
    examine("f", [0.2] * 4, trained_by="run.0", epoch=165, **{lacking: None})
    assert {row["std"] for row in rows("figure=7", run_id="run")} == {0.1}
    assert "note: examination f: 4 rows of no stage or block, not shown" in run("figure=7")[1]


def test_published_weights_are_marked(examine, rows):
    examine("e", [0.1] * 4)
    assert {(row["run_id"], *row["marks"]) for row in rows("figure=7", status="measured")} == {
        ("010101010101", "weights of no run")
    }  # fmt: skip


def test_the_examination_that_is_asked_for_can_be_typed(rows):
    missing = rows("figure=7", status="missing")
    assert [row["system"] for row in missing] == [net.name for net in responses.NETS]
    for row in missing:
        train, _, examination = row["fill"].partition(" && python -m bench.depth ")
        assert " save=WEIGHTS.safetensors" in train
        assert set(grammar.values(examination.split(), depth.Keys)) == {"weights", "data"}


@pytest.mark.slow
def test_both_orders_are_drawn_and_what_is_apart_in_a_picture_of_its_own(store, examine, run, tmp_path):
    store.train("run", 0.91), store.train("small", 0.91, seed=1, scale="small")
    examine("e", [0.1, 0.4, 0.2, 0.3], trained_by="run.0", epoch=165)
    examine("f", [0.1] * 4, trained_by="small.0", epoch=165)
    assert run("figure=7", f"to={tmp_path}")[0] == 0
    svgs = {path.stem: path.read_text() for path in tmp_path.glob("*.svg")}
    drawn = {name: re.findall(r'id="std-(\d-[\w-]+)"', text) for name, text in svgs.items()}
    assert drawn == {
        "figure-7": ["0-ResNet-20-run", "1-ResNet-20-run"],
        "figure-7-reduced": ["0-ResNet-20-small", "1-ResNet-20-small"],
    }
    heights = {}
    for place in "01":
        path = re.search(rf'id="std-{place}-ResNet-20-run".*?d="([^"]+)"', svgs["figure-7"], re.S)[1]
        heights[place] = [-float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)]  # up is less in an SVG
    assert heights["1"] == sorted(heights["0"], reverse=True) != heights["0"]
