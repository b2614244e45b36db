"""The command: from weights files and words to rows, whose figures are those of a naive loop."""

import dataclasses
import errno
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import naive
import numpy as np
import pytest
import saved_run
import torch
from PIL import Image
from safetensors.torch import save_file
from small_nets import SIZE, net

import bench.depth
import resnet
from bench.evaluate import main, make_exact, plan
from bench.evaluation.exact_bn import mixed_rows
from bench.evaluation.task import normalization
from resnet.data import DATASETS, PROTOCOLS, DataError, open_dataset
from results.store.files import read_rows

KNOWN = DATASETS["imagefolder"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Evaluates, and returns what was printed; fails where the exit status is another."""

    def evaluate(words: str, status: int = 0, *, data: bool = True) -> tuple[str, str]:
        capsys.readouterr()
        given = [*shlex.split(words), f"results={tmp_path}/rows"]
        given += [f"data={folder}", "dataset=imagefolder", f"image_size={SIZE}"] if data else []
        got = main(given)
        out, err = capsys.readouterr()
        assert got == status, (out, err)
        return out, err

    return evaluate


def naive_figures(paths: list[Path], folder: Path, protocol: str) -> dict[int | None, tuple[float, float, float]]:
    """Top-1, top-5 and loss of each net and of the ensemble."""
    splits = open_dataset("imagefolder", folder, image_size=SIZE)
    labels, each = splits.test.labels, []
    for path in paths:
        model = net(0)
        resnet.load_weights(model, path)
        assert splits.test.paths
        normalize = naive.by_channel(KNOWN.mean, KNOWN.std)
        pictures = [Image.open(file).convert("RGB") for file in splits.test.paths]
        each.append(torch.stack([naive.softmax(model, one, protocol, SIZE, normalize) for one in pictures]))
    found = {}
    for member, softmax in [*enumerate(each, start=1), (None, torch.stack(each).mean(0))]:
        order = softmax.argsort(dim=1, descending=True).numpy()
        top1, top5 = (np.mean((order[:, :most] == labels[:, None]).any(axis=1)) for most in (1, 5))
        loss = -softmax[np.arange(len(labels)), labels].log().mean().item()
        found[member] = (float(top1), float(top5), loss)
    return found


@pytest.mark.slow
def test_rows_are_those_of_a_naive_loop(call, weights: list[Path], folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out, _ = call(f"weights={weights[0]},{weights[1]} protocol=1-crop,10-crop,multi-scale bn=exact,running batch=4")
    rows, bad = read_rows(tmp_path / "rows", "evaluations")
    assert bad == [] and len(rows) == 3 * 3 * 2 and len({row["evaluation_id"] for row in rows}) == 1
    for protocol in ("1-crop", "10-crop", "multi-scale"):
        expected = naive_figures(weights, folder, protocol)
        for row in rows:
            if (row["protocol"], row["bn"]) == (protocol, "running"):
                top1, top5, loss = expected[row["member"]]
                assert (row["top1"], row["top5"]) == (top1, top5) and row["loss"] == pytest.approx(loss, abs=1e-5)
    row = next(row for row in rows if row["member"] == 2 and row["bn"] == "running")
    assert (row["family"], row["depth"], row["shortcut"], row["num_classes"]) == ("cifar", 8, "A", 3)
    assert (row["images"], row["members"], row["image_size"], row["split"]) == (9, 2, SIZE, "test")
    assert (row["trained_by"], row["epoch"], row["recipe"], row["seed"], row["bn_images"]) == (None,) * 5
    assert row["images_per_s"] == pytest.approx(9 / row["elapsed_s"])
    assert {row["bn_images"] for row in rows if row["bn"] == "exact"} == {24}
    both = next(row for row in rows if row["member"] is None)
    assert len(both["weights"]) == 2 and both["weights"][1] == row["weights"][0] and both["depth"] == 8
    loss = {row["bn"]: row["loss"] for row in rows if (row["member"], row["protocol"]) == (1, "1-crop")}
    assert abs(loss["exact"] - loss["running"]) > 1e-3
    error = f"{100 * (1 - row['top1']):.2f}"
    assert "1.safetensors" in out and error in out and "ensemble" in out and row["evaluation_id"] in out


def test_exact_statistics_are_over_training_images_of_all_classes(folder: Path, weights: list[Path]) -> None:
    words = [f"weights={weights[0]}", f"data={folder}", "dataset=imagefolder", f"image_size={SIZE}", "batch=5"]
    task = plan([*words, "bn=exact", "bn_images=10"])
    make_exact(task, normalization(task.of))
    paths = open_dataset("imagefolder", folder, image_size=SIZE).train.paths
    assert paths and len(paths) == 24
    normalize = naive.by_channel(KNOWN.mean, KNOWN.std)
    images = [
        normalize(naive.to_tensor(naive.views(Image.open(paths[row]).convert("RGB"), "1-crop", SIZE)[0]))
        for row in mixed_rows(10, 24)
    ]
    model = net(0)
    resnet.load_weights(model, weights[0])
    expected = naive.exact_statistics(model, [torch.stack(images[:5]), torch.stack(images[5:])])
    for name, (mean, var) in expected.items():
        norm = task.of.nets[0].model.get_submodule(name)
        assert torch.allclose(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5), name  # type: ignore[union-attr,operator]
        assert torch.allclose(norm.running_var.double(), var, rtol=1e-4, atol=1e-5), name  # type: ignore[union-attr,operator]


def test_figures_are_printed_before_they_are_written_and_a_pass_before_the_next(  # type: ignore[no-untyped-def]
    call, weights: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or an image of the second pass that cannot be read, loses no figure that is there."""

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("bench.evaluation.rows.write_once", full)
        out, err = call(f"weights={weights[0]} images=4", status=1)
    assert "1-crop" in out and "running" in out and "No space left on device" in err
    monkeypatch.setattr("bench.evaluate.make_exact", lambda *_: (_ for _ in ()).throw(DataError("5.png: cut off")))
    out, err = call(f"weights={weights[0]} images=4 bn=running,exact", status=1)
    (row,), _ = read_rows(tmp_path / "rows", "evaluations")
    assert row["bn"] == "running" and row["evaluation_id"] in out and "5.png: cut off" in err


def test_one_net_under_two_names_is_no_ensemble(call, weights: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "copy.safetensors").write_bytes(weights[0].read_bytes())
    _, err = call(f"weights={weights[0]},{tmp_path}/copy.safetensors images=4", status=2)
    assert f"copy.safetensors: is the net of {weights[0]}; an ensemble is of different nets" in err


def test_a_typed_recipe_is_in_the_row(call, weights: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    call(f"weights={weights[0]} images=4 recipe=fast")
    (row,), _ = read_rows(tmp_path / "rows", "evaluations")
    assert row["recipe"] == "fast"


def test_another_dataset_than_that_of_the_weights_is_refused(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "w.safetensors"
    saved_run.save(path, saved_run.at(2), saved_run.untrained())
    _, err = call(f"weights={path} images=4 dataset=cifar10 data={tmp_path}", status=2, data=False)
    assert "dataset=cifar10: the weights were trained on digits; nearest is dataset=digits" in err


def test_a_part_of_a_split(call, weights: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    call(f"weights={weights[0]} images=4 split=train precision=bf16")
    (row,), _ = read_rows(tmp_path / "rows", "evaluations")
    assert (row["images"], row["split"], row["protocol"], row["bn"]) == (4, "train", "1-crop", "running")
    assert (row["member"], row["members"], row["precision"]) == (1, 1, "bf16")


def test_weights_of_a_run_say_what_they_are(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "w.safetensors"
    saved_run.save(path, saved_run.at(2), saved_run.untrained())
    call(f"weights={path} images=20", data=False)
    (row,), _ = read_rows(tmp_path / "rows", "evaluations")
    assert (row["trained_by"], row["epoch"], row["recipe"], row["seed"]) == ("r.1", 2, "fast", 0)
    assert (row["dataset"], row["image_size"], row["protocol"]) == ("digits", 32, "whole image")
    (inside,) = path.parent.glob("w.checkpoints/*/weights.safetensors")
    call(f"weights={inside} images=20", data=False)
    assert {row["trained_by"] for row in read_rows(tmp_path / "rows", "evaluations")[0]} == {"r.1"}


def test_the_recipe_of_the_run_decides_how_images_are_normalized(folder: Path, tmp_path: Path) -> None:
    for name, recipe in (("paper", "paper"), ("fast", "fast")):
        net_of = saved_run.SAVED.net | {"recipe": recipe}
        saved_run.save(tmp_path / f"{name}.safetensors", dataclasses.replace(saved_run.SAVED, net=net_of))
    # As in training: the digits are normalized by channel by every recipe.
    for name in ("paper", "fast"):
        assert not plan([f"weights={tmp_path}/{name}.safetensors"]).of.per_pixel
        path = tmp_path / f"{name}-folder.safetensors"
        told = json.dumps({"version": 3, "net": {"dataset": "imagefolder", "image_size": str(SIZE), "recipe": name}})
        resnet.save_weights(net(0), path, {"training": told})
        assert plan([f"weights={path}", f"data={folder}"]).of.per_pixel == (name == "paper")
    both = f"weights={tmp_path}/paper.safetensors,{tmp_path}/fast.safetensors"
    with pytest.raises(ValueError, match="^recipe: paper.safetensors has paper and fast.safetensors has fast; "):
        plan([both])
    with pytest.raises(ValueError, match="^recipe: paper.safetensors has paper and recipe=fast has fast"):
        plan([f"weights={tmp_path}/paper.safetensors", "recipe=fast"])
    saved_run.save_old(old := tmp_path / "old.safetensors", 1)
    assert not plan([f"weights={old}", "recipe=fast"]).of.per_pixel


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (
            '{"version": 3, "net": {"dataset": "digits", "image_size": "abc"}}',
            "image_size='abc', of the weights",
        ),
        (
            '{"version": 3, "net": {"dataset": "digits", "image_size": "-3"}}',
            "image_size='-3', of the weights",
        ),
        (
            '{"version": 3, "net": {"dataset": "digits", "recipe": "lars"}}',
            "recipe=lars is unknown: choose one of fast, paper (the",
        ),
        ('{"version": 3, "net": {"dataset": "mnist"}}', "dataset=mnist, of the weights: no such dataset here"),
        ("{", "its metadata training is not JSON"),
        ("[" * 100_000, "its metadata training is not JSON"),
        (
            '{"net": {"dataset": "digits", "image_size": "0"}}',
            "image_size='0', of the weights: expected a number",
        ),
        ('{"net": {"dataset": "digits", "image_size": "4097"}}', "image_size='4097', of the weights"),
        (f'{{"net": {{"dataset": "digits", "image_size": "{"9" * 5000}"}}}}', f"image_size='{'9' * 57}...', of the we"),
        (
            '{"net": {"dataset": "digits", "seed": "9223372036854775808"}}',
            "has seed='9223372036854775808'; expected",
        ),
        (
            '{"net": {"dataset": "digits", "seed": "-1"}}',
            "its metadata training has seed='-1'; expected",
        ),
        ('{"net": {"dataset": "digits", "shortcut": "none"}}', "has shortcut='none'; the weights are of shortcut=A"),
        ('{"net": {"dataset": "digits", "depth": "20"}}', "has depth='20'; the weights are of depth=8"),
        ('{"net": {}, "epoch": -5}', "its metadata training has epoch=-5; expected a whole number from 0 on"),
        ('{"net": {}, "epoch": "five"}', "its metadata training has epoch='five'; expected"),
        ('{"net": {}, "epoch": true}', "its metadata training has epoch=True; expected"),
        (f'{{"net": {{}}, "epoch": 1{"0" * 30}}}', "its metadata training has epoch=1000"),
        ('{"net": {}, "attempt": "a\\nb.0"}', "its metadata training has attempt='a\\nb.0'; expected RUN.RESTART"),
        ('{"net": {}, "attempt": "\\ud800x.0"}', "its metadata training has attempt='\\ud800x.0'; expected RUN.REST"),
        ('{"net": {}, "attempt": "r"}', "its metadata training has attempt='r'; expected RUN.RESTART"),
    ],
)
def test_what_weights_say_is_believed_only_if_it_can_be(tmp_path: Path, metadata: str, said: str) -> None:
    path = tmp_path / "w.safetensors"
    resnet.save_weights(net(0, classes=10), path, {"training": metadata})
    with pytest.raises(ValueError) as raised:
        plan([f"weights={path}"])
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = net(0, classes=10)
    with torch.no_grad():
        model.layer2[0].conv1.weight[0, 0, 0, 0] = float("nan")
    resnet.save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="layer2.0.conv1.weight has values that are not finite"):
        plan([f"weights={tmp_path}/w.safetensors", "dataset=digits"])


def test_variances_below_zero_are_refused(tmp_path: Path) -> None:
    model = net(0, classes=10)
    model.bn1.running_var[3] = -1.0  # type: ignore[index]
    resnet.save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="w.safetensors: bn1.running_var has variances below 0"):
        plan([f"weights={tmp_path}/w.safetensors", "dataset=digits"])


def test_scores_that_are_no_numbers_are_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = net(0, classes=10)
    with torch.no_grad():
        model.fc.weight.fill_(3e38)
    resnet.save_weights(model, tmp_path / "w.safetensors")
    words = [f"weights={tmp_path}/w.safetensors", "dataset=digits", "images=5", f"results={tmp_path}/rows"]
    for command, table in ((main, "evaluations"), (bench.depth.main, "lesions")):
        assert command(words) == 1
        assert "the net puts out scores that are not finite" in capsys.readouterr().err
        assert not read_rows(tmp_path / "rows", table)[0]


def test_the_same_net_twice_is_no_ensemble_and_images_for_nothing_are_refused(tmp_path: Path) -> None:
    resnet.save_weights(net(0, classes=10), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors: is given twice; an ensemble is of different nets$"):
        plan([f"weights={tmp_path}/w.safetensors,{tmp_path}/w.safetensors", "dataset=digits"])
    with pytest.raises(ValueError, match="^bn_images=30: is for bn=exact; add bn=exact, or leave bn_images out$"):
        plan([f"weights={tmp_path}/w.safetensors", "dataset=digits", "bn_images=30"])
    with pytest.raises(ValueError, match=r"\(nearest: protocol='whole image'\)$"):
        plan([f"weights={tmp_path}/w.safetensors", "dataset=digits", "protocol=whole"])
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "gone.safetensors")
    with pytest.raises(ValueError, match=r"link\.safetensors: a link to .*gone\.safetensors, which is not there$"):
        plan([f"weights={tmp_path}/link.safetensors", "dataset=digits"])


def test_small_images_are_seen_whole() -> None:
    assert DATASETS["cifar10"].protocols == DATASETS["digits"].protocols == ("whole image",)
    assert DATASETS["imagenet"].protocols == DATASETS["imagefolder"].protocols == ("1-crop", "10-crop", "multi-scale")
    assert {*DATASETS["digits"].protocols, *DATASETS["imagenet"].protocols} == set(PROTOCOLS)
    for dataset in DATASETS:  # what a run calls its own evaluation
        assert DATASETS[dataset].eval_protocol in DATASETS[dataset].protocols


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "weights is missing: add weights=PATH"),
        ("weights=TMP/none.safetensors", "weights=TMP/none.safetensors: no such file; nearest is TMP/"),
        ("weights=TMP/text.safetensors", "weights=TMP/text.safetensors: not a readable safetensors file"),
        ("weights=TMP/odd.safetensors", "weights=TMP/odd.safetensors: no residual network's weights"),
        ("weights=TMP/a.safetensors dataset=imagefolder", "data is missing: add data=PATH; $RESNET_BENCH_DATA has no"),
        ("weights=TMP/a.safetensors", "dataset is missing: the weights do not say what they were trained on; choose"),
        (
            "weights=TMP/a.safetensors dataset=digits",
            "weights=TMP/a.safetensors: puts out 3 classes, and digits",
        ),
        ("weights=TMP/w.safetensors data=TMP", "data=TMP: the digits come with scikit-learn; leave data out"),
        (
            "weights=TMP/w.safetensors protocol=10-crop",
            "protocol=10-crop: images of digits are evaluated by whole",
        ),
        (
            "weights=TMP/w.safetensors protocol=5-crop",
            "protocol=5-crop: choose from 1-crop, 10-crop, multi-scale",
        ),
        ("weights=TMP/w.safetensors images=361", "images=361: there are 360; nearest is images=360"),
        ("weights=TMP/w.safetensors images=0", "images=0: images takes a whole number, at least 1"),
        ("weights=TMP/w.safetensors bn=exact bn_images=5000", "bn_images=5000: there are 1437; nearest is"),
        (
            "weights=TMP/w.safetensors shortcut=C",
            "weights=TMP/w.safetensors: weights of shortcut=A, and shortcut=C",
        ),
        ("weights=TMP/a.safetensors dataset=imagefolder data=TMP", "data=TMP: "),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    call,
    tmp_path: Path,
    weights: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    said: str,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    (tmp_path / "a.safetensors").write_bytes(weights[0].read_bytes())
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors")
    saved_run.save(tmp_path / "w.safetensors", saved_run.SAVED, saved_run.untrained())
    out, err = call(words.replace("TMP", str(tmp_path)), status=2, data=False)
    assert out == "" and err.startswith(f"bench.evaluate: {said.replace('TMP', str(tmp_path))}"), err
    assert err.count("\n") == 1 and not (tmp_path / "rows").exists()


def test_a_broken_image_is_one_line_and_leaves_no_row(call, weights: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for split in ("train", "val"):
        for label in range(3):
            place = tmp_path / "broken" / split / str(label)
            place.mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(place / "a.png")
    (tmp_path / "broken/val/2/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = f"weights={weights[0]} data={tmp_path}/broken dataset=imagefolder image_size={SIZE}"
    out, err = call(words, status=1, data=False)
    assert out == "" and err.startswith(f"bench.evaluate: {tmp_path}/broken/val/2/a.png: ") and err.count("\n") == 1
    assert not (tmp_path / "rows" / "evaluations").exists()
