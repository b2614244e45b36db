"""The grammar of the command line: `key=value` words and comma sweeps, typed and explained by a dataclass of keys."""

import itertools
import math
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config import ranges as ranges_typed
from results.words import ConfigError, nearest, suggestion

Keys = TypeVar("Keys")

MOST = 10_000  # values of a word, and configurations of a command line: more are a slip, and would fill the memory
KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


class WordError(ConfigError):
    """A word that cannot be used; the message is one line that names it and what would do instead."""


def key(
    meaning: str,
    shown: str,
    *,
    default: Any = None,
    unit: str = "",
    choices: Sequence[str] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    path: bool = False,
    text: str = "",
    one: bool = False,
    together: bool = False,
    ranges: bool = False,
    time: bool = False,
) -> Any:
    """A field of a dataclass of keys; its type is the field's annotation.

    Args:
        meaning: for the help.
        shown: the default in words.
        default: value of a key that was not typed.
        unit: of a number.
        choices: the only values of a text.
        least, above, most: bounds of a number; `above` is exclusive.
        path: whether the text is that of a path.
        text: what else a text is that is taken as it stands between commas, as a path is, whatever characters it has.
        one: whether there is no sweep of it; such a text is taken whole, commas and all.
        together: whether several choices between commas are no sweep but belong to one configuration, as one text.
        ranges: whether a value may also be a range such as ">20" or "20..56", which is then a `Range`.
        time: whether a text is a time: it is read as the `Range` that it stands for, the whole of its day or minute.
    """
    return field(
        default=default,
        metadata={
            "meaning": meaning,
            "default": shown,
            "unit": unit,
            "choices": tuple(choices),
            "least": least,
            "above": above,
            "most": most,
            "text": "a path" if path else ranges_typed.TIME if time else text,
            "one": one,
            "together": together,
            "ranges": ranges,
            "time": time,
        },
    )


def parse(words: Sequence[str], keys: type[Keys]) -> list[Keys]:
    """Expand a command line into the whole product of its sweeps, the last word varying fastest; see `values`.

    Raises:
        WordError: as of `values`, or the product is larger than `MOST`; the line names the word with the most values.
    """
    return product(values(words, keys), keys, words)


def product(typed: Mapping[str, Sequence[Any]], keys: type[Keys], words: Sequence[str]) -> list[Keys]:
    """Expand values by key into their whole product, the last key varying fastest.

    Args:
        words: that the values came from.

    Raises:
        WordError: it is larger than `MOST`.
    """
    options: Sequence[Field[Any]] = fields(keys)  # type: ignore[arg-type]
    own = {option.name: option.metadata["choices"] for option in options if option.metadata["together"]}
    if (count := math.prod(len(values) for name, values in typed.items() if name not in own)) > MOST:
        name = max(typed, key=lambda name: len(typed[name]))
        longest = next(word for word in words if word.startswith(f"{name}="))
        raise WordError(f"{longest}: the sweeps have {count:,} configurations together; nearest is {MOST:,} at a time")
    # In the order of their choices: what is asked for alike is one configuration.
    axes = [
        [",".join(one for one in own[name] if one in values)] if name in own else values
        for name, values in typed.items()
    ]
    return [keys(**dict(zip(typed, cell, strict=True))) for cell in itertools.product(*axes)]


def values(words: Sequence[str], keys: type) -> dict[str, list[Any]]:
    """Read the values of each key that was typed, in the order of the words.

    Args:
        words: `key=value` or `key=value,value` each.
        keys: a dataclass whose fields were made by `key`.

    Raises:
        WordError: the first word that has no known key, a value of the wrong type or range, or a key typed twice.
    """
    options = {option.name: option for option in fields(keys)}
    parser = OverridesParser.create()
    spelled: dict[str, list[str]] = {}
    split: dict[str, list[ranges_typed.Piece]] = {}
    for typed in words:
        name = _name(typed, options)
        if name in spelled:
            one = options[name].metadata["one"]
            several = "it takes one value" if one else f"several values are written {name}=VALUE,VALUE"
            raise WordError(f"{typed}: {name} is given twice; {several}")
        if options[name].metadata["ranges"] and ranges_typed.is_range(typed.partition("=")[2]):
            split[name] = ranges_typed.pieces(typed.partition("=")[2])
            spelled[name] = [
                _bound(typed, options[name], piece, bound, parser) for piece in split[name] for bound in piece.bounds
            ]
        else:
            spelled[name] = _spelled(typed, options[name], parser)
    originals = {typed.partition("=")[0]: typed for typed in words}
    found: dict[str, list[Any]] = {name: [] for name in spelled}
    # Types do not depend on one another: the n-th values of all words are converted together.
    for index in range(max(map(len, spelled.values()), default=0)):
        row = {name: texts[index] for name, texts in spelled.items() if index < len(texts)}
        # A value is named alone, but never as what was not typed: the grammar spells 1e400 as inf.
        said = {name: f"{name}={text}" if text in originals[name] else originals[name] for name, text in row.items()}
        config = _converted(keys, row, said, options, parser)
        for name in row:
            original = originals[name] if len(spelled[name]) == 1 else said[name]
            if OmegaConf.is_missing(config, name):  # ??? in quotes
                raise WordError(f"{original}: {name} takes {accepts(options[name])}")
            if config[name] is None:
                raise WordError(f"{original}: {name} takes {accepts(options[name])}; for the default leave {name} out")
            check(options[name], config[name], original)
            found[name].append(_moment(options[name], config[name]))
    return {
        name: _joined(options[name], split[name], typed) if name in split else typed for name, typed in found.items()
    }


