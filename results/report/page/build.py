"""Puts the sections together: one HTML file, and the pictures by themselves."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from results.durable import replace_file
from results.report.page.blocks import Block, Column, Commands, Heading, Picture, Section, Table, Words
from results.report.page.canvas import drawing, inline, titled
from results.report.page.evidence import Evidence
from results.report.page.sections import (
    changes,
    grid,
    kernel_floors,
    learning,
    missing,
    paper,
    scaling,
    step_time,
    sweeps,
    systems,
    verdict,
)
from results.report.page.tables import html_of
from results.words import counted, printable

__all__ = ["Page", "page_of"]

HERE = Path(__file__).parent
# In the order of the page; one that is of nothing is None. What others find that cannot be read is in the last one.
SECTIONS: tuple[Callable[[Evidence], Section | None], ...] = (
    verdict.section, sweeps.section, grid.section, learning.section, scaling.section, step_time.section,
    kernel_floors.section, changes.section, paper.section, systems.section, missing.section,
)  # fmt: skip
DPI = 144  # two pixels a point
MOST_RUNS = 400


@dataclass(frozen=True)
class Page:
    """A page that is ready to be written."""

    sections: list[Section]
    html: str

    @property
    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]

    def write(self, file: Path) -> None:
        """Write the page; it appears whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, lambda opened: opened.write(self.html.encode()))

    def write_pictures(self, folder: Path) -> list[Path]:
        """Write each picture as a PNG on white.

        Raises:
            OSError: one cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for picture in self.pictures:

            def save(opened: BinaryIO, drawn: Figure = picture.figure) -> None:
                drawn.savefig(opened, format="png", dpi=DPI, facecolor="white")

            files.append(folder / f"{picture.stem}.png")
            with drawing(picture.stem):
                titled(picture.figure, picture.title, picture.of)
                replace_file(files[-1], save)
        return files


def page_of(found: Evidence) -> Page:
    """Make the page of a store."""
    sections = [made for section in SECTIONS if (made := section(found)) is not None]
    cited = _cited(found, sections)
    if cited is not None:
        sections.append(cited)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((HERE / "page.html").read_text())
    said = counted(len(found.runs), "run")
    filtered = f", those with {printable(found.filtered)}" if found.filtered else ""
    page = template.render(
        style=Markup((HERE / "page.css").read_text()),
        title="Residual networks: what was measured",
        about=f"{said} of {printable(str(found.root))}" + filtered,
        made=f"{found.made:%Y-%m-%d %H:%M} UTC",
        sections=[
            {
                "slug": section.slug, "title": section.title, "status": section.status,
                "blocks": [
                    _rendered(block, f"{section.slug}-{place}", found) for place, block in enumerate(section.blocks)
                ],
            }
            for section in sections
        ],
    )  # fmt: skip
    # What is no character of UTF-8, such as bytes of a path, is written out.
    return Page(sections, page.encode(errors="backslashreplace").decode())


def _rendered(block: Block, slug: str, found: Evidence) -> dict[str, object]:
    if isinstance(block, Words):
        return {"kind": "words", "text": printable(block.text), "of": block.kind}
    if isinstance(block, Heading):
        return {"kind": "heading", "text": printable(block.text)}
    if isinstance(block, Commands):
        return {"kind": "commands", "lead": block.lead, "lines": list(map(printable, block.lines))}
    if isinstance(block, Table):
        # One row behind a line that opens would take its room.
        count = len(block.rows)
        first = block.first if count > block.first + 1 else count
        return {
            "kind": "table", "slug": slug, "caption": printable(block.caption), "note": printable(block.note), 
            "kind_of": " cards" * block.as_cards + " many" * block.many,
            "table": Markup(html_of(block, slug, 0, first)) if first else "",
            "more": counted(count - first, "more row" if first else "row") if count > first else "",
            "rest": Markup(html_of(block, f"{slug}-rest", first, count)) if count > first else "",
        }  # fmt: skip
    runs = [found.ids.get(run_id, run_id) for run_id in dict.fromkeys(block.runs)]
    svg = inline(block.figure, block.stem, html.escape(printable(block.alt), quote=True))
    return {
        "kind": "picture", "slug": block.stem, "title": printable(block.title), "alt": printable(block.alt),
        "note": printable(block.note),
        "wide": block.wide,
        "svg": Markup(svg), "count": counted(len(runs), "run"), "runs": " ".join(runs[-60:]),
        "more": f" and {len(runs) - 60:,} before them" if len(runs) > 60 else "",
    }  # fmt: skip


def _cited(found: Evidence, sections: Sequence[Section]) -> Section | None:
    """Whole ids of the runs that pictures show, the latest ones, and what each was."""
    drawn = {
        run for section in sections for block in section.blocks if isinstance(block, Picture) for run in block.runs
    }
    runs = [run for run in reversed(found.runs) if run.run_id in drawn]
    if not runs:
        return None
    rows = [
        (
            found.ids[run.run_id],
            run.run_id,
            f"{run.started:%Y-%m-%d %H:%M}",
            run.label,
            run.commit_label,
            str(run.row["status"]),
        )
        for run in runs[:MOST_RUNS]
    ]
    heads = ("run", "whole id", "began (UTC)", "cell", "commit", "status")
    columns = [Column(head, code=head in ("run", "whole id", "commit")) for head in heads]
    note = f"{len(runs) - MOST_RUNS:,} older runs: python -m results.report" if len(runs) > MOST_RUNS else ""
    table = Table("Runs behind the pictures, the latest first", columns, rows, note=note, first=0)
    return Section("runs", "Runs", [table], counted(len(runs), "run"))
