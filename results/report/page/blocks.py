"""What a page is made of before it is HTML: sections of words, commands, tables and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure

__all__ = ["Block", "Column", "Commands", "Heading", "Picture", "Section", "Table", "Words"]

IN_SIGHT = 12  # rows of a table


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Attributes:
        kind: "lead" says the most in the fewest words; a "warning" must not be missed.
    """

    text: str
    kind: Literal["lead", "plain", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Heading:
    """What the blocks up to the next heading are of."""

    text: str


@dataclass(frozen=True)
class Commands:
    """Command lines to copy.

    Attributes:
        lead: what they are for.
    """

    lead: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        right: whether its cells are numbers, which stand at the right.
        code: whether its cells are commands or ids, in letters of one width.
        wide: whether its cells are sentences, which want room.
    """

    head: str
    right: bool = False
    code: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: what its rows are.
        rows: a text for each column.
        marked: places of rows that need attention.
        note: what stands below; "" for nothing.
        first: rows in sight; those after them are behind a line that opens.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = frozenset()
    note: str = ""
    first: int = IN_SIGHT

    @property
    def as_cards(self) -> bool:
        """Whether a row is a card on a phone: more columns than it has room for."""
        return len(self.columns) > 4 or any(column.wide for column in self.columns)

    @property
    def many(self) -> bool:
        """Whether a row is a card on paper as well."""
        return len(self.columns) > 7


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with the words that a reader needs who does not see it.

    Attributes:
        stem: of its file, and of the identifiers in it: letters, digits and hyphens, once in a page.
        title: one line above it.
        of: what the heading above it says; with the title it says the whole where the picture stands alone.
        alt: what it shows, with the figures that matter.
        note: sentences below it: what counts, what is left out.
        runs: ids, whole, of the runs whose figures are drawn.
        wide: whether it takes the width of two.
    """

    stem: str
    title: str
    alt: str
    figure: Figure
    of: str = ""
    note: str = ""
    runs: Sequence[str] = ()
    wide: bool = False


Block = Words | Heading | Commands | Table | Picture


@dataclass
class Section:
    """A part of the page with a heading of its own.

    Attributes:
        slug: its anchor.
        status: a word beside the heading in the table of contents, such as "1 regression"; "" for none.
    """

    slug: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    status: str = ""
