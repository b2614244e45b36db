"""Words that nobody should type, for any command, as hypothesis makes them up."""

from dataclasses import Field, dataclass, fields
from typing import Any

from hypothesis import strategies as st

from bench.config.grammar import key

NUMBERS = (
    "0", "-0", "-0.0", "1", "2", "20", "8", "32", "0.5", "-1", "3.7", "1e3", "1e400", "-1e400", "1e-400", "nan", "-nan",
    "inf", "-inf", "9007199254740993", "9223372036854775808", "1" + 400 * "0", "9" * 5000, "-" + "9" * 5000, "0x10",
    "1_000", "1__0", "٣", "²", "1e", ".", "+5", "٠", "1e999999999999", "1" + 5000 * "0" + ".5",
)  # fmt: skip
RANGES = (
    "..", "1..2", "2..1", "..3", "3..", "a..b", "1..2..3", ">1", ">=", "<", "<=2", "><", ">1,<0", "1..nan", ">inf",
    "2026-11-30", "2026-13-01", "2026-02-30T25:61", ">=2026-11", "2026-11..2025", "0000-00-00", "9999-12-31..",
    "9999-12", "0001-01-01", "2026-11-30T20:05+99:99", ">0001-01-01T00:00+23:59", "<9999-12-31T23:59-23:59",
)  # fmt: skip
GRAMMAR = (
    "${depth}", "${oc.env:HOME}", "$ {x}", "${", "}", "range(0,1000000000000)", "range(1,3)", "range(0,1,0)",
    "range(5)",
    "range(0,1,1e-300)", "range(a)", "interval(0,1)", "choice(1,2)", "choice()", "glob(*)", "glob([", "sort(3,1)",
    "shuffle(1,2)", "tag(a,1)", "int('x')", "int(1e400)", "int(nan)", "float(x)", "str([1])", "bool(maybe)",
    "sort(1,a)", "sort(range(1,2))", "[1,2]", "[", "{a:1}", "{a:", "'", '"', "'a", "'a\\'", '"\\"', "\\", "\\\\'",
    "a'b",
    "null", "none", "???", "~", "@", "a@b", "a:b", "a=b", "=", "==1", "#", "--", "-", "!", "*", "?", "$", "$(id)",
    "`id`",
    ";", "&", "|", ",", ",,", "1,", ",1", "1,,2", "true", "false", "True", "yes", "TRUE,false", "a,b,c", " ", "\t",
    "extend_list(1)", "append(1)", "remove_at(0)",
)  # fmt: skip
NASTY = (
    "\n", "a\nb", "a\r\nb", "\x00", "a\x00b", "\x1b[31m", "\x07", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff",
    "\u200b",
    "\udc80", "\ud800", "\U0010ffff", "\ufffe", "é", "e\u0301", "中", "😀", "x" * 300, "x" * 5000, "/" * 5000,
    "a/" * 3000, "'" * 3001, "," * 3000, "a," * 3000, "(" * 600, "[" * 600, "{a:" * 300, "-" * 3000, ">" * 3000,
    "\\" * 3001, '"' * 3000, "é" * 3000, "=" * 3000, "1" * 100_000,
)  # fmt: skip
PATHS = (
    "/", "/dev/null", "/dev/zero", "/proc/self/mem", "/etc/passwd", "/none", "~", "~nobody.here", "~nobody.here/x",
    "~root", ".", "..", "../x", "", "x" * 300 + ".safetensors", "w.safetensors", "/none/w.safetensors", "a\x00b.yaml",
    "here", "here/none", "a file", "a file/x", "loop", "loop/x", "pipe", "empty.tar", "cut.tar.gz",
)  # fmt: skip
PREFIXES = ("+", "++", "~", "~~", "-", "--", "@", " ", "hydra.", "\t", "\n", "'", '"')

CHARACTERS = st.one_of(
    st.characters(),
    st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]),
    st.sampled_from("=,'\"\\ ${}()[]<>.:@~+-0123456789abcdeflnrstx/"),
)
TEXT = st.text(CHARACTERS, max_size=12)
ATOMS = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(RANGES), st.sampled_from(GRAMMAR), st.sampled_from(NASTY),
    st.sampled_from(PATHS), TEXT, st.integers().map(str), st.floats().map(str),
)  # fmt: skip
COMBINED = st.one_of(
    ATOMS,
    st.lists(ATOMS, min_size=2, max_size=4).map(",".join),
    st.tuples(ATOMS, ATOMS).map("..".join),
    ATOMS.map(lambda text: f"'{text}'"),
    ATOMS.map(lambda text: f'"{text}"'),
    st.tuples(st.sampled_from(["range", "choice", "sort", "int", "str", "float", "bool", "x"]), ATOMS).map(
        lambda pair: f"{pair[0]}({pair[1]})"
    ),
    st.tuples(st.sampled_from(["<", ">", "<=", ">="]), ATOMS).map("".join),
)


def fitting(option: Field[Any]) -> st.SearchStrategy[str]:
    """Values that a key may well take, so that words after it are looked at as well."""
    rule = option.metadata
    if rule["choices"]:
        return st.sampled_from(rule["choices"])
    bounds = [value for name in ("least", "above", "most") if (value := rule[name]) is not None]
    near = [text for bound in bounds for text in (str(bound), f"{bound + 1:g}", f"{bound - 1:g}", str(bound / 2))]
    return st.sampled_from([*near, "1", "2", "true", "false", "0.5", "here", "x"])


def words(keys: type, base: list[list[str]]) -> st.SearchStrategy[list[str]]:
    """Command lines of a command.

    Args:
        keys: its dataclass of keys.
        base: words that it can be called with, one of which each line may begin with.
    """
    options = list(fields(keys)) or list(fields(_Some))
    own = st.sampled_from(options).flatmap(
        lambda option: st.one_of(COMBINED, fitting(option)).map(lambda value: f"{option.name}={value}")
    )
    names = st.one_of(st.sampled_from([option.name for option in options]), st.sampled_from(OTHERS), TEXT)
    odd = st.tuples(
        st.sampled_from(["", *PREFIXES]), names, st.sampled_from(["=", "", "==", " = ", ">=", ":"]), COMBINED
    )
    word = st.one_of(own, own, own, odd.map("".join), COMBINED)
    lines = st.lists(word, min_size=1, max_size=3)
    repeated = lines.flatmap(lambda line: st.sampled_from([line, line, line, [*line, line[0]]]))
    return st.tuples(st.sampled_from([[], *base]), repeated).map(lambda pair: _laid_over(*pair))


def _laid_over(base: list[str], line: list[str]) -> list[str]:
    """A base without the keys that are typed again, and the words."""
    typed = {word.partition("=")[0] for word in line}
    return [*(word for word in base if "=" not in word or word.partition("=")[0] not in typed), *line]


@dataclass
class _Some:
    """Of a command without keys."""

    depth: int = key("layers", "20", default=20)


OTHERS = (
    "depth", "results", "run", "to", "data", "rounds", "sides", "nights", "cluster", "mode", "run_start",
    "images_per_s",
    "null_reasons", "format", "candidate", "a", "b", "jobs", "chips", "hydra", "hydra.run.dir", "key", "depth.x",
    "x[0]",
    "save", "resume", "seed", "nodes", "self", "__class__", "",
)  # fmt: skip
