"""The grammar of the command line: words, sweeps, types and the messages of words that cannot be used."""

import shlex
from dataclasses import dataclass, make_dataclass

import pytest

from bench.config.grammar import WordError, key, parse, values, word
from bench.config.help_text import help_text
from bench.config.keys import RunKeys


@dataclass(kw_only=True)
class Keys:
    depth: int | None = key("layers", "required", unit="layers", least=2)
    lr: float | None = key("learning rate", "0.1", above=0)
    target: float | None = key("accuracy", "none", unit="fraction", above=0, most=1)
    data: str | None = key("folder", "none", path=True)
    shortcut: str | None = key("of blocks", "A", choices=("none", "A", "B", "C"))
    rerun: bool = key("again", "false", default=False)
    run: str | None = key("which runs", "all", text="an id")
    to: str | None = key("where to", "none", path=True, one=True)
    rounds: int | None = key("turns", "1", one=True)


def cells(line: str) -> list[Keys]:
    return parse(shlex.split(line), Keys)


def test_values_have_the_types_of_their_keys() -> None:
    (keys,) = cells("depth=20 lr=1 target=0.97 data=12 shortcut=none rerun=true")
    assert keys == Keys(depth=20, lr=1.0, target=0.97, data="12", shortcut="none", rerun=True)
    assert isinstance(keys.lr, float) and isinstance(keys.data, str)


def test_commas_expand_to_the_whole_product_in_order() -> None:
    assert [(keys.depth, keys.shortcut) for keys in cells("depth=18,34 shortcut=A,B")] == [
        (18, "A"),
        (18, "B"),
        (34, "A"),
        (34, "B"),
    ]
    assert [keys.depth for keys in cells("depth=range(2,8,3)")] == [2, 5]


def test_values_are_those_of_what_was_typed_in_its_order() -> None:
    typed = values(["run=20,a b,null", "depth=4,3", "to=/a,b", "rounds=3"], Keys)
    assert list(typed.items()) == [
        ("run", ["20", "a b", "null"]),
        ("depth", [4, 3]),
        ("to", ["/a,b"]),  # taken whole: there is no sweep of it
        ("rounds", [3]),
    ]
    assert values(["to='/a,b'"], Keys) == {"to": ["/a,b"]}
    assert values([], Keys) == {}


def test_no_words_are_one_cell_of_defaults() -> None:
    assert parse([], Keys) == [Keys()]


@pytest.mark.parametrize("path", ["/a b/c", "/ü=a#(b)", "~/x", "it's", "/a\\b\\", "/x,y", "'quoted'", "null", "$HOME"])
def test_paths_are_taken_as_they_stand(path: str) -> None:
    assert parse([word("data", path)], Keys)[0].data == path


