"""The checker names every damaged file once, with the reason, and nothing that is whole."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.check_data import main
from bench.config.paths import ROOT


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC)


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, form, **options)
    return buffer.getvalue()


JPEG, WAVES, PNG, WEBP = encoded("JPEG", quality=90), encoded("JPEG", progressive=True), encoded("PNG"), encoded("WEBP")
RESTARTS, GIF, BMP = encoded("JPEG", restart_marker_rows=1), encoded("GIF"), encoded("BMP")
DATA = JPEG.index(b"\xff\xda") + 14  # of the only scan
MADE_UP, REFUSED, NO_IMAGE = "pixels made up (Corrupt JPEG data: ", "damaged or truncated image (", "not an image that"


def flipped(content: bytes, at: int, bit: int = 3) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


# A file's content and how its reason begins; None where it is whole, or nothing can tell.
FILES: dict[str, tuple[bytes, str | None]] = {
    "whole.jpg": (JPEG, None),
    "whole-progressive.jpg": (WAVES, None),
    "whole-restarts.jpg": (RESTARTS, None),
    "whole.png": (PNG, None),
    "whole.webp": (WEBP, None),
    "whole.gif": (GIF, None),
    "whole.bmp": (BMP, None),
    "png-by-another-name.jpg": (PNG, None),
    "trailing.jpg": (JPEG + b"\0" * 9, None),
    "cut.jpg": (JPEG[: len(JPEG) // 2], REFUSED),
    "cut-closed.jpg": (JPEG[: DATA + (len(JPEG) - DATA) // 2] + b"\xff\xd9", MADE_UP),
    "cut-closed-late.jpg": (JPEG[:-60] + b"\xff\xd9", MADE_UP),
    "cut-closed-progressive.jpg": (WAVES[: len(WAVES) * 2 // 3] + b"\xff\xd9", MADE_UP),
    "end-in-the-middle.jpg": (JPEG[: DATA + 200] + b"\xff\xd9" + JPEG[DATA + 200 :], MADE_UP),
    "odd-marker.jpg": (JPEG[: DATA + 200] + b"\xff\x5a" + JPEG[DATA + 202 :], REFUSED),
    "restart-of-none.jpg": (JPEG[: DATA + 200] + b"\xff\xd3" + JPEG[DATA + 202 :], MADE_UP),
    "table.jpg": (flipped(JPEG, JPEG.index(b"\xff\xc4") + 8, 7), REFUSED),
    "swapped-start.jpg": (PNG[:60] + JPEG[60:], REFUSED),
    "swapped-start.png": (JPEG[:60] + PNG[60:], NO_IMAGE),
    "empty.jpg": (b"", "empty file"),
    "text.png": (b"no image\n" * 20, NO_IMAGE),
    "changed.png": (flipped(PNG, len(PNG) // 2), REFUSED),
    "sum.png": (flipped(PNG, len(PNG) - 14), "damaged image (the checksum of IDAT is wrong)"),
    "longer.webp": (WEBP + b"\0" * 9, f"damaged image ({len(WEBP) + 9:,} bytes, where its header says {len(WEBP):,})"),
    "cut.png": (PNG[: len(PNG) // 2], REFUSED),
    "cut.webp": (WEBP[: len(WEBP) // 2], NO_IMAGE),
    "cut.gif": (GIF[: len(GIF) // 2], REFUSED),
    "cut.bmp": (BMP[: len(BMP) // 2], REFUSED),
}


@pytest.mark.slow
def test_what_is_damaged_is_named_with_its_reason(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "fine.jpg").write_bytes(JPEG)
    for name, (content, _) in FILES.items():
        (tmp_path / "train" / "a" / name).write_bytes(content)
    (tmp_path / "val" / "a" / "notes.txt").touch()
    (tmp_path / "val" / "b").mkdir()
    command = [sys.executable, "-m", "bench.check_data", f"data={tmp_path}", "workers=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines.pop(f"{tmp_path}/train") == f"has not the classes of {tmp_path}/val: 'b' is missing"
    expected = {f"{tmp_path}/train/a/{name}": reason for name, (_, reason) in FILES.items() if reason}
    assert lines.keys() == expected.keys() and len(done.stdout.splitlines()) == len(expected) + 1
    for path, reason in expected.items():
        assert lines[path].startswith(reason), path
    summary = f"{len(FILES) + 2} images decoded, {len(expected)} damaged; 1 fault of the class folders; "
    summary += "1 file left out (1 .txt)"
    assert done.stderr == f"{tmp_path}: {summary}\n" and done.returncode == 1


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.jpg").write_bytes(JPEG)
    (tmp_path / "3.jpg").write_bytes(JPEG[:100])
    # Read in each worker when it starts: a decoder that crashes on one file.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, resnet.data.images.encoded as encoded\n"
        "read_file = encoded.read_file\n"
        "encoded.read_file = lambda path: os._exit(11) if path.endswith('1.jpg') else read_file(path)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    assert main([f"data={tmp_path}", "workers=1"]) == 1
    out, err = capfd.readouterr()
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines.pop(f"{tmp_path}/1.jpg") == "the decoder crashes on it"
    assert list(lines) == [f"{tmp_path}/3.jpg"] and "2 images decoded, 2 damaged; 1 file left out (1 .py)" in err


def laid_out(root: Path, *files: str, classes: tuple[str, ...] = ("a", "b")) -> Path:
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
    for file in files:
        (root / file).write_bytes(JPEG)
    return root


def test_class_folders_without_images_are_no_damaged_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.check_data.examined", lambda files, workers: iter([(len(files), [])] if files else []))
    cases = [
        (("train/a/1.jpg", "val/a/1.jpg"), "2 images decoded, all whole; 2 faults of the class folders"),
        (
            ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"),
            "3 images decoded, all whole; 1 fault of the class folders",
        ),
        ((), "0 images decoded; 4 faults of the class folders"),
    ]
    for number, (files, said) in enumerate(cases):
        root = laid_out(tmp_path / str(number), *files)
        assert main([f"data={root}"]) == 1
        out, err = capsys.readouterr()
        empty = [
            f"{split}/{name}" for split in ("train", "val") for name in "ab" if f"{split}/{name}/1.jpg" not in files
        ]
        assert [line.split(": ")[0] for line in out.splitlines()] == [f"{root}/{name}" for name in empty]
        assert out.count(": empty class folder; expected images") == len(empty)
        assert err == f"{root}: {said}\n"


def records(root: Path, cut: int = 0) -> None:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = bytes(3 * 3073)
        (root / f"{name}.bin").write_bytes(content[: len(content) - (cut if name == "data_batch_3" else 0)])


def test_the_original_files_of_cifar10_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records(tmp_path)
    assert main([f"data={tmp_path}"]) == 0
    assert capsys.readouterr() == ("", f"{tmp_path}: CIFAR-10's original files read, all whole\n")
    records(tmp_path, cut=1)
    assert main([f"data={tmp_path}"]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/data_batch_3.bin: 9218 bytes; expected a multiple of 3073\n"
    records(tmp_path, cut=1)
    assert main([f"data={tmp_path}"]) == 1
    assert capsys.readouterr().err == f"{tmp_path}: CIFAR-10's original files read, 1 damaged\n"


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        ([], 2, "bench.check_data: data is missing: add data=PATH"),
        (["data=/none"], 2, "bench.check_data: data=/none: no such folder; nearest is /"),
        (["data=TMP"], 1, "bench.check_data: TMP: no images; expected images"),
        (["data=TMP", "workers=0"], 2, "bench.check_data: workers=0: workers takes a whole number, at least 1"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    tmp_path: Path, words: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("TMP", str(tmp_path)) for word in words]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(line.replace("TMP", str(tmp_path))) and err.count("\n") == 1
