"""No two rows of different settings look alike."""

import io
import json
import re

import pytest

from results.listing import settings, terminal
from results.listing.settings import ALWAYS, CHOSEN, FOLLOWING, OUTCOMES, differing
from results.store.schema import FLAG, INT, REAL, SCHEMAS

RUN = {
    "family": "cifar", "depth": 20, "shortcut": "A", "dataset": "digits", "loader": "dali", "kernels": "torch",
    "engine": "deepspeed", "benchmark": "training", "precision": "bf16", "world_size": 2, "lr": 0.1, "seed": 0,
    "git_commit": "1" * 40, "hardware": "2xEPYC;torch2.13,deepspeed0.19,dali2.4;python3.11",
}  # fmt: skip

VALUES = {INT: (1, 2), REAL: (0.1, 0.10000001), FLAG: (False, True)}


def two(column):
    """Two values of a column that differ, as little as they may."""
    kind = SCHEMAS["runs"].field(column).type
    if column == "hardware":
        return (RUN["hardware"], RUN["hardware"].replace("torch2.13", "torch2.14"))
    if column == "loader":
        return ("dali", "torch")
    return VALUES.get(kind, ("a" * 16, "a" * 8 + "b" * 8))


def test_every_column_is_in_one_group():
    columns = [*ALWAYS, *CHOSEN, *FOLLOWING, *OUTCOMES]
    assert sorted(columns) == sorted(SCHEMAS["runs"].names)


@pytest.mark.parametrize("column", [*ALWAYS, *CHOSEN, *FOLLOWING])
def test_rows_that_differ_in_a_setting_never_look_alike(column):
    rows = [{"run_id": name, **RUN, column: value} for name, value in zip("ab", two(column), strict=True)]
    found = differing(rows)
    assert settings.look(rows[0]) != settings.look(rows[1]) or found
    for setting in found:
        assert setting.texts[0] != setting.texts[1], setting
    if column in CHOSEN and column != "hardware":
        assert [setting.name for setting in found] == [column]


@pytest.mark.parametrize("column", [*CHOSEN, *FOLLOWING])
def test_what_is_the_same_has_no_column(column):
    rows = [{"run_id": name, **RUN, "depth": depth, column: two(column)[0]} for name, depth in (("a", 20), ("b", 56))]
    assert differing(rows) == []


def test_what_is_chosen_differently_is_shown_even_where_rows_differ_anyway():
    rows = [{**RUN, "depth": 20, "seed": 0}, {**RUN, "depth": 56, "seed": 1, "lr": 0.2, "global_batch": 9}]
    assert [setting.name for setting in differing(rows)] == ["seed", "lr"]


def test_what_follows_is_shown_where_rows_are_alike_but_for_seed_and_commit():
    base = {**RUN, "choices_hash": "a" * 16}
    rows = [base, {**base, "seed": 1, "git_commit": "2" * 40, "choices_hash": "b" * 16}]
    assert [setting.name for setting in differing(rows)] == ["seed", "git_commit", "choices_hash"]
    assert [one.name for one in differing([base, {**base, "depth": 56, "choices_hash": "b" * 16}])] == []


def test_what_shares_a_cell_with_another_setting_is_shown_where_that_hides_it():
    (dataset,) = differing([{**RUN, "sample": "x", "dataset": name} for name in ("digits", "cifar10")])
    assert (dataset.name, dataset.texts) == ("dataset", ("digits", "cifar10"))
    (loader,) = differing([{**RUN, "synthetic": True, "loader": name} for name in ("dali", "synthetic")])
    assert loader.name == "loader"


def test_a_setting_that_only_the_configuration_has():
    def row(**config):
        return {**RUN, "config_json": json.dumps({"lr": 0.1, "data": "/a", **config})}

    rows = [row(recipe={"momentum": 0.9}), row(recipe={"momentum": 0.95}), row(recipe={"momentum": 0.9})]
    (momentum,) = differing(rows)
    assert (momentum.name, momentum.head, momentum.texts) == (
        "recipe.momentum",
        "recipe.\nmomentum",
        ("0.9", "0.95", "0.9"),
    )
    assert differing([row(data="/a", seed=1, target=0.5), row(data="/b", seed=2, target=0.6)]) == [], "columns, paths"
    (ops,) = differing([row(ops=["a"]), row(ops=["a", "b"])])
    assert ops.texts == ('["a"]', '["a","b"]')
    assert differing([row(), {**RUN, "config_json": "no json"}, {**RUN, "config_json": None}]) == []


