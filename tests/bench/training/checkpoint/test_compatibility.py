"""What changes the outcome of a resumed run is refused or recorded: every key, every word of a recipe, every fact."""

import dataclasses
import json
from typing import Any

import pytest
from saved_run import CONFIG, SAVED, STATE, STEPS, at

from bench.config.run_config import RunConfig
from bench.training.checkpoint import compatibility
from bench.training.checkpoint.contents import Checkpoint, CheckpointError
from bench.training.state import RunState
from resnet.recipe import Recipe
from results.identity import comparability, first_difference, parts_of
from results.store.schema import SCHEMAS

REFUSED, MIXED, FREE = "refused", "recorded as mixed", "free"
CORES = 2  # of a rank
# What a resumed run has otherwise than the one that wrote its checkpoint, and what comes of it.
OF_A_CONFIGURATION = {
    "family": REFUSED, "depth": REFUSED, "shortcut": REFUSED, "stride": REFUSED, "num_classes": REFUSED,
    "dataset": REFUSED, "image_size": REFUSED, "recipe": REFUSED, "epochs": REFUSED, "steps": REFUSED, "lr": REFUSED,
    "weight_decay": REFUSED, "target": REFUSED, "batch": REFUSED, "grad_accum": REFUSED, "seed": REFUSED,
    # The same number of ranks on other nodes.
    "nodes": MIXED, "ranks_per_node": MIXED,
    # The same network, step and images, up to rounding; weights and momentum are fp32 in all of them.
    "kernels": MIXED, "loader": MIXED, "engine": MIXED, "zero_stage": MIXED, "precision": MIXED,
    "activation_checkpointing": MIXED,
    # What is found out about a net besides training it.
    "protocol": FREE, "bn": FREE, "bn_images": FREE, "examine": FREE, "examine_images": FREE,
    # The same images in the same order, however many threads read them.
    "loader_threads": MIXED,
    # Where things lie. The images themselves are told apart by their hash.
    "data": FREE, "results": FREE, "save": FREE, "resume": FREE,
    # By whose name it was started.
    "experiment": FREE, "scale": FREE,
}  # fmt: skip
OF_A_RECIPE = {
    "lr": REFUSED, "momentum": REFUSED, "nesterov": REFUSED, "decay_bn_bias": REFUSED, "label_smoothing": REFUSED,
    "schedule": REFUSED, "milestones": REFUSED, "warmup": REFUSED, "anneal": REFUSED, "cold_lr": REFUSED,
    "cold_error": REFUSED, "augment": REFUSED, "zero_init_residual": REFUSED, "name": REFUSED,
    # A key of the configuration has what comes of them.
    "epochs": FREE, "steps": FREE, "batch": FREE, "batch_is_global": FREE, "reference_batch": FREE,
    "weight_decay": FREE, "target": FREE,
}  # fmt: skip
# Columns of `runs` that say what computed a run: where it ran, and with what.
OF_A_RUN = {
    "dataset_hash": REFUSED,  # once the images are open; in older checkpoints, which do not say it: mixed
    "global_batch": REFUSED, "world_size": REFUSED, "bn_span": REFUSED, "lr": REFUSED,  # with the configuration
    "sample": MIXED, "choices_hash": MIXED, "comm_dtype": MIXED, "threads_per_rank": MIXED, "loader_threads": MIXED,
    "hardware": MIXED, "git_commit": MIXED, "kernels": MIXED, "precision": MIXED,
}  # fmt: skip


def changed(name: str) -> RunConfig:
    """The configuration with another value of one field, whether that makes sense or not."""
    value = getattr(CONFIG, name)
    recipe = dataclasses.replace(CONFIG.recipe, name="paper")
    if name == "loader_threads":
        return dataclasses.replace(CONFIG, loader_threads=CORES + 1)
    other = value + 1 if isinstance(value, int | float) else recipe if name == "recipe" else "other"
    return with_field(name, other)


def with_field(name: str, other: object, base: RunConfig = CONFIG) -> RunConfig:
    found = object.__new__(RunConfig)  # without its checks
    for field in dataclasses.fields(RunConfig):
        object.__setattr__(found, field.name, other if field.name == name else getattr(base, field.name))
    return found


def row(config: RunConfig, **changes: Any) -> dict[str, Any]:
    """A row of `runs` as far as its facts go."""
    known: dict[str, Any] = {name: "x" for name in compatibility.MAY_DIFFER}
    known |= {name: getattr(config, name) for name in OF_A_CONFIGURATION if name in compatibility.MAY_DIFFER}
    known["loader_threads"] = config.threads_of_loader(CORES)
    return known | {"config_json": CONFIG.to_json()} | changes


WHOLE = dataclasses.replace(SAVED, facts=compatibility.joined(None, row(CONFIG)))


def test_the_tables_are_of_everything_there_is() -> None:
    assert set(OF_A_CONFIGURATION) == {field.name for field in dataclasses.fields(RunConfig)}
    assert set(OF_A_RECIPE) == {field.name for field in dataclasses.fields(Recipe)}
    assert set(OF_A_RUN) | set(compatibility.MAY_DIFFER) <= set(SCHEMAS["runs"].names)
    recorded = {name for table in (OF_A_CONFIGURATION, OF_A_RUN) for name, what in table.items() if what == MIXED}
    assert recorded | {"dataset_hash"} == set(compatibility.MAY_DIFFER)


