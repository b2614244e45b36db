"""What all pictures share: their size and colours, who is in the title, and files that appear whole."""

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot: nothing here has a screen

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.gridspec import GridSpec  # noqa: E402

from results.durable import replace_file  # noqa: E402
from results.store.schema import CHOICES, Row  # noqa: E402

# Okabe and Ito's palette, which colour-blind readers can tell apart; shapes tell the backends apart once more.
STYLES = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"),
    ("#000000", "X"),
)  # fmt: skip
BLUE, VERMILION = STYLES[0][0], STYLES[1][0]
GREY, PALE = "#555555", "#dddddd"

# At 800 pixels wide a point is 1.4 pixels: 8 points are what a page sets its text in.
WIDTH_IN = 8.0
TEXT_PT, TITLE_PT = 8.5, 11.5
# Matplotlib brings the first; a reader without it has a narrower one.
FONT: dict[Any, Any] = {"font.size": TEXT_PT, "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"]}
MARGIN_IN = 0.12
LINE_IN = 0.165  # of captions
HEAD_IN = 0.62  # title and the line below it
# Characters that a line holds; a longer title is set smaller.
TITLE_CHARS, WHO_CHARS, CAPTION_CHARS = 82, 120, 122


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The words around a picture.

    Attributes:
        title: what is shown, in one line.
        who: which run on which machine, in one line.
        notes: sentences below the picture; each begins a line.
    """

    title: str
    who: str
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """The notes, wrapped."""
        return [line for note in self.notes for line in textwrap.wrap(note, CAPTION_CHARS, break_on_hyphens=False)]


def plain(words: str) -> str:
    """Words in which a dollar sign begins no formula; what no SVG may hold is shown as "?"."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in words)
    return shown.replace("$", r"\$")


@contextlib.contextmanager
def settings(salt: str) -> Iterator[None]:
    """Matplotlib's settings under which the same rows give the same bytes, and words stay words.

    Args:
        salt: goes into the identifiers of an SVG, which else are drawn by lot.
    """
    with plt.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), plt.rc_context(FONT):
        yield


def framed(caption: Caption, body_in: float, rows: Sequence[float], *, left_in: float, right_in: float,
           foot_axis_in: float, head_axis_in: float = 0.0, gap: float = 0.0) -> tuple[Figure, GridSpec]:  # fmt: skip
    """Make a figure with its words in place and room for panels one under the other.

    Args:
        body_in: height of the panels together, inches.
        rows: their heights, relative to each other.
        left_in, right_in, foot_axis_in, head_axis_in: room beside, below and above them for labels, inches.
        gap: between two panels, as a share of their mean height.
    """
    lines = caption.lines()
    foot_in = LINE_IN * len(lines) + 2 * MARGIN_IN + foot_axis_in
    head_in = HEAD_IN + head_axis_in
    height_in = head_in + body_in + foot_in
    figure = plt.figure(figsize=(WIDTH_IN, height_in))
    left = MARGIN_IN / WIDTH_IN
    title_pt, who_pt = _fitting(TITLE_PT, caption.title, TITLE_CHARS), _fitting(TEXT_PT, caption.who, WHO_CHARS)
    figure.text(left, 1 - 0.1 / height_in, plain(caption.title), fontsize=title_pt, weight="bold", va="top")
    figure.text(left, 1 - 0.34 / height_in, plain(caption.who), fontsize=who_pt, color=GREY, va="top")
    for index, line in enumerate(reversed(lines)):
        place_in = MARGIN_IN + LINE_IN * index
        figure.text(left, place_in / height_in, plain(line), fontsize=TEXT_PT - 0.5, color=GREY, va="bottom")
    grid = figure.add_gridspec(
        len(rows), 1, height_ratios=list(rows), hspace=gap, left=left_in / WIDTH_IN, right=1 - right_in / WIDTH_IN,
        top=1 - head_in / height_in, bottom=foot_in / height_in,
    )  # fmt: skip
    return figure, grid


def _fitting(size_pt: float, words: str, most: int) -> float:
    return size_pt * min(1.0, most / max(len(words), 1))


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write a picture as SVG and PNG, each of which appears whole or not at all, and closes it.

    Returns:
        The files.
    """
    files = [folder / f"{stem}.{kind}" for kind in ("svg", "png")]
    # Neither the date nor Matplotlib's version: a picture changes where its rows do.
    dateless = {"Date": None, "Creator": None}
    try:
        for file in files:
            kind = file.suffix[1:]
            metadata = dateless if kind == "svg" else None
            replace_file(file, lambda opened, k=kind, m=metadata: figure.savefig(opened, format=k, dpi=150, metadata=m))  # type: ignore[misc]
    finally:
        plt.close(figure)
    return files


def net_of(row: Row) -> str:
    """The net of a row of `runs`, as papers name it: "ResNet-20 (shortcut A)"."""
    if row.get("depth") is None or row.get("family") not in CHOICES["runs", "family"]:
        return " ".join(str(row[name]) for name in ("family", "depth") if row.get(name) is not None) or "unknown net"
    if row.get("shortcut") == "none":
        return f"plain-{row['depth']}"
    stride = ", stride v1.5" if row.get("stride") == "v1.5" else ""
    blocks = ", blocks of one layer" if row["family"] == "one-layer" else ""
    return f"ResNet-{row['depth']} (shortcut {row.get('shortcut')}{stride}{blocks})"


def images_of(row: Row) -> str:
    """What images a row of `runs` trained on, such as "cifar10-jpeg"; synthetic ones as loudly as in the report."""
    if row.get("synthetic") or row.get("loader") == "synthetic":
        return "SYNTHETIC images"
    return str(row.get("sample") or row.get("dataset") or "unknown images")


def machine_of(systems: Sequence[Row]) -> str:
    """Where a run went on, from its rows of `system`: the GPUs' model, or CPU and its model."""
    found = []
    for row in systems:
        if row.get("gpu_model"):
            name = str(row["gpu_model"])
        elif row.get("cpu_model"):
            cores = f", {row['cpu_cores']} cores" if row.get("cpu_cores") else ""
            name = f"CPU ({row['cpu_model']}{cores})"
        else:
            continue
        if name not in found:
            found.append(name)
    return " and ".join(found) or "machine not recorded"


def who_of(row: Row, systems: Sequence[Row], run_id: str) -> str:
    """The line under a title: machine, ranks, batch and run."""
    ranks = row.get("world_size")
    words = [machine_of(systems), f"{ranks} rank{'' if ranks == 1 else 's'}" if ranks else None, row.get("precision"),
             f"batch {row['global_batch']}" if row.get("global_batch") else None, f"run {run_id}"]  # fmt: skip
    return ", ".join(str(word) for word in words if word)
