"""What a reader of a page sees: its words, tables, pictures and identifiers."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr", "use", "path"}


@dataclass
class Read(HTMLParser):
    """A page as it is read.

    Attributes:
        ids: all identifiers.
        targets: what links inside the page lead to.
        outside: whatever names something that is not in the page.
        labels: text alternatives of pictures.
        tags: names of elements.
        words: all texts, one after the other.
    """

    ids: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = {name: value or "" for name, value in attrs}
        if "id" in named:
            self.ids.append(named["id"])
        for name in ("href", "xlink:href", "src"):
            if name in named:
                value = named[name]
                (self.targets if value.startswith("#") else self.outside).append(value)
        self.targets += [f"#{one}" for value in named.values() for one in re.findall(r"url\(#([^)]*)\)", value)]
        if tag == "svg":
            assert named["role"] == "img"
            self.labels.append(named["aria-label"])

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(html: str) -> Read:
    """Read a page."""
    found = Read()
    found.feed(html)
    found.close()
    return found


def font_sizes(html: str) -> list[float]:
    """Sizes of all texts in pictures, pixels: a unit of their view boxes is one."""
    return [float(size) for size in re.findall(r"font: (?:\w+ )*([\d.]+)px", html.partition("<body")[2])]


def check_form(html: str) -> Read:
    """What holds of every page, whatever it shows."""
    found = read(html)
    # A request would be in one of these.
    assert [one for one in found.outside if one != "data:,"] == []
    assert not {"script", "iframe", "img", "object", "embed", "form"} & set(found.tags)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html
    assert len(set(found.ids)) == len(found.ids)
    assert {one[1:] for one in found.targets} <= set(found.ids)
    assert all(len(label) > 10 for label in found.labels)
    assert min(font_sizes(html), default=12) >= 12
    assert "#111213" not in html and "#515253" not in html  # inks follow light and dark
    return found
