"""What a run is asked to find out about its net: several values are one configuration, nonsense is refused."""

import shlex

import pytest

from bench.config import grammar
from bench.config.examined import check_counts, lost_with
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve, words
from bench.config.run_config import RunConfig
from bench.training.recorder import run_row

HOST = Host(ranks_per_node=2, results="/rows")
DIGITS = "depth=20 dataset=digits"
SYNTHETIC = "depth=18 dataset=imagenet loader=synthetic"


def keys_of(line: str) -> list[RunKeys]:
    return grammar.parse(shlex.split(line), RunKeys)


def config(line: str, host: Host = HOST) -> RunConfig:
    (keys,) = keys_of(line)
    return resolve(keys, host)[0]


def test_several_values_are_one_configuration_in_the_order_of_their_choices() -> None:
    (keys,) = keys_of(f"{DIGITS} examine=lesions,responses,lesions bn=exact,running")
    assert (keys.examine, keys.bn) == ("responses,lesions", "running,exact")
    assert [keys.depth for keys in keys_of("dataset=digits depth=20,56 examine=responses,lesions")] == [20, 56]
    assert config(f"{DIGITS} bn=exact,running") == config(f"{DIGITS} bn=running,exact")
    assert config(f"{DIGITS} bn=exact,running").config_hash() == config(f"{DIGITS} bn=running,exact").config_hash()


@pytest.mark.parametrize(
    "line",
    ["protocol='whole image'", "bn=running,exact bn_images=7", "examine=responses,lesions,gradient-flow",
     "examine=gradient-flow examine_images=5", "activation_checkpointing=true",
     "protocol='whole image' bn=exact"],
)  # fmt: skip
def test_it_goes_along_and_tells_configurations_apart(line: str) -> None:
    found, base = config(f"{DIGITS} {line}"), config(DIGITS)
    (keys,) = keys_of(f"{DIGITS} {line}")
    assert config(shlex.join(words(keys, found))) == found
    assert RunConfig.from_json(found.to_json()) == found
    assert found.config_hash() != base.config_hash()


def test_what_is_filled_in() -> None:
    nothing = config(DIGITS).examined
    assert (nothing.protocols, nothing.examinations) == ((), ())
    exact = config(f"{DIGITS} bn=exact").examined
    assert (exact.protocols, exact.statistics, exact.bn_images) == (("whole image",), ("exact",), 2048)
    both = config(f"{DIGITS} bn=exact,running bn_images=9").examined
    assert (both.statistics, both.bn_images) == (("running", "exact"), 9)  # exact ones take the place of the others
    flow = config(f"{DIGITS} examine=gradient-flow,lesions").examined
    assert flow.examinations == ("lesions", "gradient-flow")
    assert (flow.examine_images, flow.flow_images) == (1000, 128)
    fewer = config(f"{DIGITS} examine=gradient-flow examine_images=9").examined
    assert (fewer.examine_images, fewer.flow_images) == (9, 9)
    more = config(f"{DIGITS} examine=gradient-flow,lesions examine_images=360").examined
    assert (more.examine_images, more.flow_images) == (360, 128)  # one batch of fp32, whatever else is looked at
    assert more.after_training and not config(f"{DIGITS} examine=gradient-flow").examined.after_training
    assert exact.after_training and not nothing.after_training


def test_more_images_than_there_are_are_refused_and_the_default_is_what_there_is() -> None:
    check_counts(config(f"{DIGITS} bn=exact examine=lesions"), train=10, test=4)
    check_counts(config(f"{DIGITS} bn=exact bn_images=10 examine=lesions examine_images=4"), train=10, test=4)
    for line, said in (
        ("bn=exact bn_images=11", "bn_images=11: there are 10 training images; nearest is bn_images=10"),
        ("examine=lesions examine_images=5", "examine_images=5: there are 4 test images; nearest is examine_images=4"),
    ):
        with pytest.raises(WordError, match=f"^{said}$"):
            check_counts(config(f"{DIGITS} {line}"), train=10, test=4)


def test_what_was_lost_is_found_by_commands() -> None:
    saved = "protocol='whole image' bn=exact examine=lesions,gradient-flow save=/w/a.safetensors"
    of = "weights=/w/a.safetensors precision=bf16 results=/rows"
    assert lost_with(config(f"{DIGITS} {saved}")) == (
        f"what it did not come to is found by python -m bench.evaluate {of} 'protocol=whole image' bn=exact && "
        f"python -m bench.depth {of} images=360"
    )
    counted = "bn=exact,running bn_images=9 examine=responses examine_images=7 precision=fp32 save='/w/a b.safetensors'"
    of = "'weights=/w/a b.safetensors' precision=fp32 results=/rows"
    assert lost_with(config(f"{DIGITS} {counted}")).endswith(
        f"bench.evaluate {of} 'protocol=whole image' bn=running,exact bn_images=9 && "
        f"python -m bench.depth {of} images=7"
    )
    assert "not saved" in lost_with(config(f"{DIGITS} bn=exact"))


