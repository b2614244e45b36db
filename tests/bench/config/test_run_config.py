"""What typed keys resolve to: defaults by dataset and recipe, where images come from, and what is refused."""

import dataclasses
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config import grammar
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from bench.config.paths import ROOT
from bench.config.resolve import Host, resolve, words
from bench.config.run_config import RunConfig
from resnet.architecture import BOTTLENECK_DEPTHS, IMAGENET_STAGES
from results.words import PATH_KEYS

HOST = Host(ranks_per_node=2, results="/rows")


@pytest.fixture(autouse=True)
def _no_data_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)


def keys_of(line: str) -> RunKeys:
    (keys,) = grammar.parse(shlex.split(line), RunKeys)
    return keys


def resolved(line: str, host: Host = HOST) -> tuple[RunConfig, list[str]]:
    return resolve(keys_of(line), host)


def config(line: str, host: Host = HOST) -> RunConfig:
    return resolved(line, host)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog", "emu"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
    return tmp_path / "images"


def test_digits_take_the_cifar_familys_defaults() -> None:
    found, notices = resolved("depth=20 dataset=digits")
    assert (found.family, found.shortcut, found.stride, found.image_size, found.num_classes) == (
        "cifar",
        "A",
        "v1",
        32,
        10,
    )
    assert (found.loader, found.data, found.target, found.engine, found.precision) == (
        "dali",
        None,
        0.97,
        "deepspeed",
        "bf16",
    )
    assert (found.nodes, found.ranks_per_node, found.world_size, found.seed) == (1, 2, 2, 0)
    assert found.epochs == found.recipe.epochs and found.results == "/rows"
    assert not notices


def test_family_follows_the_dataset_unless_given() -> None:
    assert config("depth=50 dataset=digits").family == "cifar"
    assert config("depth=50").family == "imagenet"
    assert config("depth=18 dataset=digits family=imagenet").shortcut == "B"
    assert config("depth=50").num_classes == 1000 and config("depth=50").image_size == 224