@pytest.mark.parametrize("name", OF_A_CONFIGURATION)
def test_every_key_is_refused_recorded_or_free(name: str) -> None:
    other = changed(name)
    if name in ("nodes", "ranks_per_node"):  # refused where the number of ranks changes with it
        with pytest.raises(CheckpointError, match=r"has world_size=2 \(here "):
            compatibility.check("w", WHOLE, other)
        other = dataclasses.replace(CONFIG, nodes=2, ranks_per_node=1)
    if OF_A_CONFIGURATION[name] == REFUSED:
        value = WHOLE.net[name]
        before = f"no {name}=" if value == "None" else f"{name}={value}"
        with pytest.raises(CheckpointError, match=rf"^resume=w: the checkpoint has {before} \(here "):
            compatibility.check("w", WHOLE, other)
        return
    compatibility.check("w", WHOLE, other)
    said = compatibility.notices("w", WHOLE, other)
    recorded = compatibility.mixed(compatibility.joined(WHOLE.facts, row(other)))
    if OF_A_CONFIGURATION[name] == FREE:
        assert said == [] and recorded is None
        return
    before, after = (None if row(each)[name] is None else str(row(each)[name]) for each in (CONFIG, other))
    assert before != after and recorded is not None and json.loads(recorded)[name] == [before, after]
    had = f"no {name}=" if before is None else f"{name}={before}"
    assert len(said) == 1 and f"{had} (here {after})" in said[0]


@pytest.mark.parametrize("name", OF_A_RECIPE)
def test_every_word_of_a_recipe_is_refused_or_stands_in_a_key(name: str) -> None:
    value = getattr(CONFIG.recipe, name)
    recipe = object.__new__(Recipe)
    for field in dataclasses.fields(Recipe):
        same = getattr(CONFIG.recipe, field.name)
        other: object = (0.25,) if name == "milestones" else not value if isinstance(value, bool) else f"{value}1"
        object.__setattr__(recipe, field.name, other if field.name == name else same)
    if OF_A_RECIPE[name] == FREE:
        compatibility.check("w", WHOLE, with_field("recipe", recipe))
        return
    word = "recipe" if name == "name" else f"recipe.{name}"
    with pytest.raises(CheckpointError, match=rf"the checkpoint has (no {word}=|{word}=.+) \(here "):
        compatibility.check("w", WHOLE, with_field("recipe", recipe))


@pytest.mark.parametrize("name", [name for name, what in OF_A_RUN.items() if what == MIXED])
def test_every_fact_of_a_run_is_recorded_and_tells_it_from_others(name: str) -> None:
    mine, theirs = row(CONFIG), row(CONFIG, **{name: "other"})
    recorded = compatibility.mixed(compatibility.joined(WHOLE.facts, theirs))
    assert recorded == json.dumps({name: [str(mine[name]), "other"]})
    parts = parts_of(theirs | {"mixed": recorded})
    difference = first_difference(parts_of(theirs), parts)
    assert difference is not None and difference.part == "mixed"
    assert comparability(theirs | {"mixed": None}) == comparability(theirs)  # the keys of other rows stay


def test_synthetic_and_real_images_are_no_match() -> None:
    config = dataclasses.replace(CONFIG, target=None)
    for before, after in (("dali", "synthetic"), ("synthetic", "torch")):
        saved = dataclasses.replace(WHOLE, net=compatibility.net_of(dataclasses.replace(config, loader=before)))
        with pytest.raises(CheckpointError, match="has synthetic="):
            compatibility.check("w", saved, dataclasses.replace(config, loader=after))


def test_other_images_of_a_dataset_are_refused() -> None:
    compatibility.check_data("w", SAVED, "abc123", STEPS)
    for other in ("abd123", None):
        with pytest.raises(CheckpointError, match=rf"dataset_hash=abc123 \(here {other}\): data= has others$"):
            compatibility.check_data("w", SAVED, other, STEPS)
    older = dataclasses.replace(SAVED, version=2, dataset_hash=None)
    compatibility.check_data("w", older, "abc123", STEPS)
    recorded = compatibility.mixed(compatibility.joined({}, row(CONFIG, dataset_hash="abc123")))
    assert recorded is not None and json.loads(recorded)["dataset_hash"] == [None, "abc123"]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_step_that_is_none_of_its_epoch_is_refused(version: int) -> None:
    saved = dataclasses.replace(at(2), version=version)
    compatibility.check_data("w", saved, "abc123", STEPS)
    with pytest.raises(CheckpointError, match="state.step=44 after 2 epochs, which have 21 steps each here$"):
        compatibility.check_data("w", saved, "abc123", 21)
    far = dataclasses.replace(saved, state=dataclasses.replace(saved.state, step=999_999))
    with pytest.raises(CheckpointError, match="state.step=999999 after 2 epochs"):
        compatibility.check_data("w", far, "abc123", STEPS)


