"""Tables as HTML, by great-tables; how they look is the page's own style."""

import re
import warnings

import pyarrow as pa
from great_tables import GT, loc, style

from results.report.page.blocks import Table

__all__ = ["html_of"]


def html_of(table: Table, slug: str) -> str:
    """Return a table as HTML; whatever its cells hold is shown as text.

    Args:
        slug: begins its identifiers; once in a page.
    """
    names = [f"c{place}" for place in range(len(table.columns))]
    columns = [[str(row[place]) for row in table.rows] for place in range(len(names))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyArrow Table support")
        made = GT(pa.table([pa.array(column, pa.string()) for column in columns], names=names), id=slug)
    made = made.cols_label(dict(zip(names, (column.head for column in table.columns), strict=True)))
    for align in ("left", "right"):
        those = [name for name, column in zip(names, table.columns, strict=True) if column.right == (align == "right")]
        made = made.cols_align(align, those) if those else made  # type: ignore[arg-type]
    if code := [name for name, column in zip(names, table.columns, strict=True) if column.code]:
        made = made.tab_style(style.css("font-family: var(--mono)"), loc.body(columns=code))
    if table.marked:
        made = made.tab_style(style.css("font-weight: 700"), loc.body(rows=sorted(table.marked)))
    # Its own style has fixed colours, and rules for elements outside it.
    return re.sub(r"<style>.*?</style>", "", made.as_raw_html(), flags=re.DOTALL)