def test_protocols_are_those_of_the_dataset() -> None:
    host = Host(ranks_per_node=2, results="/rows", data={"imagenet": "/elsewhere"}, visible=False)
    found = config("depth=18 protocol=multi-scale,10-crop num_classes=1000", host)
    assert found.protocol == "10-crop,multi-scale" and found.examined.protocols == ("10-crop", "multi-scale")
    assert found.examined.statistics == ("running",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{DIGITS} protocol=10-crop", "protocol=10-crop: images of digits are evaluated by whole image (nearest: "
                                       "protocol='whole image')"),
        (f"{DIGITS} protocol=12-crop", "protocol=12-crop: choose from 1-crop, 10-crop, multi-scale, whole image"),
        (f"{DIGITS} bn=running,exakt", "bn=exakt: choose from running, exact (nearest: bn=exact)"),
        (f"{DIGITS} examine=", "examine=: choose from responses, lesions, gradient-flow"),
        (f"{DIGITS} examine=responses,,lesions", "examine=responses,,lesions: examine takes some of"),
        (f"{DIGITS} bn_images=9", "bn_images=9: is for bn=exact; add bn=exact, or leave bn_images out"),
        (f"{DIGITS} bn=running bn_images=9", "bn_images=9: is for bn=exact"),
        (f"{DIGITS} bn=exact bn_images=1", "bn_images=1: bn_images takes a whole number, at least 2"),
        (f"{DIGITS} bn=exact bn_images=3", "bn_images=3: each of 2 ranks takes two or more; nearest is bn_images=4"),
        (f"{DIGITS} examine_images=9", "examine_images=9: is for examine=; add one of responses, lesions, gradient"),
        (f"{SYNTHETIC} protocol=1-crop", "protocol=1-crop: loader=synthetic has no images to look at; leave protocol"),
        (f"{SYNTHETIC} bn=exact", "bn=exact: loader=synthetic has no images to look at; leave bn out"),
        (f"{SYNTHETIC} examine=lesions", "examine=lesions: loader=synthetic has no images to look at"),
        (f"{DIGITS} activation_checkpointing=true kernels=compile", "activation_checkpointing=true: kernels=compile "),
        (f"{DIGITS} activation_checkpointing=maybe", "activation_checkpointing=maybe: activation_checkpointing "),
        (f"{DIGITS} family=one-layer shortcut=none", "shortcut=none: family=one-layer is about its shortcuts"),
        ("depth=18 dataset=digits family=one-layer", "depth=18: family=one-layer has depths 6n + 2 from 8 on; nearest"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_the_nearest(line: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        config(line)
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)
    assert isinstance(raised.value, WordError) or "family" in said or "depth" in said


def test_activation_checkpointing_changes_the_default_of_kernels_alone() -> None:
    gpus = Host(ranks_per_node=2, gpus=2, results="/rows")
    assert config(DIGITS, gpus).kernels == "auto"
    assert config(f"{DIGITS} activation_checkpointing=true", gpus).kernels == "torch"
    assert config(f"{DIGITS} activation_checkpointing=false", gpus) == config(DIGITS, gpus)
    with pytest.raises(ValueError, match=r"^activation_checkpointing=true: kernels=auto decides"):
        config(f"{DIGITS} activation_checkpointing=true kernels=auto", gpus)
    for line, flag in (("", None), ("activation_checkpointing=true", True)):
        assert run_row(config(f"{DIGITS} {line}"), "r", 0)["activation_checkpointing"] is flag


def test_one_layer_nets_are_called_so_and_are_no_nets_of_the_paper() -> None:
    found = config("depth=20 dataset=digits family=one-layer")
    assert found.name() == "resnet20A-one-layer-digits" and found.shortcut == "A"
    assert run_row(found, "r", 0)["extension"] is True
    assert config("depth=20 dataset=digits").name() == "resnet20A-digits"
    # Trained as the cifar family is, with its cold start from 110 layers on.
    deep = config("depth=110 dataset=digits family=one-layer recipe=paper batch=64")
    assert deep.recipe == config("depth=110 dataset=digits recipe=paper batch=64").recipe
    assert deep.recipe.cold_lr == 0.01
