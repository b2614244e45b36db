"""Shows a table or figure of the paper, each published figure beside what was measured.

    python -m results.paper table=6 [results=PATH] [to=FOLDER] [format=table|csv|json]
    python -m results.paper figure=6 to=build/paper

Tables 1 to 8, Figures 1, 4, 6 and 7, and two of what the paper says without a picture: figure=one-layer, errors of nets
with a shortcut around each layer, and figure=gradient-flow, norms of activations and gradients by layer. Training rates
of ResNet-50 that others published stand beside ours in table=throughput.

A published figure stands only beside one of the same net, images, metric and test protocol: any other has a line of its
own. Measured errors are those of the last epoch of completed runs of recipe=paper over its whole schedule, and those of
their weights in the table `evaluations`. Reduced runs and other recipes are listed apart. What is missing is named,
with the command that would fill it. Notes, on files that cannot be read and on what does not count, stand below a table
and in JSON; those of CSV go to stderr.

With to= the table or figure is also drawn, as SVG and PNG. Exit status: 0 shown, 2 bad words.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from results.listing.terminal import show
from results.paper import cells, curves, flow, measured, responses, throughput
from results.paper.render import Shown, csv_text, figure_parts, json_text, layer_parts, table_parts
from results.paper.render_rates import rate_parts
from results.words import DEFAULT_ROOT, printable, root_from

FIGURES = ("1", "4", "6", "7", "one-layer", flow.WORD)
TABLES = (*cells.TABLES, "throughput")
FORMATS = ("table", "csv", "json")


@dataclass(frozen=True)
class Task:
    """What is to be shown, and how."""

    found: Shown
    to: str | None
    form: str


def _parts(found: Shown) -> list[RenderableType]:
    if isinstance(found, cells.PaperTable):
        return table_parts(found)
    if isinstance(found, throughput.RateTable):
        return rate_parts(found)
    return figure_parts(found) if isinstance(found, curves.PaperFigure) else layer_parts(found)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values
    from bench.config.paths import check_folder

    @dataclass(kw_only=True)
    class Keys:
        table: str | None = key(
            "of the paper, or training rates of ResNet-50", "this or figure= is required", choices=TABLES, one=True
        )
        figure: str | None = key(
            "of the paper, or of what it says without a picture",
            "this or table= is required",
            choices=FIGURES,
            one=True,
        )
        results: str = key("the store", "results/v1 of the checkout", default=str(DEFAULT_ROOT), path=True, one=True)
        to: str | None = key(
            "folder that pictures are written to, made if need be", "nothing is drawn", path=True, one=True
        )
        format: str = key("of what is printed", "table", default="table", choices=FORMATS, one=True)

    def read(typed: list[str]) -> Task:
        given = values(typed, Keys)
        if "table" in given and "figure" in given:
            raise WordError(f"figure={given['figure'][0]}: one of the two; nearest is table={given['table'][0]} alone")
        if "table" not in given and "figure" not in given:
            raise WordError("table is missing: add table=6, or figure=6")
        to = given.get("to", [None])[0]
        if to is not None:
            check_folder("to", to)
        store = measured.read(root_from(given))
        found: Shown
        if given.get("table") == ["throughput"]:
            found = throughput.build(store)
        elif "table" in given:
            found = cells.build(given["table"][0], store)
        elif given["figure"][0] == "7":
            found = responses.build(store)
        elif given["figure"][0] == flow.WORD:
            found = flow.build(store)
        else:
            found = curves.build(given["figure"][0], store)
        return Task(found, to, given.get("format", ["table"])[0])

    def do(task: Task) -> int:
        found = task.found
        if task.form == "json":
            print(json_text(found))
        elif task.form == "csv":
            print(csv_text(found))
            # Its rows have no room for them, and a cell is not to be missing without a word.
            print(*(f"note: {printable(note)}\n" for note in found.notes), sep="", end="", file=sys.stderr)
        else:
            show(*_parts(found))
        if task.to is not None:
            _draw(found, check_folder("to", task.to))
        return 0

    def _draw(found: Shown, folder: Path) -> None:
        # Late: matplotlib takes its time, and where its own folder cannot be written to it is in nobody's way.
        from results.paper import picture

        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = picture.draw(found, folder)
        except OSError as error:
            raise command.Failure(f"to={folder}: {error.strerror or error}") from None
        print(*(f"drawn: {file}" for file in files), sep="\n", file=sys.stderr)

    return command.run("results.paper", __doc__, Keys, read, do, words, goes_on=True)
