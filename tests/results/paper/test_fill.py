"""What is missing has a command that the launcher takes, and whose run would fill the cell."""

import pytest

from bench import evaluate
from bench.config import grammar
from bench.config.resolve import Host, resolve
from bench.training.recorder import run_row
from launch.plan import LaunchKeys
from resnet.data import DATASETS
from results.paper import cells, curves, fill, flow, measured
from results.paper.rules import net_of, standing
from results.published.figure import Net
from results.published.tables import ALL, shown_in

STARTER, EVALUATE = "python launch/local.py ", "python -m bench.evaluate "


def commands(store):
    """Every command that an empty store would be told, with the figure that it is for, or the net of a curve."""
    empty = measured.read(store.root)
    found = [(line.fill, line.published) for number in cells.TABLES for line in cells.build(number, empty).lines]
    for number in curves.FIGURES:
        found += [(command, net) for net, command in curves.build(number, empty).missing.items()]
    return found + [(command, net) for net, command in flow.build(empty).missing.items()]


def configured(command, folder):
    """What a command's words resolve to, as the launcher resolves them; PATH and WEIGHTS stand for what one has."""
    words = command.removeprefix(STARTER).partition(" && ")[0].split()
    words = [word.replace("PATH", str(folder)).replace("WEIGHTS", str(folder / "weights")) for word in words]
    return [resolve(keys, Host(ranks_per_node=2, visible=False))[0] for keys in grammar.parse(words, LaunchKeys)]


def test_every_missing_cell_says_what_would_fill_it_or_why_nothing_does(store):
    found = commands(store)
    assert len([one for _, one in found if not isinstance(one, Net)]) == sum(
        len(shown_in(f"table={n}")) for n in cells.TABLES
    )
    assert all(
        command.startswith((STARTER, EVALUATE)) or (command[0], command[-1]) == ("(", ")") for command, _ in found
    )
    for command, published in found:
        if isinstance(published, Net) or published.is_ours and published.split != "test":
            assert command.startswith(STARTER), command


def test_every_command_resolves_to_a_run_that_fills_its_cell(store, tmp_path):
    tried = 0
    # A command may be for several figures, all of one net.
    for command, one in dict.fromkeys(commands(store)):
        if not command.startswith(STARTER):
            continue
        configs = configured(command, tmp_path)
        published = None if isinstance(one, Net) else one
        seeds = fill.wanted_seeds(published)
        assert [config.seed for config in configs] == list(seeds), command
        # What the trainer adds once it has seen the images.
        for config in configs:
            row = run_row(config, "run", 0)
            each = measured_images(row) // row["global_batch"]
            row |= {"sample": row["dataset"], "images_per_epoch": each * row["global_batch"], "status": "completed"}
            if published is None or published.metric == "top-1 error" or published.metric == "top-5 error":
                stands = standing(row)
                assert stands is not None and (stands.kind, stands.why, stands.copy) == ("paper", "", ""), command
            assert net_of(row) == (one if published is None else published.net), command
            if published is not None:
                assert row["dataset"] == published.dataset
            assert (config.examined.examinations == ("gradient-flow",)) == command.endswith(" examine=gradient-flow")
            assert (config.save is not None) == (f" && {EVALUATE}" in command)
        tried += 1
    assert tried > 30


def measured_images(row):
    return {"cifar10": 50_000, "imagenet": 1_281_167}[row["dataset"]]


def test_a_command_saves_weights_only_for_a_protocol_that_training_has_not():
    for one in ALL:
        command = fill.of_figure(one)
        if one.is_ours and one.split != "test" and one.protocol in ("10-crop", "multi-scale"):
            assert "save=" in command and command.endswith(
                f"protocol={one.protocol}" + (f" bn={one.bn}" if one.bn else "")
            )
        if one.is_ours and one.protocol == "whole image":
            assert "save=" not in command


@pytest.mark.parametrize(("have", "seeds"), [((), "0,1,2,3,4"), ((0, 2), "1,3,4"), ((0, 1, 2, 3), "4")])
def test_seeds_that_are_there_are_not_asked_for_again(have, seeds):
    (one,) = [one for one in shown_in("table=6") if one.system == "ResNet-110" and one.runs == 5]
    assert f" seed={seeds} " in fill.of_figure(one, have)


def test_every_evaluation_that_is_asked_for_can_be_typed(store):
    tried = set()
    for command, published in commands(store):
        if EVALUATE not in command:
            continue
        given = grammar.values(command.rpartition(EVALUATE)[2].split(), evaluate.Keys)
        assert given["protocol"] == [published.protocol] and published.protocol in DATASETS[published.dataset].protocols
        assert given.get("bn") == ([published.bn] if published.bn else None)
        # A file from elsewhere says nothing of its dataset, nor where a bottleneck has its stride.
        assert ("dataset" in given) == (published.place == "torchvision") == (not command.startswith(STARTER))
        assert given.get("stride", ["v1"]) == [published.net.stride]
        tried |= {(published.place, published.protocol)}
    assert len(tried) == 5
