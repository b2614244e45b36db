"""What a run finds out about its net on two ranks is what the commands find of the weights that it saved."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bench.depth
import bench.evaluate
import resnet
from bench.config import grammar
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.evaluation import nets
from bench.evaluation.exact_bn import mixed_rows, set_exact_statistics
from bench.evaluation.flow import gradient_flow
from bench.evaluation.images import Normalization
from bench.evaluation.softmax import Totals, answers
from bench.evaluation.task import Setting, plain_batches
from bench.measure.failure import Diverged
from bench.training.examination import Examiner
from bench.training.model import build_model
from bench.training.process_group import World
from resnet.data import DATASETS, compute_mean_image, open_dataset
from results.store.files import read_rows

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).resolve().parents[3]
SIDE, BATCH = 32, 4
PROTOCOLS = ("1-crop", "10-crop", "multi-scale")
WORDS = (
    f"dataset=imagefolder family=cifar depth=14 image_size={SIDE} recipe=paper batch={BATCH} epochs=3 precision=fp32 "
    f"ranks_per_node=2 loader_threads=1 seed=3 protocol={','.join(PROTOCOLS)} bn=running,exact "
    "examine=responses,lesions,gradient-flow kernels=torch"
).split()
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of smooth pictures; nine test images, so that the ranks have five and four."""
    root = tmp_path_factory.mktemp("photographs")
    for split, count in (("train", 9), ("val", 3)):
        for label in range(3):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for index in range(count):
                seed = 1000 * label + 10 * index + (split == "val")
                noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
                size = [(60, 40), (41, 41), (40, 64)][index % 3]
                Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(place / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The store and the weights of a run that was asked for everything, and what it printed."""
    place = tmp_path_factory.mktemp("run")
    words = [*WORDS, f"data={folder}", f"results={place}/rows", f"save={place}/w.safetensors"]
    ended = subprocess.run(
        [sys.executable, ROOT / "launch/local.py", *words], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return place / "rows", place / "w.safetensors", ended.stdout + ended.stderr


def rows_of(store: Path, table: str) -> Rows:
    found, bad = read_rows(store, table)
    assert found and not bad
    return found


def setting(folder: Path, results: Path) -> tuple[Setting, Normalization]:
    splits = open_dataset("imagefolder", str(folder), image_size=SIDE)
    device = torch.device("cpu")
    of = Setting(
        dataset="imagefolder", splits=splits, image_size=SIDE, batch=BATCH, precision="fp32", threads=1,
        results=results, device=device,
    )  # fmt: skip
    mean, _ = compute_mean_image(splits.train, image_size=SIDE, threads=1, device=device)
    known = DATASETS["imagefolder"]
    return of, Normalization(mean=known.mean, std=known.std, mean_image=mean)


def test_evaluations_are_those_of_the_command(run: tuple[Path, Path, str], folder: Path, tmp_path: Path) -> None:
    store, weights, said = run
    words = [f"weights={weights}", f"data={folder}", f"protocol={','.join(PROTOCOLS)}", f"results={tmp_path}"]
    assert bench.evaluate.main(words) == 0
    mine = {row["protocol"]: row for row in rows_of(store, "evaluations") if row["bn"] == "running"}
    theirs = {row["protocol"]: row for row in rows_of(tmp_path, "evaluations")}
    assert set(mine) == set(theirs) == set(PROTOCOLS)
    own = ("evaluation_id", "created", "images_per_s", "elapsed_s", "world_size", "loss", "system_id")
    for protocol, row in mine.items():
        assert {k: v for k, v in row.items() if k not in own} == {
            k: v for k, v in theirs[protocol].items() if k not in own
        }  # fmt: skip
        assert row["loss"] == pytest.approx(theirs[protocol]["loss"], rel=1e-5)
        assert row["images"] == 9 and row["world_size"] == 2 and row["epoch"] == 3
        assert row["weights"] == [nets.load(str(weights), device=torch.device("cpu")).sha256]
        assert f"{protocol}, running BN: top-1 {row['top1']:.2%}, top-5 {row['top5']:.2%}" in said
    (trained,) = rows_of(store, "runs")
    assert {row["trained_by"] for row in mine.values()} == {f"{trained['run_id']}.0"}
    # By 1-crop the run evaluates itself as well, through its loader, which cuts before it resizes.
    assert trained["final_top1"] == pytest.approx(mine["1-crop"]["top1"], abs=1.5 / 9)


def test_exact_statistics_are_those_of_all_ranks(run: tuple[Path, Path, str], folder: Path, tmp_path: Path) -> None:
    store, weights, _ = run
    of, normalize = setting(folder, tmp_path)
    model = nets.load(str(weights), device=of.device).model
    chosen = mixed_rows(27, 27)
    batches = [
        images for rank in (0, 1) for images, _ in plain_batches(of, of.splits.train, chosen[rank::2], normalize)
    ]
    assert [len(batch) for batch in batches] == [4, 4, 4, 2, 4, 4, 4, 1]
    assert set_exact_statistics(model, batches) == 27
    totals = Totals(PROTOCOLS, 1)
    for answer in answers(
        [model], of.splits.test, np.arange(9), PROTOCOLS, normalize, image_size=SIDE, batch=BATCH, threads=1,
        device=of.device,
    ):  # fmt: skip
        totals.add(answer)
    exact = [row for row in rows_of(store, "evaluations") if row["bn"] == "exact"]
    assert [row["protocol"] for row in exact] == list(PROTOCOLS)
    running = {row["protocol"]: row for row in rows_of(store, "evaluations") if row["bn"] == "running"}
    for row in exact:
        figures = totals.figures()[row["protocol"], 0]
        assert (row["top1"], row["top5"], row["images"]) == (figures.top1, figures.top5, figures.images)
        assert row["loss"] == pytest.approx(figures.loss, rel=1e-5) and row["bn_images"] == 27
        assert row["loss"] != pytest.approx(running[row["protocol"]]["loss"], rel=1e-3)


def test_lesions_are_those_of_the_command(run: tuple[Path, Path, str], folder: Path, tmp_path: Path) -> None:
    store, weights, said = run
    assert bench.depth.main([f"weights={weights}", f"data={folder}", f"results={tmp_path}"]) == 0
    kinds = ("whole", "response", "ratio", "lesion", "truncation", "deletion")
    mine = [row for row in rows_of(store, "lesions") if row["kind"] in kinds]
    theirs = rows_of(tmp_path, "lesions")
    assert {row["kind"] for row in mine} == set(kinds) - {"deletion"}  # of two blocks no other could go
    own = ("evaluation_id", "created", "system_id", "value")
    assert [{k: v for k, v in row.items() if k not in own} for row in mine] == [
        {k: v for k, v in row.items() if k not in own} for row in theirs
    ]
    assert [row["value"] for row in mine if row["value"] is not None] == pytest.approx(
        [row["value"] for row in theirs if row["value"] is not None], rel=1e-5
    )
    assert {row["images"] for row in mine} == {9}
    assert "the strong reading of optimal depth" in said


def test_gradients_flow_is_measured_before_training_and_after_epochs(
    run: tuple[Path, Path, str], folder: Path, tmp_path: Path
) -> None:
    store, weights, _ = run
    of, normalize = setting(folder, tmp_path)
    rows = [row for row in rows_of(store, "lesions") if row["kind"].endswith(("activation", "_gradient"))]
    assert {row["epoch"] for row in rows} == {0, 1, 2, 3}
    assert {(row["split"], row["images"], row["protocol"]) for row in rows} == {("train", 27, "1-crop")}
    batch = Setting(**{**vars(of), "batch": 27})
    ((images, labels),) = plain_batches(batch, of.splits.train, np.arange(27), normalize)
    torch.manual_seed(3)
    fresh = resnet.build(family="cifar", depth=14, shortcut="A", num_classes=3)
    for epoch, model in ((0, fresh), (3, nets.load(str(weights), device=of.device).model)):
        expected = {
            (one.layer, kind): getattr(one, kind)
            for one in gradient_flow(model, images, labels)
            for kind in ("activation", "output_gradient", "weight_gradient")
        }
        found = {(row["layer"], row["kind"]): row["value"] for row in rows if row["epoch"] == epoch}
        assert len(found) == 3 * 13 and found == pytest.approx(expected, rel=1e-3)
    assert {(row["stage"], row["block"]) for row in rows if row["layer"] == "conv1"} == {(0, 0)}
    assert {row["weights"] is None for row in rows} == {True}  # they are looked at before any file has them


def test_looking_draws_no_random_numbers(folder: Path) -> None:
    (keys,) = grammar.parse([*WORDS, f"data={folder}"], RunKeys)
    config, _ = resolve(keys, Host(ranks_per_node=2))
    splits = open_dataset("imagefolder", str(folder), image_size=SIDE)
    alone = World(0, 1, 0, 1, torch.device("cpu"), 1)
    examiner = Examiner(config, alone, splits, "r.0", None, 1, 3, print)
    model = build_model(config)
    before = torch.random.get_rng_state()
    found = examiner._net(model, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(found.model.state_dict()[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.fc.weight.fill_(3e38)  # type: ignore[union-attr,operator]
    with pytest.raises(Diverged, match="^the net puts out scores that are not finite"):
        examiner.after_training(model)


def test_training_goes_on_as_if_nobody_had_looked(run: tuple[Path, Path, str], folder: Path, tmp_path: Path) -> None:
    store, _, _ = run
    words = [word for word in WORDS if not word.startswith(("protocol", "bn", "examine"))]
    command = [sys.executable, ROOT / "launch/local.py", *words, f"data={folder}", f"results={tmp_path}"]
    ended = subprocess.run(
        [*command, "activation_checkpointing=true"], capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    losses = [
        sorted((row["rank"], row["step"], row["loss"]) for row in rows_of(where, "steps"))
        for where in (store, tmp_path)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 2 * 3 * 3
    (checkpointed,), (plain,) = rows_of(tmp_path, "runs"), rows_of(store, "runs")
    assert (checkpointed["activation_checkpointing"], plain["activation_checkpointing"]) == (True, None)
    assert checkpointed["final_top1"] == plain["final_top1"]
    assert not read_rows(tmp_path, "evaluations")[0] and not read_rows(tmp_path, "lesions")[0]


def test_what_fails_after_training_takes_no_training_along(tmp_path: Path) -> None:
    """Rows of the evaluation cannot be written: the run is completed all the same, and a command is named."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "evaluations").write_text("no folder")
    words = "depth=8 dataset=digits loader=torch kernels=torch steps=4 bn=exact,running examine=responses "
    words += f"results={tmp_path}/rows save={tmp_path}/w.safetensors"
    ended = subprocess.run(
        [sys.executable, ROOT / "launch/local.py", *words.split()], capture_output=True, text=True, timeout=300
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    (row,) = rows_of(tmp_path / "rows", "runs")
    assert (row["status"], row["failure_kind"], row["steps_completed"]) == ("completed", None, 4)
    assert row["final_top1"] is not None
    # What was found is said, though it could not be written.
    assert "whole image, running BN: top-1 " in said
    of = f"weights={tmp_path}/w.safetensors precision=bf16 results={tmp_path}/rows"
    again = f"python -m bench.evaluate {of} 'protocol=whole image' bn=running,exact"
    assert len(rows_of(tmp_path / "rows", "lesions")) == 10  # another table, and the disk refused it nothing
    assert (
        "the run is completed and its rows are written, but then failed (storage, rank 0): " in said and again in said
    )
    assert "completed, and then did not find out about its net what was asked for" in said