def test_images_come_from_the_key_then_the_site_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("typed", "site", "env/cifar10"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("RESNET_BENCH_DATA", str(tmp_path / "env"))
    site = dataclasses.replace(HOST, data={"cifar10": str(tmp_path / "site")})
    assert config(f"depth=20 dataset=cifar10 data={tmp_path}/typed", site).data == str(tmp_path / "typed")
    assert config("depth=20 dataset=cifar10", site).data == str(tmp_path / "site")
    assert config("depth=20 dataset=cifar10").data == str(tmp_path / "env" / "cifar10")
    assert config("depth=50").loader == "synthetic"


@pytest.mark.parametrize(("place", "what"), [("gone", "no such folder"), ("file", "Not a directory")])
def test_a_folder_of_the_environment_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, what: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("RESNET_BENCH_DATA", f"{tmp_path}/{place}")
    said = f"^RESNET_BENCH_DATA={tmp_path}/{place}: {what}; name the folder of the datasets, or unset it$"
    for line in (
        "depth=20 dataset=cifar10",
        "depth=20 dataset=cifar10 loader=dali",
        "depth=50",
        "depth=50 target=0.7",
    ):
        with pytest.raises(WordError, match=said):
            config(line)
    assert config(f"depth=20 dataset=cifar10 data={tmp_path}/own").data == f"{tmp_path}/own"
    assert config("depth=20 dataset=digits").data is None
    assert config("depth=50 loader=synthetic").data is None


def test_without_images_throughput_is_measured_on_synthetic_ones_and_that_is_said_once() -> None:
    found, notices = resolved("depth=152 nodes=8")
    assert (found.loader, found.data, found.target, found.epochs, found.dataset) == (
        "synthetic",
        None,
        None,
        1,
        "imagenet",
    )
    assert len(notices) == 1 and "synthetic" in notices[0] and "data=PATH" in notices[0] and "\n" not in notices[0]
    assert resolved("depth=152 loader=synthetic")[1] == []


@pytest.mark.parametrize("word", ["loader=dali", "loader=torch", "target=0.9", "bn=exact", "examine=lesions"])
def test_who_asks_for_images_gets_no_synthetic_ones(word: str) -> None:
    with pytest.raises(WordError, match=f"^{word}: no images of cifar10 .*add data=PATH$"):
        config(f"depth=20 dataset=cifar10 {word}")


def test_classes_of_a_folder_are_counted(folder: Path) -> None:
    found = config(f"depth=18 dataset=imagefolder data={folder} image_size=64")
    assert (found.num_classes, found.image_size, found.family) == (3, 64, "imagenet")
    assert config("depth=18 dataset=imagefolder loader=synthetic num_classes=7").num_classes == 7
    (folder / "train").rename(folder / "training")
    with pytest.raises(WordError, match=": train: no such folder; expected train/CLASS.* found training, val$"):
        config(f"depth=18 dataset=imagefolder data={folder}")


def test_a_place_out_of_sight_takes_a_path_as_it_stands() -> None:
    away = dataclasses.replace(HOST, visible=False)
    found, notices = resolved("depth=50 data=/far/images", away)
    assert found.data == "/far/images" and found.loader == "dali" and "not on this machine" in notices[0]
    with pytest.raises(WordError, match="cannot be counted; add num_classes=N"):
        config("depth=50 dataset=imagefolder data=/far/images", away)


def test_fast_has_a_batch_a_device_and_scales_the_rate_with_the_global_batch() -> None:
    one, eight = config("depth=20 dataset=digits ranks_per_node=1"), config("depth=20 dataset=digits ranks_per_node=8")
    assert one.batch == eight.batch == one.recipe.batch
    assert eight.lr == pytest.approx(8 * one.lr)
    assert one.lr == pytest.approx(one.recipe.lr * one.batch / one.recipe.reference_batch)
    assert config("depth=20 dataset=digits batch=64 ranks_per_node=1").lr == pytest.approx(one.lr * 64 / one.batch)
    assert config("depth=20 dataset=digits ranks_per_node=1 grad_accum=4").lr == pytest.approx(4 * one.lr)
    assert config("depth=20 dataset=digits lr=0.3 ranks_per_node=8").lr == 0.3


def test_paper_splits_its_global_batch() -> None:
    found = config("depth=50 recipe=paper nodes=4 ranks_per_node=8 grad_accum=2")
    assert (found.batch, found.global_batch, found.lr) == (4, 256, 0.1)
    assert config("depth=20 dataset=digits recipe=paper").global_batch == 128
    assert config("depth=50 recipe=paper batch=256").global_batch == 512
    with pytest.raises(WordError) as raised:
        config("depth=50 recipe=paper nodes=3 grad_accum=64")
    assert "nodes=3 x ranks_per_node=2 x grad_accum=64; world sizes that divide: 1, 2, 4 (or give batch=)" in str(
        raised.value
    )


def test_given_epochs_are_not_cut_by_the_papers_iterations(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    line = f"depth=20 dataset=cifar10 data={tmp_path}/cifar recipe=paper"
    assert config(line).steps == 64000
    assert (config(f"{line} epochs=200").steps, config(f"{line} epochs=200 steps=7").steps) == (None, 7)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "depth is missing: add depth=50 (ImageNet), or depth=20 dataset=digits"),
        ("depth=20", "depth=20: a depth of the cifar family; add dataset=digits or dataset=cifar10"),
        ("depth=50 batch=" + 400 * "9", f"batch={400 * '9'}: batch takes a whole number, at least 1"),
        ("depth=6000000002 dataset=digits", "depth=6000000002: depth takes a whole number, at least 8 and at most"),
        ("depth=21", "depth=21: family=imagenet has depths 18, 34, 50, 101, 152; nearest is 18"),
        ("depth=21 dataset=digits", "depth=21: family=cifar has depths 6n + 2 from 8 on; nearest is 20"),
        ("depth=18 stride=v1.5", "stride=v1.5: family=imagenet depth=18 has no bottlenecks"),
        ("depth=50 engine=ddp zero_stage=1", "zero_stage=1: ZeRO is DeepSpeed's; engine=deepspeed, or zero_stage=0"),
        ("depth=50 kernels=tritn", "kernels=tritn: choose from torch, compile, triton, auto (nearest: kernels=triton)"),
        ("depth=50 num_classes=3", "num_classes=3: dataset=imagenet has 1000; leave num_classes out"),
        ("depth=50 loader=synthetic target=0.7", "target=0.7: synthetic images have no accuracy"),
        ("depth=20 dataset=digits data=/x", "data=/x: the digits come with scikit-learn; leave data out"),
        ("depth=18 dataset=imagefolder", "dataset=imagefolder: add data=PATH"),
        (
            "depth=50 save=/a/w.pt",
            "save=/a/w.pt: weights are written to a .safetensors file; nearest is save=/a/w.safet",
        ),
        ("depth=50 resume=/none/w.safetensors", "resume=/none/w.safetensors: no such file; / has no .safetensors file"),
    ],
)
def test_what_does_not_go_together_is_named(line: str, message: str) -> None:
    with pytest.raises(WordError) as raised:
        config(line)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_missing_folder_is_named_with_its_nearest_neighbour(folder: Path) -> None:
    with pytest.raises(WordError, match=f"data={folder.parent}/imagse: no such folder; nearest is {folder}$"):
        config(f"depth=50 data={folder.parent}/imagse")
    with pytest.raises(WordError, match=f"; nearest is {folder}$"):
        config(f"depth=50 data={folder}/unlike/anything")
    (folder / "file").touch()
    with pytest.raises(WordError, match=f"data={folder}/file: not a folder or an archive .*; nearest is {folder}$"):
        config(f"depth=50 data={folder}/file")


