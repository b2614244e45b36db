"""The comparison with what one would use otherwise: every printed figure worked out by hand, from made-up rates."""

import dataclasses
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.peers import command, loaders, plain, training
from resnet.data import Split, make_loader
from resnet.data.datasets.cifar import CLASSES

Blocks = list[dict[str, float]]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loaders, "now_s", made)
    return made


def paper() -> Console:
    return Console(file=io.StringIO(), width=200)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def table_of(text: str) -> dict[str, list[str]]:
    """The cells of a printed table's lines, by the first; of its heading too."""
    lines = [re.split(r"\s*[│┃]\s*", line.strip())[1:-1] for line in text.splitlines() if line[:1] in "│┃"]
    return {cells[0]: cells[1:] for cells in lines}


def write_images(folder: Path, count: int, size: int = 32, form: str = "png") -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (size, size), (index, 0, 0)).save(folder / f"{index:03}.{form}")


class Shelf:
    """A loader of made-up batches; an epoch of it takes some time."""

    def __init__(self, kind: str, clock: Clock, rates: list[float], log: list[str]) -> None:
        self.kind, self.clock, self.rates, self.log = kind, clock, rates, log

    def epoch(self, epoch: int) -> Iterator[SimpleNamespace]:
        self.log.append(f"{self.kind} {epoch}")
        for images in (30, 50, 40):
            self.clock.now += images / self.rates[epoch]
            yield SimpleNamespace(labels=torch.zeros(images))

    def close(self) -> None:
        self.log.append(f"{self.kind} closed")


def test_an_epochs_rate_is_all_its_images_over_all_its_time(clock: Clock) -> None:
    assert loaders.time_epoch(Shelf("dali", clock, [0.0, 8.0], []), 1) == 8.0


def one_case() -> Iterator[loaders.Case]:
    split = Split(name="train", dataset="cifar10", labels=np.zeros(120, np.int64), classes=list(CLASSES))
    yield loaders.Case("some images", split, 48, "fast", 30, 1234)


