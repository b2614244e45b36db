"""A run's row says how often libjpeg made up pixels, over all ranks, or why nobody knows."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.training.decoder_warnings import DecoderWarnings
from resnet.data import Split, Splits

LINE = b"Corrupt JPEG data: premature end of data segment\n"
PRINTED = b"Warning: unknown JFIF revision number 9.09\n" + LINE + b"Unsupported marker type 0x5a\n" + LINE
CPU = torch.device("cpu")


class Notes:
    """A recorder's ears."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self.lines: list[str] = []

    def update(self, **fields: Any) -> None:
        self.fields |= fields

    def null(self, reason: str, *columns: str) -> None:
        self.reasons |= dict.fromkeys(columns, reason)

    def say(self, line: str) -> None:
        self.lines.append(line)


def splits(**held: Any) -> Splits:
    labels = np.zeros(2, np.int64)
    parts = [
        Split(name=name, dataset="imagefolder", labels=labels, classes=["a"], **held) for name in ("train", "test")
    ]
    return Splits(train=parts[0], test=parts[1], name="imagefolder", hash="h", classes=["a"])


ENCODED = splits(paths=["a.jpg", "b.jpg"])
CONFIG: Any = SimpleNamespace(loader="dali", data="/my images")


@pytest.fixture
def stderr(tmp_path: Path) -> Any:
    """A file in the place of this process's stderr."""
    kept = os.dup(2)
    file = os.open(tmp_path / "stderr", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 2)
    yield file
    os.dup2(kept, 2)
    os.close(kept)
    os.close(file)


def world(*others: list[float]) -> Any:
    return SimpleNamespace(gather=lambda mine: [mine, *(torch.tensor([row], dtype=torch.float64) for row in others)])


def test_what_is_printed_meanwhile_is_counted_and_said(stderr: int) -> None:
    os.write(2, LINE * 5)
    warnings, notes = DecoderWarnings(CONFIG, ENCODED, CPU), Notes()
    os.write(2, PRINTED)
    warnings.conclude(world(), notes)  # type: ignore[arg-type]
    assert notes.fields == {"decoder_warnings": 2} and not notes.reasons
    assert notes.lines == [
        "damaged images: pixels were made up 2 times (Corrupt JPEG data: premature end of data segment); "
        "python -m bench.check_data data='/my images' names them"
    ]


def test_a_run_over_whole_images_has_none(stderr: int) -> None:
    warnings, notes = DecoderWarnings(CONFIG, ENCODED, CPU), Notes()
    os.write(2, b"something else\n")
    warnings.conclude(world(), notes)  # type: ignore[arg-type]
    assert notes.fields == {"decoder_warnings": 0} and not notes.lines


def test_ranks_add_up_but_for_those_that_share_a_file(stderr: int) -> None:
    warnings, notes = DecoderWarnings(CONFIG, ENCODED, CPU), Notes()
    os.write(2, PRINTED)
    mine = os.fstat(2)
    shared = [float(mine.st_dev), float(mine.st_ino), 2.0, 0.0]
    warnings.conclude(world(shared, [0.0, 7.0, 40.0, 0.0]), notes)  # type: ignore[arg-type]
    assert notes.fields == {"decoder_warnings": 42}


@pytest.mark.parametrize(
    ("loader", "held", "device", "reason"),
    [
        ("synthetic", ENCODED, CPU, "synthetic images"),
        ("torch", ENCODED, CPU, "Pillow decodes"),
        ("dali", splits(images=np.zeros((2, 8, 8, 3), np.uint8)), CPU, "the images are not encoded"),
        ("dali", ENCODED, torch.device("cuda"), "decoded on the GPU"),
    ],
)
def test_what_cannot_be_counted_has_a_reason(
    stderr: int, loader: str, held: Splits, device: torch.device, reason: str
) -> None:
    warnings, notes = DecoderWarnings(SimpleNamespace(loader=loader, data="/d"), held, device), Notes()  # type: ignore[arg-type]
    os.write(2, PRINTED)
    warnings.conclude(world(), notes)  # type: ignore[arg-type]
    assert not notes.fields and notes.reasons["decoder_warnings"].startswith(reason)


def test_a_rank_without_a_file_leaves_the_sum_unknown(stderr: int) -> None:
    warnings, notes = DecoderWarnings(CONFIG, ENCODED, CPU), Notes()
    warnings.conclude(world([0.0, 7.0, 0.0, 1.0]), notes)  # type: ignore[arg-type]
    assert notes.reasons == {"decoder_warnings": "stderr is no file that can be read back on another rank"}
    read, write = os.pipe()
    os.dup2(write, 2)
    piped = DecoderWarnings(CONFIG, ENCODED, CPU)
    piped.conclude(world(), notes := Notes())  # type: ignore[arg-type]
    assert notes.reasons == {"decoder_warnings": "stderr is no file that can be read back"}
    os.close(read)
    os.close(write)