def test_what_differed_once_stays_in_the_chain() -> None:
    first = compatibility.joined(None, row(CONFIG))
    second = compatibility.joined(first, row(CONFIG, kernels="triton"))
    third = compatibility.joined(second, row(CONFIG))
    fourth = compatibility.joined(third, row(CONFIG))
    assert compatibility.mixed(first) is None
    assert (
        second["kernels"] == ["torch", "triton"]
        and third["kernels"] == ["torch", "triton", "torch"] == fourth["kernels"]
    )
    assert compatibility.mixed(fourth) == json.dumps({"kernels": ["torch", "triton", "torch"]})


@pytest.mark.parametrize("version", [1, 2])
def test_what_an_older_checkpoint_does_not_say_is_not_known(version: int) -> None:
    lacking = ("synthetic", "target", "weight_decay")[: 3 if version == 1 else 1]
    net = {word: value for word, value in SAVED.net.items() if word not in lacking and "." not in word}
    saved = dataclasses.replace(SAVED, version=version, net=net, facts={})
    compatibility.check("w", saved, CONFIG)
    assert "the row will have all of it in its column mixed" in compatibility.notices("w", saved, CONFIG)[0]
    recorded = compatibility.mixed(compatibility.joined({}, row(CONFIG)))
    later = {"activation_checkpointing"}  # of which there was none then
    assert recorded is not None and set(json.loads(recorded)) == set(compatibility.MAY_DIFFER) - later
    for word in {"seed", *lacking} & set(net):
        with pytest.raises(CheckpointError, match=f"has no {word}= "):
            compatibility.check("w", dataclasses.replace(saved, net={**net, word: "None"}), CONFIG)
    without = {word: value for word, value in net.items() if word != "depth"}
    with pytest.raises(CheckpointError, match=r"has no depth= \(here 8\)$"):
        compatibility.check("w", dataclasses.replace(saved, net=without), CONFIG)


def test_this_version_lacks_no_word() -> None:
    for word in SAVED.net:
        net = {name: value for name, value in SAVED.net.items() if name != word}
        with pytest.raises(CheckpointError, match=rf"has no {word}= \(here "):
            compatibility.check("w", dataclasses.replace(SAVED, net=net), CONFIG)
    more = {**SAVED.net, "optimizer": "lars"}
    with pytest.raises(CheckpointError, match=r"has optimizer=lars \(no key here\)$"):
        compatibility.check("w", dataclasses.replace(SAVED, net=more), CONFIG)


def test_another_configuration_is_refused_word_by_word() -> None:
    with pytest.raises(CheckpointError, match=r"has depth=8 \(here 20\), batch=32 \(here 16\), lr=.*$"):
        compatibility.check("w", SAVED, dataclasses.replace(CONFIG, depth=20, batch=16, lr=0.5))


@pytest.mark.parametrize(
    ("top1", "reached", "target", "fits"),
    [
        ([0.5, 0.9], None, 0.95, True),
        ([0.5, 0.9], 2, 0.9, True),
        ([0.5, 0.9], 2, None, False),
        ([0.5, 0.9], None, 0.9, False),  # reached, and the time is not known
        ([0.5, 0.9], 1, 0.9, False),  # of a lower target
    ],
)
def test_a_time_to_target_is_not_taken_over_for_another_target(
    top1: list[float], reached: int | None, target: float | None, fits: bool
) -> None:
    config = dataclasses.replace(CONFIG, target=target)
    state = RunState(epoch=2, step=44, top1=top1, epochs_to_target=reached, tta_s=reached and 7.0)
    saved = dataclasses.replace(SAVED, net=compatibility.net_of(config), state=state)
    here = f"target={target}" if target else "no target="
    if fits:
        compatibility.check("w", saved, config)
    else:
        with pytest.raises(
            CheckpointError,
            match=f"was written for another target than {here}$",
        ):
            compatibility.check("w", saved, config)


@pytest.mark.parametrize(
    ("done", "steps", "complete"),
    [
        (RunState(epoch=15, step=100), None, True),
        (RunState(epoch=14, step=100), None, False),
        (RunState(epoch=16, step=100), None, True),
        (RunState(epoch=1, step=30), 30, True),
        (RunState(epoch=1, step=29), 30, False),
        (RunState(epoch=1, step=1001), 1000, True),
    ],
)
def test_a_run_that_was_complete_is_not_resumed(done: RunState, steps: int | None, complete: bool) -> None:
    config = dataclasses.replace(CONFIG, steps=steps)
    saved: Checkpoint = dataclasses.replace(SAVED, state=done, net=compatibility.net_of(config))
    if not complete:
        compatibility.check("w", saved, config)
        return
    with pytest.raises(CheckpointError, match=f"was complete at epoch {done.epoch}, step {done.step}"):
        compatibility.check("w", saved, config)


def test_a_state_of_the_middle_of_a_run_fits() -> None:
    assert STATE.epoch < CONFIG.epochs
    compatibility.check("w", SAVED, CONFIG)