@pytest.fixture
def shelves(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> SimpleNamespace:
    """`compare_loaders` over loaders of given rates; what it asked of them."""
    found = SimpleNamespace(rates={}, log=[], asked={})

    def make(kind: str, split: Split, **options: Any) -> Shelf:
        found.asked[kind] = options | {"split": split}
        return Shelf(kind, clock, found.rates[kind], found.log)

    monkeypatch.setattr(loaders, "loader_cases", one_case)
    monkeypatch.setattr(loaders, "make_loader", make)
    monkeypatch.setattr(loaders.os, "sched_getaffinity", lambda pid: {0, 1, 2})
    return found


def test_loaders_are_compared_round_by_round_after_one_that_does_not_count(shelves: SimpleNamespace) -> None:
    shelves.rates = {"dali": [1.0, 120.0, 200.0, 400.0, 300.0], "torch": [9e9, 60.0, 100.0, 100.0, 300.0]}
    console = paper()
    loaders.compare_loaders(4, console)
    # Ratios 2, 2, 4 and 1. Of four pairs drawn from them three or more are the least, or the largest, 13 times in 256.
    table = table_of(written(console))
    assert table["images"] == ["size", "dali", "torch", "torch on the reference machine", "dali / torch [95%]"]
    assert table["some images"] == ["48", "250 (180-325)", "100 (90-150)", "1,234", "2.000 [1.000, 4.000]"]
    assert "3 threads or workers, images/s: median (quartiles)" in written(console)
    turns = [f"{kind} {epoch}" for epoch in range(5) for kind in ("dali", "torch")]
    assert shelves.log[:10] == turns and sorted(shelves.log[10:]) == ["dali closed", "torch closed"]


def test_both_loaders_do_the_same_work(shelves: SimpleNamespace) -> None:
    shelves.rates = {"dali": [1.0] * 3, "torch": [1.0] * 3}
    loaders.compare_loaders(2, paper())
    asked = shelves.asked["dali"]
    assert asked == shelves.asked["torch"] and asked["train"] and asked["split"].name == "train"
    assert (asked["batch"], asked["image_size"], asked["augment"], asked["threads"]) == (30, 48, "fast", 3)
    shelves.rates = {"dali": [1.0] * 3, "torch": [1.0] * 3}
    loaders.compare_loaders(2, paper(), 5)
    assert shelves.asked["dali"]["threads"] == shelves.asked["torch"]["threads"] == 5


def test_loaders_are_closed_where_one_fails(shelves: SimpleNamespace) -> None:
    shelves.rates = {"dali": [1.0] * 3, "torch": []}
    with pytest.raises(IndexError):
        loaders.compare_loaders(2, paper())
    assert {"dali closed", "torch closed"} <= set(shelves.log)


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small folders in place of the archives."""
    for name in CLASSES:
        write_images(tmp_path / "cifar10-jpeg" / "train" / name, 14)
        write_images(tmp_path / "cifar10-jpeg" / "test" / name, 12)
        write_images(tmp_path / "imagenette-128" / "train" / name, 7, 128)
        write_images(tmp_path / "imagenette-128" / "val" / name, 1, 128)
    write_images(tmp_path / "imagenet-samples-100", 12, 240, "jpg")
    for module in (loaders, training):
        monkeypatch.setattr(module, "unpack_archive", lambda name: tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_real_loaders_give_every_whole_batch(unpacked: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*words: Any, **options: Any) -> Any:
        loader = make_loader(*words, **options)
        epoch = loader.epoch

        def timed(index: int) -> Iterator[Any]:
            clock.now += 0.5
            yield from epoch(index)

        monkeypatch.setattr(loader, "epoch", timed)
        return loader

    monkeypatch.setattr(loaders, "make_loader", make)
    console = paper()
    loaders.compare_loaders(2, console)
    table = table_of(written(console))
    # In half a second 1 batch of 128 of the 140 images, 1 of 64 of 70, and 2 of 50 of 12 images ten times over.
    for sample, size, images in (
        ("cifar10-jpeg", 32, 128),
        ("imagenette-128", 128, 64),
        ("imagenet-samples-100", 224, 100),
    ):
        rate = f"{2 * images} ({2 * images}-{2 * images})"
        assert table[sample][:3] == [str(size), rate, rate] and table[sample][-1] == "1.000 [1.000, 1.000]"


def test_a_block_is_the_first_images_of_each_class(unpacked: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "BLOCK_IMAGES", 30)
    source, target = unpacked / "cifar10-jpeg", tmp_path / "block"
    training.block_folder(source, target)
    for split, count in (("train", 3), ("test", 10)):
        assert sorted(folder.name for folder in (target / split).iterdir()) == sorted(CLASSES)
        for name in CLASSES:
            files = sorted((target / split / name).iterdir())
            expected = [source / split / name / f"{index:03}.png" for index in range(count)]
            assert [file.name for file in files] == [file.name for file in expected]
            assert [file.resolve() for file in files] == [file.resolve() for file in expected]


def config() -> RunConfig:
    words = RunKeys(depth=20, dataset="digits", batch=64, epochs=3, ranks_per_node=2)
    return resolve(words, Host(ranks_per_node=2))[0]


def blocks(rates: list[float], waits: list[float], measuring: list[float]) -> Blocks:
    return [
        {"images_per_s": rate, "data_wait_frac": wait, "instrumentation_frac": share}
        for rate, wait, share in zip(rates, waits, measuring, strict=True)
    ]


def test_the_comparison_of_training_says_who_is_how_much_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [1000.0, 4000.0, 2000.0, 3000.0]
    waits, measuring = [0.4, 0.1, 0.2, 0.3], [0.01, 0.04, 0.02, 0.06]
    nothing = [0.0] * 4
    rates = {
        "whole": blocks(whole, waits, measuring),
        # Ratios 0.5, 2, 0.5 and 1: their median, not the ratio of the medians, 2,500 / 2,500.
        "ddp": blocks([2000.0, 2000.0, 4000.0, 3000.0], nothing, nothing),
        "synthetic": blocks([rate / 0.8 for rate in whole], nothing, nothing),
        "unmeasured": blocks([rate / 1.25 for rate in whole], nothing, nothing),
        "plain": [{"images_per_s": rate / 4} for rate in whole],
    }
    console = paper()
    training.show_training(rates, config(), console)
    text = written(console)
    assert "2 ranks of batch 64, images/s" in text and ", bf16, " in text
    table = table_of(text)
    assert table == {
        "what": ["images/s: median (quartiles)", "data wait", "instrumentation"],
        "DeepSpeed, DALI": ["2,500 (1,750-3,250)", "25.00%", "3.00%"],
        "DDP, DALI": ["2,500 (2,000-3,250)", "0.00%", "0.00%"],
        "DeepSpeed, SYNTHETIC images": ["3,125 (2,188-4,062)", "0.00%", "0.00%"],
        "DeepSpeed, DALI, nothing measured": ["2,000 (1,400-2,600)", "0.00%", "0.00%"],
        "plain loop, one process, compiled": ["625 (438-812)", "-", "-"],
    }
    said = " (median of paired ratios, 95% interval, 4 rounds)"
    assert text.splitlines()[-5:] == [
        "DeepSpeed / DDP: 0.750 [0.500, 2.000]" + said,
        "whole / plain loop: 4.000 [4.000, 4.000]" + said,
        "DALI / synthetic: 0.800 [0.800, 0.800]" + said,
        "measured / unmeasured: 1.250 [1.250, 1.250]" + said,
        "the loader's cost: 20.0% of throughput",
    ]


@dataclasses.dataclass
class Stage:
    """What `compare_training` did: the cells it described, and the turns in order."""

    cells: dict[str, Any] = dataclasses.field(default_factory=dict)
    words: tuple[str, int] = ("", 0)
    keys: plain.Keys | None = None
    images: int = 0
    turns: list[str] = dataclasses.field(default_factory=list)


RATES = {"whole": 100.0, "ddp": 200.0, "synthetic": 400.0, "unmeasured": 50.0, "plain": 10.0}


@pytest.fixture
def stage(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """`compare_training` with ranks and a plain loop that say made-up rates, absurd ones in their first turn."""
    found = Stage()

    def rate(name: str) -> float:
        turn = sum(one.split()[0] == name for one in found.turns) - 1
        return RATES[name] * turn if turn else 1e9

    class Ranks:
        def __init__(self, module: str, words: list[str], size: int) -> None:
            found.cells, found.words = json.loads(Path(words[0]).read_text()), (module, size)

        def ask(self, command: str) -> str:
            found.turns.append(command)
            return json.dumps(blocks([rate(command.split()[0])], [0.125], [0.25])[0])

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *error: object) -> None:
            found.turns.append("end")

    class Loop:
        def __init__(self, train: Split, keys: plain.Keys) -> None:
            found.keys, found.images = keys, len(train)

        def warm_up(self) -> None:
            found.turns.append("warm_up")

        def train(self) -> float:
            found.turns.append("plain")
            return rate("plain")

    monkeypatch.setattr(training, "Ranks", Ranks)
    monkeypatch.setattr(plain, "PlainLoop", Loop)
    monkeypatch.setattr(training, "BLOCK_IMAGES", 80)
    return found


def test_training_takes_turns_every_other_round_backwards(stage: Stage) -> None:
    console = paper()
    training.compare_training(8, 16, 3, console)
    assert stage.turns[0] == "warm_up" and stage.turns[-1] == "end"
    names = list(stage.cells)
    orders = []
    for turn in range(4):
        *mine, last = stage.turns[1 + 5 * turn :][:5]
        assert last == "plain" and {one.split()[1] for one in mine} == {str(turn)}
        orders.append([one.split()[0] for one in mine])
    assert sorted(orders[0]) == sorted(names)
    assert orders[1] == orders[0][::-1] and orders[2] == orders[0] and orders[3] == orders[1]
    # Turns of 1, 2 and 3 times the rate; the first, of 1e9, is in no figure.
    table = table_of(written(console))
    assert table["DeepSpeed, DALI"] == ["200 (150-250)", "12.50%", "25.00%"]
    assert table["DDP, DALI"][0] == "400 (300-500)" and table["DeepSpeed, SYNTHETIC images"][0] == "800 (600-1,000)"
    assert table["DeepSpeed, DALI, nothing measured"][0] == "100 (75-125)"
    assert table["plain loop, one process, compiled"] == ["20 (15-25)", "-", "-"]
    assert "whole / plain loop: 10.000" in written(console) and written(console).count("3 rounds)") == 4


def test_what_is_compared_differs_in_one_thing_each(stage: Stage) -> None:
    training.compare_training(8, 16, 2, paper())
    assert stage.words == ("bench.peers.processes", training.RANKS) and training.RANKS == 2
    cells = {name: RunConfig.from_json(json.dumps(cell["config"])) for name, cell in stage.cells.items()}
    base = cells["whole"]
    assert (base.engine, base.loader, base.depth, base.batch, base.world_size) == ("deepspeed", "dali", 8, 16, 2)
    assert base.epochs == 3 and base.grad_accum == 1
    assert cells["ddp"] == dataclasses.replace(base, engine="ddp")
    assert cells["synthetic"] == dataclasses.replace(base, loader="synthetic", target=None)
    assert cells["unmeasured"] == base
    assert base.loader_threads is None
    assert {name: cell["measured"] for name, cell in stage.cells.items()} == {
        "whole": True, "ddp": True, "synthetic": True, "unmeasured": False,
    }  # fmt: skip
    assert {cell["limit"] for cell in stage.cells.values()} == {80 // 32}
    # The plain loop sees the same images, and its schedule is as long.
    assert stage.images == 80 and stage.keys == plain.Keys(depth=8, epochs=3)
    training.compare_training(8, 16, 2, paper(), 5)
    asked = {name: cell["config"]["loader_threads"] for name, cell in stage.cells.items()}
    assert asked == {"whole": 5, "ddp": 5, "synthetic": None, "unmeasured": 5}


def test_both_parts_are_compared_unless_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int, int | None]] = []
    monkeypatch.setattr(
        command, "compare_loaders", lambda rounds, _, threads: done.append(("loaders", rounds, threads))
    )
    monkeypatch.setattr(
        command,
        "compare_training",
        lambda _depth, _batch, rounds, _, threads: done.append(("training", rounds, threads)),
    )
    assert command.main(["rounds=3"]) == 0 and done == [("loaders", 3, None), ("training", 3, None)]
    done.clear()
    assert command.main(["part=training", "loader_threads=2,4"]) == 0
    assert done == [("training", 9, 2), ("training", 9, 4)]
    done.clear()
    assert command.main(["part=loaders", "loader_threads=3"]) == 0 and done == [("loaders", 9, 3)]


def test_every_word_of_training_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(command, "compare_training", lambda *given: asked.append((*given[:3], given[4])))
    assert command.main(["part=training", "depth=8,14", "batch=16", "rounds=4", "loader_threads=2"]) == 0
    assert asked == [(8, 16, 4, 2), (14, 16, 4, 2)]
    asked.clear()
    assert command.main(["part=training", "batch=2560"]) == 0 and asked == [(20, 2560, 9, None)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["part=training", "batch=2561"],
            "batch=2561: a block of training has 5120 images for 2 ranks; nearest is batch=2560",
        ),
        (["part=training", "depth=9"], "depth=9: family=cifar has depths 6n + 2 from 8 on; nearest is 8"),
        (["rounds=1"], "rounds=1: rounds takes a whole number, at least 2 (nearest: rounds=2)"),
        (["loader_threads=0"], "loader_threads=0: loader_threads takes a whole number, "),
        (["part=train"], "part=train: choose from loaders, training (nearest: part=training)"),
    ],
)
def test_words_that_cannot_be_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    for part in ("compare_loaders", "compare_training"):
        monkeypatch.setattr(command, part, lambda *given: pytest.fail("it was started"))
    assert command.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"bench.peers: {said}") and err.count("\n") == 1


def test_blocks_go_to_the_folder_for_temporary_files_that_was_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", "/not/here")
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(command, "compare_training", lambda *given: pytest.fail("it was started"))
    assert command.main(["part=training"]) == 2
    assert capsys.readouterr().err.startswith("bench.peers: TMPDIR=/not/here: no such folder; nearest is TMPDIR=")