def test_null_is_another_setting_only_where_it_can_be_one():
    assert [one.texts for one in differing([{**RUN, "steps_cap": None}, {**RUN, "steps_cap": 5}])] == [("-", "5")]
    assert differing([{**RUN, "threads_per_rank": None}, {**RUN, "threads_per_rank": 1}]) == []
    assert differing([{**RUN, "lr": float("nan")}, {**RUN, "lr": float("nan")}]) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "shown"),
    [
        ({"sample": "imagefolder", "dataset_hash": "1"}, {"sample": "imagefolder", "dataset_hash": "2"}, True),
        ({"sample": "imagefolder", "dataset_hash": "1"}, {"sample": "imagefolder", "dataset_hash": "1"}, False),
        ({"sample": "cifar10", "dataset_hash": "1"}, {"sample": "cifar10-jpeg", "dataset_hash": "2"}, False),
        ({"dataset": "imagefolder", "dataset_hash": "1"}, {"dataset": "imagefolder", "dataset_hash": None}, False),
    ],
)
@pytest.mark.parametrize("depth", [20, 56])
def test_folders_of_one_name_are_told_apart_whatever_else_differs(ours, theirs, shown, depth):
    rows = [{**RUN, **ours}, {**RUN, **theirs, "depth": depth}]
    assert [setting.name for setting in differing(rows)] == (["dataset_hash"] if shown else [])
    told = settings.look(rows[0]) != settings.look({**rows[1], "depth": 20})
    assert shown or told == (ours.get("sample") != theirs.get("sample"))


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [
        ({"snapshot": "b", "dirty": True}, ["snapshot"]),  # the same commit, with other changes
        ({"snapshot": "b", "git_commit": "2"}, ["git_commit"]),
        ({"snapshot": None}, []),
        ({"snapshot": "b", "depth": 32}, ["snapshot"]),
    ],
)
def test_copies_of_code_are_told_apart_where_their_commit_does_not_do_it(theirs, shown):
    ours = {"git_commit": "1", "dirty": True, "snapshot": "a", "depth": 20}
    assert [setting.name for setting in differing([ours, {**ours, **theirs}])] == shown


def test_systems_are_told_apart_by_the_part_that_differs():
    rows = [RUN, {**RUN, "hardware": RUN["hardware"].replace("torch2.13", "torch2.11").replace("2xEPYC", "4xEPYC")}]
    found = {setting.name: setting.texts for setting in differing(rows)}
    assert found == {"processors": ("2xEPYC", "4xEPYC"), "torch": ("2.13", "2.11")}


def test_texts_are_short_and_stay_different():
    assert settings.texts("git_commit", ["a" * 40, "b" * 40]) == ("a" * 8, "b" * 8)
    assert settings.texts("git_commit", ["a" * 40, "a" * 39 + "b"]) == ("a" * 40, "a" * 39 + "b")
    assert settings.texts("lr", [0.1, None]) == ("0.1", "-")
    assert settings.texts("lr", [0.1, 0.10000001]) == ("0.1", "0.10000001")
    assert settings.texts("dirty", [True, False]) == ("true", "false")


def test_columns_of_the_table_are_those_that_differ(add, report):
    add("a-11111111", seed=0, lr=0.1, batch_per_device=32, epochs=15, target_top1=0.97, nodes=1)
    add("b-22222222", seed=0, lr=0.1, batch_per_device=32, epochs=15, target_top1=0.97, nodes=1)
    head = report()[1].split("──")[0]
    assert not re.search(
        r"seed|lr|batch|epochs +top-1|nodes", head.replace("target target", "").replace("epochs      s", "")
    )
    add("c-33333333", seed=7, lr=0.25, batch_per_device=64, epochs=30, target_top1=0.98, nodes=2)
    _, out, _ = report()
    heads = out.splitlines()[1].split()
    for head in ("seed", "lr", "batch", "epochs", "top-1", "nodes"):
        assert head in heads
    line = next(line for line in out.splitlines() if line.startswith("33333333"))
    assert re.search(r" 7 +0\.25 +64 +30 +0\.98 +2 ", line)


@pytest.mark.parametrize("width", ["100", "120", "140"])
def test_where_columns_do_not_fit_settings_are_words(add, report, width):
    add("a-11111111", seed=0, lr=0.1, git_commit="1" * 40, recipe="fast", epochs=15)
    add("b-22222222", seed=1, lr=0.2, git_commit="2" * 40, recipe="paper", epochs=16, image_size=32, weight_decay=1e-4)
    _, out, _ = report(width=width)
    assert max(map(len, out.splitlines())) <= int(width)
    flat = " ".join(out.split())
    for name, text in (("commit", "22222222"), ("recipe", "paper"), ("weight_", "0.0001"), ("epochs", "16")):
        assert f"{name}={text}" in flat or re.search(rf"{name}.*{text}", flat)
    assert ("weight_decay=" in flat) == (width != "140")


# A launcher's runs are training runs.
@pytest.mark.parametrize("column", sorted({*ALWAYS, *CHOSEN, *FOLLOWING} - {"benchmark"}))
def test_runs_of_a_sweep_never_look_alike_when_they_have_ended(column):
    rows = [{"run_id": "same", **RUN, column: value} for value in two(column)]
    if column == "target_top1":
        rows = [{**RUN, "run_id": "same", "target_top1": target} for target in (0.97, 0.98)]
    stream = io.StringIO()
    terminal.show(terminal.summary(rows), stream=stream)
    _, lines = stream.getvalue().split("\n─", 1)
    flat = " ".join(lines.split("\n", 1)[1].split())
    first, second = (text.split("+ a net")[0].strip() for text in flat.split("same")[1:])
    assert first != second
