"""The yardstick: its steps beside a loop written independently, its evaluation, and what it prints."""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import resnet
from bench.peers import plain
from resnet.data import Split, open_dataset
from resnet.data.datasets.cifar import CLASSES

TRAIN, TEST = 20, 13
EPOCHS, BATCH, LR = 3, 8, 0.2
STEPS = TRAIN // BATCH  # of an epoch; the last 4 of its images are left out


def records(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and images uint8 [count, 32, 32, 3] whose channels differ in mean and deviation."""
    draw = np.random.default_rng(seed)
    channels = [draw.integers(low, high, (count, 32, 32)) for low, high in ((0, 256), (0, 64), (150, 200))]
    return draw.integers(0, 10, count), np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small gain nothing from more, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small CIFAR-10 in its original binary form."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for seed, name in enumerate(names):
        labels, images = records(TEST if name.startswith("test") else TRAIN // 5, seed)
        rows = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(labels), -1)], axis=1)
        (tmp_path / name).write_bytes(rows.astype(np.uint8).tobytes())
    return tmp_path


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `folder` holds: images and labels to train on, and to test with."""
    parts = [records(TRAIN // 5, seed) for seed in range(5)]
    labels, images = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    test_labels, test_images = records(TEST, 5)
    return images, labels, test_images, test_labels


def normalized(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """[n, 3, h, w], by the mean and the deviation of the channels of `train`."""
    mean, deviation = train.mean((0, 1, 2)), train.std((0, 1, 2), ddof=1)
    return ((images - mean) / deviation).transpose(0, 3, 1, 2)


def keys(**changed: object) -> plain.Keys:
    return plain.Keys(**({"depth": 8, "epochs": EPOCHS, "batch": BATCH, "lr": LR, "compile": False} | changed))


def loop_of(folder: Path, **changed: object) -> plain.PlainLoop:
    return plain.PlainLoop(open_dataset("cifar10", str(folder), image_size=32).train, keys(**changed))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.dtype]]:
    """The autocasts that were asked for, none of which is granted."""
    found: list[tuple[str, torch.dtype]] = []

    def autocast(device: str, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
        found.append((device, dtype))
        return contextlib.nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    return found


@pytest.fixture
def fp64(monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, torch.dtype]]) -> None:
    """A loop that computes in fp64, where steps do not blow up what rounding makes different."""
    decode, build = plain.decode, resnet.build
    monkeypatch.setattr(plain, "decode", lambda split: decode(split).double())
    monkeypatch.setattr(resnet, "build", lambda **words: build(**words).double())


def one_cycle(step: int) -> float:
    """The learning rate of a step: up to LR over the first 30% of all steps, then down to next to nothing."""

    def between(start: float, end: float, done: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

    last = EPOCHS * STEPS
    top = 0.3 * (last + 1) - 1
    if step <= top:
        return between(LR / 25, LR, step / top)
    return between(LR, LR / 25 / 1e4, (step - top) / (last - top))


def trained_independently(seed: int) -> dict[str, torch.Tensor]:
    """Weights and running statistics after all epochs, by a loop of its own over the same random numbers."""
    images, labels, _, _ = arrays()
    padded = np.pad(normalized(images, images), ((0, 0), (0, 0), (4, 4), (4, 4)))
    torch.manual_seed(seed)
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10).double()
    momentum = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for step in range(EPOCHS * STEPS):
        if step % STEPS == 0:
            order = torch.randperm(TRAIN).tolist()
        chosen = order[step % STEPS * BATCH :][:BATCH]
        top, left = torch.randint(0, 9, (2, BATCH, 1)).squeeze(2).tolist()
        flipped = (torch.rand(BATCH, 1) < 0.5).flatten().tolist()
        batch = np.zeros((BATCH, 3, 32, 32))
        for place, index in enumerate(chosen):
            crop = padded[index, :, top[place] : top[place] + 32, left[place] : left[place] + 32]
            batch[place] = crop[:, :, ::-1] if flipped[place] else crop
        loss = functional.cross_entropy(model(torch.from_numpy(batch)).float(), torch.from_numpy(labels[chosen]))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
                decayed = gradient + 5e-4 * weight
                momentum[name] = 0.9 * momentum[name] + decayed
                weight -= one_cycle(step) * (decayed + 0.9 * momentum[name])
    return model.state_dict()


def test_its_steps_are_those_of_a_loop_written_independently(
    folder: Path, fp64: None, asked: list[tuple[str, torch.dtype]]
) -> None:
    loop = loop_of(folder, seed=3)
    test_images, test_labels = torch.zeros(2, 3, 32, 32, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    for _ in range(EPOCHS):
        loop.evaluate(test_images, test_labels)  # between epochs, and of no consequence
        asked.clear()
        loop.train()
        assert asked == [("cpu", torch.bfloat16)] * STEPS
    found, expected = loop.model.state_dict(), trained_independently(3)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=1e-9, msg=lambda said, name=name: f"{name}: {said}"
        )


def test_images_per_s_are_those_of_the_whole_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = loop_of(folder)
    times = iter([100.0, 104.0])
    monkeypatch.setattr(plain, "now_s", lambda: next(times))
    assert loop.train() == STEPS * BATCH / 4.0


def test_a_loss_that_is_not_finite_ends_it(folder: Path) -> None:
    with pytest.raises(ArithmeticError, match=r"loss is nan: lr=1e\+30 may be too high"):
        loop_of(folder, lr=1e30).train()


def test_evaluation_is_over_all_images_with_the_running_statistics(
    folder: Path, asked: list[tuple[str, torch.dtype]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "EVAL_BATCH", 5)
    loop = loop_of(folder)
    loop.train()
    asked.clear()
    state = {name: value.clone() for name, value in loop.model.state_dict().items()}
    images = torch.randn(TEST, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        best = loop.model.eval()(images).argmax(1)
    wrong = torch.tensor([0, 4, 5, 12])
    labels = best.clone()
    labels[wrong] += 1
    modes = []
    loop.model.train().register_forward_pre_hook(lambda module, _: modes.append(module.training))
    assert loop.evaluate(images, labels) == (TEST - len(wrong)) / TEST
    assert modes == [False] * 3 and asked == [("cpu", torch.bfloat16)] * 3
    assert all(torch.equal(value, state[name]) for name, value in loop.model.state_dict().items())


def test_warming_up_changes_nothing(folder: Path) -> None:
    loop = loop_of(folder)
    state = {name: value.clone() for name, value in loop.model.state_dict().items()}
    lr = loop.optimizer.param_groups[0]["lr"]
    modes = []
    loop.model.register_forward_pre_hook(lambda module, images: modes.append((module.training, len(images[0]))))
    loop.warm_up()
    assert modes == [(True, BATCH), (False, plain.EVAL_BATCH)]  # what is compiled for training and for evaluation
    assert all(torch.equal(value, state[name]) for name, value in loop.model.state_dict().items())
    assert not loop.optimizer.state and loop.optimizer.param_groups[0]["lr"] == lr == pytest.approx(LR / 25)
    assert all(weight.grad is None for weight in loop.model.parameters())


def test_files_are_decoded_as_arrays_are(tmp_path: Path) -> None:
    _, images = records(4, 9)
    paths = [str(tmp_path / f"{index}.png") for index in range(4)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    labels = np.arange(4)
    stored = Split(name="train", dataset="cifar10", labels=labels, classes=list(CLASSES), paths=paths)
    held = Split(name="train", dataset="cifar10", labels=labels, classes=list(CLASSES), images=images)
    expected = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    assert torch.equal(plain.decode(stored), expected) and torch.equal(plain.decode(held), expected)


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """A loop on a clock of its own that takes 100 s to warm up, 10 s an epoch and 5 s an evaluation.

    Gives it the rates and accuracies of its epochs; keeps what it was given to evaluate.
    """
    stage: dict[str, list] = {"rates": [], "top1": [], "evaluated": []}
    now = [1000.0]

    def take(seconds: float, what: str | None = None) -> float:
        now[0] += seconds
        return stage[what].pop(0) if what else 0.0

    def evaluate(loop: plain.PlainLoop, images: torch.Tensor, labels: torch.Tensor) -> float:
        stage["evaluated"].append((images, labels))
        return take(5.0, "top1")

    monkeypatch.setattr(plain, "now_s", lambda: now[0])
    monkeypatch.setattr(plain.PlainLoop, "warm_up", lambda loop: take(100.0))
    monkeypatch.setattr(plain.PlainLoop, "train", lambda loop: take(10.0, "rates"))
    monkeypatch.setattr(plain.PlainLoop, "evaluate", evaluate)
    return stage


def words(folder: Path, *more: str) -> list[str]:
    return [f"data={folder}", "depth=8", f"batch={BATCH}", "compile=false", *more]


def test_the_last_lines_are_all_images_over_all_time_and_the_time_to_the_target(
    folder: Path, staged: dict[str, list], capsys: pytest.CaptureFixture[str]
) -> None:
    staged["rates"], staged["top1"] = [100.0, 300.0, 300.0, 100.0], [0.5, 0.85, 0.8, 0.9]
    assert plain.main(words(folder, "epochs=4", "target=0.85")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "epoch 2/4  300 images/s  top-1 85.00%  30.0 s"
    # Twice 1/100 and 1/300 s an image: 150 images/s, where the mean of the rates is 200. Warming up is in no figure.
    assert lines[-2:] == [
        f"plain loop on cifar10: 150 images/s, top-1 90.00% after {plain.clock(60.0)}",
        "85.00% reached after 30.0 s, 2 epochs",
    ]


def test_a_target_that_is_missed_is_exit_status_1(
    folder: Path, staged: dict[str, list], capsys: pytest.CaptureFixture[str]
) -> None:
    staged["rates"], staged["top1"] = [200.0, 200.0], [0.5, 0.849]
    assert plain.main(words(folder, "epochs=2", "target=0.85")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "top-1 never reached 85.00%" and not any("reached after" in line for line in lines)


def test_test_images_are_normalized_as_the_training_images_are(folder: Path, staged: dict[str, list]) -> None:
    staged["rates"], staged["top1"] = [1.0], [1.0]
    assert plain.main(words(folder, "epochs=1")) == 0
    images, _, test_images, test_labels = arrays()
    ((given, labels),) = staged["evaluated"]
    np.testing.assert_allclose(given.numpy(), normalized(test_images, images), atol=1e-4)
    assert labels.tolist() == test_labels.tolist()


def test_it_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = plain.main(words(folder, "epochs=1", "target=0.01"))
    out = capsys.readouterr().out
    assert re.search(r"^plain loop on cifar10: [\d,]+ images/s, top-1 [\d.]+% after ", out, re.MULTILINE)
    assert ("1.00% reached after" in out, "never reached" in out) == ((True, False) if status == 0 else (False, True))
