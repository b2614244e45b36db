"""A file of keys (site profile, experiment) as it was typed: what stands in it is text, whatever it looks like."""

import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.config.grammar import WordError
from results.words import nearest, suggestion

__all__ = ["read"]

# What YAML 1.1 takes for a flag, beside `true` and `false`.
FLAGS = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "1": "true",
    "no": "false",
    "off": "false",
    "n": "false",
    "0": "false",
}


def read(word: str, path: Path, kinds: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
    """What a file has of the keys that there are, each of its type.

    Args:
        word: that named the file, such as "cluster=mine"; each message begins with it.
        where: what a message on a value begins with in place of it.
        kinds: type by key: a flag, a whole number, a text, a text or None, a list or a map of texts.

    Raises:
        WordError: an unknown key, or what is not of its type; one line that names the nearest valid one.
    """
    of_value, where = where or word, f"{word}: {path}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise WordError(f"{where} is not a file")
        # Nodes, not values: YAML takes 0123 for 83, 12:00:00 for 43200 and `no` for false. Here a scalar is what stands
        # in the file.
        root = yaml.compose(path.read_bytes(), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise WordError(f"{where} is not YAML: {said}; text with signs of YAML's stands in quotes") from None
    except RecursionError:
        raise WordError(f"{where} is nested too deep; expected keys, and lists or names below them") from None
    except OSError as error:
        raise WordError(f"{where}: {error.strerror or error}") from None
    if root is None or _is_null(root):
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise WordError(f"{where} holds no keys")
    found: dict[str, Any] = {}
    for key_node, node in root.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or a map"
        if key not in kinds:
            near = suggestion(key, kinds)
            choice = f"nearest is {near}" if near else f"choose from {', '.join(kinds)}"
            raise WordError(f"{where} has {key!r}, which is no key; {choice}")
        if key in found:
            raise WordError(f"{where} has {key} twice; leave one of them out")
        found[key] = _value(f"{of_value}: {key}", kinds[key], node, lines=key == "setup")
    return found


def _value(where: str, kind: Any, node: yaml.Node, *, lines: bool) -> Any:
    """What a node holds, as the type of its key; with `lines` its texts may have several."""
    if kind == list[str]:
        if not isinstance(node, yaml.SequenceNode):
            raise WordError(f"{where}{_shown(node)}, expected a list such as [a, b], or []")
        return [_text(f"{where}, item {number}", item, lines) for number, item in enumerate(node.value, 1)]
    if kind == dict[str, str]:
        if not isinstance(node, yaml.MappingNode):
            raise WordError(f"{where}{_shown(node)}, expected names with a value each, or {{}}")
        pairs: dict[str, str] = {}
        for name_node, one in node.value:
            name = _text(f"{where}, a name", name_node, lines)
            if name in pairs:
                raise WordError(f"{where} has {name} twice; leave one of them out")
            pairs[name] = _text(f"{where} of {name}", one, lines)
        return pairs
    if kind == str | None and _is_null(node):
        return None
    text = _text(where, node, lines)
    if kind is bool:
        if text not in ("true", "false"):
            near = FLAGS.get(text.lower()) or nearest(text, ("true", "false"))
            raise WordError(f"{where}={text}, expected true or false; nearest is {near}")
        return text == "true"
    if kind is not int:
        return text
    # 0123 is 83 to YAML 1.1, and 123 to others.
    if not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,8})", text):
        raise WordError(f"{where}={text}, expected a whole number")
    return int(text)


def _is_null(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or _sign(node):
        return False
    return node.style is None and node.value in ("", "~", "null", "Null", "NULL")


def _sign(node: yaml.ScalarNode) -> str:
    """What YAML takes from the front of a text for its own use: a tag, or an anchor; empty where there is none."""
    if node.tag != yaml.BaseLoader.DEFAULT_SCALAR_TAG:
        return f"the tag {node.tag}"
    mark = node.start_mark
    return "an anchor, the word behind &" if mark.buffer and mark.buffer[mark.pointer] == "&" else ""


def _text(where: str, node: yaml.Node, lines: bool) -> str:
    """The text of a node, as it stands: a line break would end a line of the batch script."""
    if not isinstance(node, yaml.ScalarNode) or _is_null(node):
        raise WordError(f"{where}{_shown(node)}, expected a text, in quotes where YAML reads it in another way")
    text = str(node.value)
    if sign := _sign(node):
        raise WordError(f"{where}={text}, expected it without {sign}, or in quotes")
    if not text.strip():
        raise WordError(f"{where} is empty; leave it out, or say what YAML reads in another way in quotes")
    odd = [char for char in text if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")]
    if odd := [char for char in odd if not (lines and char in "\n\t")]:
        raise WordError(f"{where}={text}, expected {'text' if lines else 'one line'} without {odd[0]!r}")
    # YAML makes one line of several: what was typed is not what would be used.
    if node.style not in ("|", ">") and node.start_mark.line != node.end_mark.line:
        raise WordError(f"{where}={text}, expected it on one line of the file, or in quotes")
    return text


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return " is null" if _is_null(node) else f"={node.value}"
    return " is a list" if isinstance(node, yaml.SequenceNode) else " is a map"