def test_rows_go_to_a_folder_that_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WordError, match=f"^results={tmp_path}/file/rows: {tmp_path}/file is not a folder"):
        config(f"depth=50 results={tmp_path}/file/rows")
    config(f"depth=50 results={tmp_path}/new/rows")
    assert not (tmp_path / "new").exists()


# What is a name and no file: to open a pipe waits, and to rename over any of them takes it away.
SPECIAL = {
    "pipe.safetensors": "a pipe (FIFO)", "socket.safetensors": "a socket", "device.safetensors": "a device",
    "link.safetensors": "a pipe (FIFO)",
}  # fmt: skip


@pytest.fixture
def special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of each kind, and nothing that can be resumed from."""
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    os.mkfifo("pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.safetensors")
    (tmp_path / "device.safetensors").symlink_to("/dev/null")  # as root alone could make one
    (tmp_path / "link.safetensors").symlink_to("pipe.safetensors")
    (tmp_path / "nowhere.safetensors").symlink_to("nowhere.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", SPECIAL)
def test_weights_take_the_place_of_files_alone(special: Path, name: str) -> None:
    said = f"save={special}/{name}: {SPECIAL[name]}, and weights would take its place; "
    with pytest.raises(WordError) as raised:
        config(f"depth=50 save={special}/{name}")
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)
    (special / "before.safetensors").touch()
    assert config(f"depth=50 save={special}/before.safetensors").save == f"{special}/before.safetensors"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        *((name, f"{what}, not a file; ") for name, what in SPECIAL.items()),
        ("pip.safetensors", "no such file; "),
        ("none/pipe.safetensors", "no such file; "),
        ("folde.safetensors", "no such file; "),
        ("folder.safetensors", "a folder, not a file; "),
        ("pipe.safetensors/w.safetensors", "no such file; "),
        ("w.txt", "no such file; "),
    ],
)
def test_nothing_is_offered_to_resume_from_but_files_that_can_be_read(special: Path, typed: str, said: str) -> None:
    (special / "w1.txt").touch()
    where = special / typed if typed == "folder.safetensors" else special
    with pytest.raises(WordError) as raised:
        config(f"depth=50 resume={special}/{typed}")
    line = f"resume={special}/{typed}: {said}"
    assert str(raised.value) == f"{line}{where} has no .safetensors file; a run's save=PATH writes one"
    (where / "weights.safetensors").touch()
    with pytest.raises(WordError) as raised:
        config(f"depth=50 resume={special}/{typed}")
    assert str(raised.value) == f"{line}nearest is {where}/weights.safetensors"


@pytest.mark.parametrize("typed", ["/dev/nul", "/dev/null", "/dev/stdni", "/dev/nul.safetensors", "/dev/none/w"])
def test_no_device_is_offered_to_resume_from(typed: str) -> None:
    with pytest.raises(WordError, match=f"^resume={typed}: .*; /dev has no .safetensors file; a run's save=PATH "):
        config(f"depth=50 resume={typed}")


def test_what_is_offered_lies_where_the_rest_of_the_path_leads(tmp_path: Path) -> None:
    for place in ("run2/w.safetensors", "run11/other.safetensors"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).touch()
    with pytest.raises(WordError, match=f"no such file; nearest is {tmp_path}/run2/w.safetensors$"):
        config(f"depth=50 resume={tmp_path}/run1/w.safetensors")
    (tmp_path / "images.txt").touch()
    with pytest.raises(WordError, match=f"no such folder; nearest is {tmp_path}$"):  # a list is no folder
        config(f"depth=18 dataset=imagefolder num_classes=2 data={tmp_path}/images")


def test_the_hash_tells_what_is_measured_and_not_where_it_lies(folder: Path) -> None:
    base = config("depth=18 dataset=digits family=imagenet")
    for line in ("results=/else", "save=/w.safetensors"):
        assert config(f"depth=18 dataset=digits family=imagenet {line}").config_hash() == base.config_hash()
    for line in ("seed=1", "nodes=2", "ranks_per_node=1", "lr=0.2", "epochs=3", "recipe=paper", "loader=torch"):
        assert config(f"depth=18 dataset=digits family=imagenet {line}").config_hash() != base.config_hash()
    other = dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, momentum=0.8))
    assert other.config_hash() != base.config_hash()
    assert len(base.config_hash()) == 16 and int(base.config_hash(), 16) >= 0


def test_every_key_that_is_a_path_is_a_particular_of_one_machine() -> None:
    assert {option.name for option in dataclasses.fields(RunKeys) if option.metadata["text"] == "a path"} == set(
        PATH_KEYS
    )


def test_json_gives_the_same_configuration_back() -> None:
    found = config("depth=20 dataset=digits recipe=paper save=/w.safetensors")
    assert RunConfig.from_json(found.to_json()) == found
    assert "\n" not in found.to_json()


@pytest.mark.parametrize(
    "line",
    [
        "depth=152 nodes=8",
        "depth=20 dataset=digits seed=3 lr=0.125 target=0.9",
        "depth=18 recipe=paper nodes=4 weight_decay=0.0 save=\"'/w,1.safetensors'\"",
        "depth=18 dataset=imagefolder loader=synthetic num_classes=7 steps=5",
    ],
)
def test_words_resolve_to_the_same_configuration_elsewhere(line: str) -> None:
    found = config(line)
    elsewhere = Host(ranks_per_node=99, results="/other", visible=False)
    again, notices = resolve(keys_of(shlex.join([*words(keys_of(line), found), f"nodes={found.nodes}"])), elsewhere)
    assert again == found and not notices


def test_kernels_are_chosen_by_measurement_where_there_are_gpus() -> None:
    keys = keys_of("depth=20 dataset=digits")
    assert resolve(keys, Host(ranks_per_node=8, gpus=8))[0].kernels == "auto"
    assert resolve(keys, Host(ranks_per_node=2, gpus=0))[0].kernels == "torch"
    typed = keys_of("depth=20 dataset=digits kernels=torch")
    assert resolve(typed, Host(ranks_per_node=8, gpus=8))[0].kernels == "torch"


def test_kernels_without_a_gpu_are_refused_unless_the_interpreter_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Host(ranks_per_node=2, gpus=0)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for word, why in (("triton", "interpreter is for tests"), ("auto", "timing kernels on a GPU")):
        with pytest.raises(WordError, match=rf"^kernels={word}: .*{why}.*nearest is kernels=torch[^\n]*$"):
            resolve(keys_of(f"depth=20 dataset=digits kernels={word}"), cpu)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert resolve(keys_of("depth=20 dataset=digits kernels=triton"), cpu)[0].kernels == "triton"


def test_words_do_not_tell_the_number_of_nodes(folder: Path) -> None:
    typed = f"depth=18 dataset=imagefolder data={folder}"
    assert words(keys_of(f"{typed} nodes=8"), config(f"{typed} nodes=8")) == words(keys_of(typed), config(typed))


def test_names_suit_files_and_tell_nets_apart() -> None:
    assert config("depth=20 dataset=digits").name() == "resnet20A-digits"
    assert config("depth=20 dataset=digits shortcut=none").name() == "plain20-digits"
    assert config("depth=50 stride=v1.5").name() == "resnet50B-v1.5-imagenet-synthetic"


@pytest.mark.parametrize("depth", [*IMAGENET_STAGES])
def test_only_bottlenecks_have_a_stride_to_choose(depth: int) -> None:
    if depth in BOTTLENECK_DEPTHS:
        assert config(f"depth={depth} stride=v1.5").stride == "v1.5"
    else:
        with pytest.raises(WordError, match="nearest is v1"):
            config(f"depth={depth} stride=v1.5")


def test_a_configuration_made_by_hand_is_checked_too() -> None:
    with pytest.raises(WordError, match="^batch=0: batch takes a whole number, at least 1"):
        dataclasses.replace(config("depth=50"), batch=0)


def test_no_torch_is_imported() -> None:
    code = "import bench.config.run_config, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
