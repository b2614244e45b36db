"""Tables as HTML, by great-tables; how they look is the page's own style."""

import html
import re
import warnings

import pyarrow as pa
from great_tables import GT, loc, style

from results.report.page.blocks import Table
from results.words import printable

__all__ = ["html_of"]


def html_of(table: Table, slug: str, first: int, last: int) -> str:
    """Return rows of a table as HTML; whatever its cells hold is shown as text.

    Args:
        slug: begins its identifiers; once in a page.
        first, last: which rows: from the first up to the one before the last.
    """
    names = [f"c{place}" for place in range(len(table.columns))]
    columns = [[printable(str(row[place])) for row in table.rows[first:last]] for place in range(len(names))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyArrow Table support")
        made = GT(pa.table([pa.array(column, pa.string()) for column in columns], names=names), id=slug)
    made = made.cols_label(dict(zip(names, (column.head for column in table.columns), strict=True)))
    for align in ("left", "right"):
        those = [name for name, column in zip(names, table.columns, strict=True) if column.right == (align == "right")]
        made = made.cols_align(align, those) if those else made  # type: ignore[arg-type]
    if code := [name for name, column in zip(names, table.columns, strict=True) if column.code]:
        made = made.tab_style(style.css("font-family: var(--mono)"), loc.body(columns=code))
    if wide := [name for name, column in zip(names, table.columns, strict=True) if column.wide]:
        made = made.tab_style(style.css("min-width: var(--sentence); overflow-wrap: anywhere"), loc.body(columns=wide))
    if marked := [place - first for place in sorted(table.marked) if first <= place < last]:
        made = made.tab_style(style.css("font-weight: 700"), loc.body(rows=marked))
    # Its own style has fixed colours, and rules for elements outside it.
    text = re.sub(r"<style>.*?</style>", "", made.as_raw_html(), flags=re.DOTALL)
    # Where a row is a card, each cell says of what it is; one with nothing to say is left out.
    for name, column in zip(names, table.columns, strict=True):
        label = html.escape(column.head, quote=True)
        text = text.replace(f' headers="{slug}-{name}"', f' data-head="{label}" headers="{slug}-{name}"')
    return re.sub(r"<td ([^>]*)>(-?)</td>", r'<td data-none="" \1>\2</td>', text)