def check(option: Field[Any], value: Any, spelled: str | None = None) -> None:
    """Check a typed value against the choices and bounds of its key.

    Args:
        spelled: the word as it was typed, for the message.

    Raises:
        WordError: names the key, the value, what is allowed and the nearest of it.
    """
    rule, word = option.metadata, spelled or f"{option.name}={_show(value)}"
    if value is None:
        return
    if rule["together"] and isinstance(value, str) and "," in value:
        for part in value.split(","):
            check(option, part)
        return
    if rule["choices"] and value not in rule["choices"]:
        allowed = ", ".join(rule["choices"])
        near = nearest(value, rule["choices"])
        near = f"'{near}'" if " " in near else near
        raise WordError(f"{word}: choose from {allowed} (nearest: {option.name}={near})")
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, above, most = rule["least"], rule["above"], rule["most"]
        low = (least is not None and value < least) or (above is not None and value <= above)
        high = most is not None and value > most
        if low or high or (abs(value) > 2**53 if isinstance(value, int) else not math.isfinite(value)):
            raise WordError(f"{word}: {option.name} takes {accepts(option)}{_nearest_number(option, value)}")
    if value == "":
        raise WordError(f"{option.name}=: {option.name} takes {accepts(option)}{_quotes(option)}")


def accepts(option: Field[Any]) -> str:
    """What a key takes, in words: its choices, or its type with the bounds."""
    rule = option.metadata
    if rule["choices"]:
        return ("some of " if rule["together"] else "one of ") + ", ".join(rule["choices"])
    ranges = f", {ranges_typed.ACCEPTED}" if rule["ranges"] else ""
    if rule["text"]:
        return f"{rule['text']}{ranges}"
    words = {"above": "above", "least": "at least", "most": "at most"}
    bounds = [f"{words[name]} {_show(rule[name])}" for name in words if rule[name] is not None]
    return KIND_NAMES[kind(option)] + (", " + " and ".join(bounds) if bounds else "") + ranges


def kind(option: Field[Any]) -> type:
    """The type of a key's values, None left out."""
    if isinstance(option.type, types.UnionType):
        return next(part for part in typing.get_args(option.type) if part is not types.NoneType)
    assert isinstance(option.type, type)
    return option.type


def word(name: str, value: Any) -> str:
    """The word that parses back to `value`."""
    text = _show(value)
    if isinstance(value, str) and set(text) & set(",'\"\\"):
        text = _quote(text)
    return f"{name}={text}"


def _name(word: str, options: dict[str, Field[Any]]) -> str:
    name, equals, value = word.partition("=")
    if equals and name in options:
        return name
    for option in options.values():
        # `depth>=20` as one would write it elsewhere; what a shell made of an unquoted ">" never arrives.
        compared = re.fullmatch(rf"{re.escape(option.name)}\s*([<>]=?)(.*)", word, re.DOTALL)
        if compared and option.metadata["ranges"]:
            raise WordError(
                f"{word}: words are key=value; did you mean {option.name}={compared[1]}{compared[2].strip()}?"
            )
    bare = name.strip().lstrip("-+~").replace("-", "_")
    close = suggestion(bare, options)
    problem = "no such key" if equals else "words are key=value"
    hint = f"; did you mean {close}={value or 'VALUE'}?" if close else ""
    if not (equals or close):
        hint = _path_hint(word, options)
    raise WordError(f"{word}: {problem}{hint} (--help lists every key)")


def _path_hint(word: str, options: Mapping[str, Field[Any]]) -> str:
    """Which keys a path may have been meant for that stands alone."""
    names = [option.name for option in options.values() if option.metadata["text"] == "a path"]
    if not names or not ("/" in word or os.path.lexists(os.path.expanduser(word))):
        return ""
    *others, last = (f"{name}={word}" if len(names) == 1 else f"{name}=" for name in names)
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"