def test_typed_path_needs_quotes_for_a_comma_alone() -> None:
    assert [keys.data for keys in parse(["data=/ü(1),/b#2"], Keys)] == ["/ü(1)", "/b#2"]
    assert parse(["data='/x,y'"], Keys)[0].data == "/x,y"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dept=20", "dept=20: no such key; did you mean depth=20?"),
        ("--depth=20", "--depth=20: no such key; did you mean depth=20?"),
        ("+depth=20", "+depth=20: no such key; did you mean depth=20?"),
        ("hydra.run.dir=x", "hydra.run.dir=x: no such key (--help lists every key)"),
        ("depth", "depth: words are key=value; did you mean depth=VALUE?"),
        ("''", ": words are key=value (--help lists every key)"),
        ("foo", "foo: words are key=value (--help lists every key)"),
        ("/tmp", "/tmp: words are key=value; did you mean data= or to=? (--help lists every key)"),
        ("no/such", "no/such: words are key=value; did you mean data= or to=? (--help lists every key)"),
        ("depth=zero", "depth=zero: depth takes a whole number, at least 2 (nearest: depth=2)"),
        ("depth=3.7", "depth=3.7: depth takes a whole number, at least 2 (nearest: depth=4)"),
        ("depth=-3", "depth=-3: depth takes a whole number, at least 2 (nearest: depth=2)"),
        ("depth=4,1", "depth=1: depth takes a whole number, at least 2 (nearest: depth=2)"),
        ("depth=", "depth=: depth takes a whole number, at least 2"),
        ("depth=4,", "depth=4,: depth takes a whole number, at least 2; several values are written depth=VALUE,VALUE"),
        (
            "depth=[4,5]",
            "depth=[4,5]: depth takes a whole number, at least 2; several values are written depth=VALUE,VALUE",
        ),
        ("depth=null", "depth=null: depth takes a whole number, at least 2; for the default leave depth out"),
        ("depth=4 depth=5", "depth=5: depth is given twice; several values are written depth=VALUE,VALUE"),
        ("depth=range(0)", "depth=range(0): depth takes a whole number, at least 2; several values are written"),
        (
            "depth=range(0,1000000000000)",
            "depth=range(0,1000000000000): more than 10,000 values; nearest is 10,000 at a",
        ),
        ("depth=range(2,200000) lr=1", "depth=range(2,200000): more than 10,000 values"),
        ("lr=range(0,1,1e-300)", "lr=range(0,1,1e-300): more than 10,000 values"),
        ("lr=range(nan,1)", "lr=range(nan,1): lr takes a number, above 0"),
        ("lr=range(0,1,0)", "lr=range(0,1,0): lr takes a number, above 0"),
        ("shortcut='\"???\"'", 'shortcut="???": shortcut takes '),
        ("run=b\udcff", "run=b\udcff: run takes an id, in UTF-8"),
        ("shortcut=\ud800", "shortcut=\ud800: shortcut takes "),
        pytest.param(
            "depth=range(2,5002) lr=1,2,3",
            "depth=range(2,5002): the sweeps have 15,000 configurations together; nearest is",
            marks=pytest.mark.slow,
        ),
        (f"depth={'9' * 5000}", f"depth={'9' * 5000}: depth takes a whole number, at least 2"),
        (f"depth={'[' * 3000}", f"depth={'[' * 3000}: depth takes a whole number, at least 2"),
        ("depth='${lr}'", "depth=${lr}: nothing is filled in for ${...} here; write the value out"),
        ("lr=0", "lr=0: lr takes a number, above 0"),
        ("lr=nan", "lr=nan: lr takes a number, above 0"),
        ("lr=inf", "lr=inf: lr takes a number, above 0"),
        ("target=97", "target=97: target takes a number, above 0 and at most 1 (nearest: target=0.97)"),
        ("shortcut=D", "shortcut=D: choose from none, A, B, C (nearest: shortcut=C)"),
        ("shortcut=a", "shortcut=a: choose from none, A, B, C (nearest: shortcut=A)"),
        ("rerun=maybe", "rerun=maybe: rerun takes true or false"),
        ("data=", "data=: data takes a path"),
        ("data=/a,,/b", "data=/a,,/b: data takes a path"),
        ("run=", "run=: run takes an id"),
        ("run=a,,b", "run=a,,b: run takes an id; several values are written run=VALUE,VALUE"),
        ("to=", "to=: to takes a path"),
        ("to=a to=b", "to=b: to is given twice; it takes one value"),
        ("rounds=1,2", "rounds=1,2: rounds takes one value, a whole number"),
        ("rounds=range(3)", "rounds=range(3): rounds takes one value, a whole number"),
    ],
)
def test_a_wrong_word_is_named_with_what_would_do(line: str, message: str) -> None:
    with pytest.raises(WordError) as raised:
        cells(line)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_help_has_each_key_with_type_default_unit_and_meaning() -> None:
    text = help_text(Keys, width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "depth     layers\n          type: a whole number, at least 2; unit: layers; default: required" in text
    assert "shortcut  of blocks\n          type: one of none, A, B, C; default: A" in text
    assert all(f"\n{name} " in f"\n{text}" for name in ("depth", "lr", "target", "data", "shortcut", "rerun"))


def test_help_has_keys_that_share_everything_once() -> None:
    filters = [(name, kind | None, key("only these", "all")) for name, kind in (("a", int), ("b", str), ("c", int))]
    text = help_text(make_dataclass("Filters", [*filters, ("last", str | None, key("word", "none"))]), width=100)
    shared = "a, c\n      only these\n      type: a whole number; default: all"
    rest = "b     only these\n      type: a name; default: all\nlast  word\n      type: a name; default: none"
    assert text == f"{shared}\n{rest}"


def test_a_path_alone_is_asked_for_with_the_keys_that_take_one() -> None:
    with pytest.raises(WordError, match="^/a: words are key=value; did you mean data=, results=, save= or resume=[?]"):
        parse(["/a"], RunKeys)
    one = make_dataclass("One", [("data", str | None, key("folder", "none", path=True))])
    with pytest.raises(WordError, match="^/a: words are key=value; did you mean data=/a[?]"):
        parse(["/a"], one)
    with pytest.raises(WordError, match="^/a: words are key=value .--help"):
        parse(["/a"], make_dataclass("Plain", [("depth", int, key("layers", "1", default=1))]))
