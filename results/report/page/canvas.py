"""Figures for the page: sizes, inks that follow light and dark, and SVG that can stand in HTML."""

import contextlib
import io
import re
import textwrap
import zlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from results.plot.picture import STYLES, plain

__all__ = [
    "COLORS",
    "GREY_INK",
    "INK",
    "RULE",
    "drawing",
    "figure",
    "inline",
    "quiet",
    "shortened",
    "stem_of",
    "titled",
]

# Pixels of the page: one point of a figure becomes one pixel, so that text of 12 points has 12 pixels.
NARROW_PX, WIDE_PX = 336, 704  # the first fits a phone of 360 with its margins
TEXT_PX = 12
# Drawn in these, which are no colours of data; the page puts its own in their place, which follow light and dark.
INK, GREY_INK, RULE = "#111213", "#515253", "#d1d2d3"
_INKS = {INK: "var(--ink)", GREY_INK: "var(--grey)", RULE: "var(--rule)", "#000000": "var(--ink)"}
# Black is the ink of words here.
COLORS = tuple((color, marker) for color, marker in STYLES if color != "#000000")
_SETTINGS: dict[Any, Any] = {
    "font.size": TEXT_PX, "axes.titlesize": TEXT_PX, "axes.labelsize": TEXT_PX, "xtick.labelsize": TEXT_PX,
    "ytick.labelsize": TEXT_PX, "legend.fontsize": TEXT_PX, "figure.titlesize": TEXT_PX,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": GREY_INK, "xtick.color": GREY_INK, "ytick.color": GREY_INK, "grid.color": RULE,
    "grid.linewidth": 0.8, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "legend.frameon": False, "svg.fonttype": "none", "axes.axisbelow": True,
}  # fmt: skip
_IDS = re.compile(r'(\bid="|"#|url\(#)')


@contextlib.contextmanager
def drawing(stem: str) -> Iterator[None]:
    """Matplotlib's settings for figures of the page; under them the same rows give the same bytes.

    Args:
        stem: of the picture.
    """
    with plt.rc_context(_SETTINGS), plt.rc_context({"svg.hashsalt": stem}):
        yield


def figure(height_px: float, *, wide: bool = False) -> Figure:
    """Return an empty figure; to be called, and drawn on, under `drawing`.

    Args:
        height_px: of the page.
        wide: whether it takes the width of two.
    """
    # Not pyplot's: it keeps what it makes until it is told to forget it.
    return Figure(figsize=((WIDE_PX if wide else NARROW_PX) / 72, height_px / 72), layout="constrained")


def stem_of(kind: str, run_id: str) -> str:
    """Return the stem of a picture of a kind, of a run or of what it is the latest of."""
    short = re.sub(r"^\d{8}T\d{6}-", "", run_id)[-48:]
    # Ids that end in chance differ there; of others the whole tells them apart.
    own = short if re.search(r"-[0-9a-f]{8}$", short) else f"{short}-{zlib.crc32(run_id.encode(errors='replace')):08x}"
    return f"{kind}-" + re.sub(r"[^A-Za-z0-9]", "-", own)


def shortened(title: str) -> str:
    """Return a title of two lines at most; what is cut off stands in `Picture.of`."""
    return textwrap.shorten(title, 90, placeholder=" ...")


def quiet(axes: Axes, *, grid: str = "both") -> None:
    """Leave of the frame what carries ticks, and draw a grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis=grid)  # type: ignore[arg-type]


def titled(drawn: Figure, title: str, of: str) -> None:
    """Write below a figure what the page says around it, and make it as much higher."""
    chars = int(drawn.get_figwidth() * 72 / TEXT_PX / 0.62)
    lines = [line for words in (title, of) for line in textwrap.wrap(words, chars)]
    words_in = (len(lines) * TEXT_PX * 1.3 + 8) / 72
    drawn.set_figheight(drawn.get_figheight() + words_in)
    share = words_in / drawn.get_figheight()
    engine = drawn.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, share, 1, 1 - share))  # below, since legends lie above
    drawn.text(0.01, share - 4 / 72 / drawn.get_figheight(), plain("\n".join(lines)), va="top", linespacing=1.2)


def inline(drawn: Figure, stem: str, alt: str) -> str:
    """Return a figure as an SVG element, in the page's inks, its identifiers its own.

    Args:
        stem: begins each identifier: those of two pictures would be taken for each other.
        alt: its text alternative, escaped.
    """
    out = io.StringIO()
    with drawing(stem):
        # Matplotlib would draw all of it once for the layout alone; also with "none", the engine that does nothing.
        engine = drawn.get_layout_engine()
        if engine is not None:
            engine.execute(drawn)
            drawn.set_layout_engine(None)
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        drawn.set_layout_engine(engine)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    # Its style would hold for the whole page, which has it once.
    svg = re.sub(r"<metadata>.*?</metadata>|<style [^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    width, height = (re.search(rf'{side}="([\d.]+)pt"', head) for side in ("width", "height"))
    assert width and height
    w, h = float(width[1]), float(height[1])
    body = _IDS.sub(lambda match: f"{match[1]}{stem}-", body)
    for ink, own in _INKS.items():
        body = body.replace(ink, own)
    # A pixel a point; matplotlib's own would have four thirds.
    return f'<svg role="img" aria-label="{alt}" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}">{body}'