def _spelled(word: str, option: Field[Any], parser: OverridesParser) -> list[str]:
    """The values of one word, each in the grammar's own spelling."""
    name, _, text = word.partition("=")
    if text.strip() == "???":
        raise WordError(f"{word}: {name} takes {accepts(option)}")
    if "${" in text:
        raise WordError(f"{word}: nothing is filled in for ${{...}} here; write the value out")
    rule = option.metadata
    if rule["text"] != "a path" and word != word.encode(errors="replace").decode():  # Linux has other bytes in paths
        raise WordError(f"{word}: {name} takes {accepts(option)}, in UTF-8")
    if rule["together"]:  # as `word` writes several of them
        text = text.strip("'\"")
    if rule["text"] and text[:1] not in ("'", '"'):
        text = ",".join(_quote(part) if part else "" for part in ([text] if rule["one"] else text.split(",")))
    found: list[str] = []
    try:
        override = parser.parse_override(f"{name}={text}")
        sweep = override.is_sweep_override()
        if override.type == OverrideType.CHANGE and not isinstance(override.value(), list | dict):
            if not sweep:
                return [override.get_value_element_as_str()]
            if override.is_discrete_sweep() and not rule["one"]:
                found = _swept(override)
    # Also of what the parser calls: more digits than Python reads, bounds that are no number, brackets without end.
    except (HydraException, ValueError, ArithmeticError, RecursionError):
        pass
    if len(found) > MOST:
        raise WordError(f"{word}: more than {MOST:,} values; nearest is {MOST:,} at a time")
    if found:
        return found
    if rule["one"]:
        raise WordError(f"{word}: {name} takes one value, {accepts(option)}")
    raise WordError(f"{word}: {name} takes {accepts(option)}; several values are written {name}=VALUE,VALUE")


def _swept(override: Override) -> list[str]:
    """The values of a sweep, no more than one beyond `MOST`."""
    swept = override.value()
    if isinstance(swept, RangeSweep):
        first = list(itertools.islice(swept.range(), MOST + 1))
        if len(first) > MOST:
            return [str(value) for value in first]
    return list(override.sweep_string_iterator())


def _bound(word: str, option: Field[Any], piece: ranges_typed.Piece, bound: str, parser: OverridesParser) -> str:
    """A bound of a range in the grammar's own spelling."""
    found = _spelled(f"{option.name}={bound}", option, parser) if bound else []
    if len(found) != 1 or not found[0]:
        low, high = (*piece.bounds, "")[:2]
        half = f">={low}" if low and piece.sign == ".." else f"<={high}" if high else ""
        near = f" (nearest: {option.name}={half})" if half else ""
        raise WordError(f"{word}: {option.name} takes {accepts(option)}{near}")
    return found[0]


def _moment(option: Field[Any], value: Any) -> Any:
    """What a time stands for; any other value as it is."""
    if not option.metadata["time"]:
        return value
    try:
        return ranges_typed.moment(value)
    except ValueError as error:
        near = f" (nearest: {option.name}={error})" if str(error) else ""
        raise WordError(f"{option.name}={value}: {option.name} takes {accepts(option)}{near}") from None


def _joined(option: Field[Any], split: Sequence[ranges_typed.Piece], bounds: list[Any]) -> list[Any]:
    """The values and ranges of a word from their bounds."""
    found, left = [], list(bounds)
    for piece in split:
        own, left = left[: len(piece.bounds)], left[len(piece.bounds) :]
        try:
            found.append(ranges_typed.joined(piece, own))
        except ValueError as error:
            near = f"{option.name}={error}"
            raise WordError(f"{option.name}={piece.text}: nothing lies in it (nearest: {near})") from None
    return found


def _converted(
    keys: type, texts: dict[str, str], said: Mapping[str, str], options: dict[str, Field[Any]], parser: OverridesParser
) -> DictConfig:
    """The values of some keys, each of its key's type; `said` are the words for messages.

    Hydra's `compose` would give the same, but makes a configuration of Hydra's own each time: `values` then takes some
    fifteen times as long.
    """
    config = OmegaConf.structured(keys)
    for name, text in texts.items():
        try:
            OmegaConf.update(config, name, parser.parse_override(f"{name}={text}").value())
        except OmegaConfBaseException:
            near = _nearest_number(options[name], text) if text else _quotes(options[name])
            raise WordError(f"{said[name]}: {name} takes {accepts(options[name])}{near}") from None
    return config


def _nearest_number(option: Field[Any], value: Any) -> str:
    """` (nearest: key=bound)` for a number out of range, or the smallest one that is allowed for what is no number."""
    if option.metadata["choices"] or kind(option) not in (int, float):
        return ""
    least, above, most = (option.metadata[name] for name in ("least", "above", "most"))
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -math.inf
    except OverflowError:
        number = math.inf
    if option.metadata["unit"] == "fraction" and 1 < number <= 100:  # a percentage
        return f" (nearest: {option.name}={number / 100:g})"
    if most is not None and number > most:
        return f" (nearest: {option.name}={_show(most)})"
    if least is not None and number < least:
        return f" (nearest: {option.name}={_show(least)})"
    if kind(option) is int and abs(number) < 1e9:
        return f" (nearest: {option.name}={round(number)})"
    return ""


def _quotes(option: Field[Any]) -> str:
    """What may be wrong where nothing is left of a value: a shell took its ">" for a redirection."""
    return f"; a range stands in quotes: '{option.name}=>V'" if option.metadata["ranges"] else ""


def _quote(text: str) -> str:
    # In the grammar's quotes a backslash is one, except in a run of them before a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + ("\\'" if run[2] else ""), text) + "'"


def _show(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
