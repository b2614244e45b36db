"""The help of a command: its keys, explained by the dataclass that has them."""

import shutil
import textwrap
from dataclasses import fields

from bench.config.grammar import accepts


def help_text(keys: type, width: int | None = None) -> str:
    """Every key with its meaning, type or choices, unit and default; keys that share all of these stand together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for option in fields(keys):
        rule = option.metadata
        unit = f"; unit: {rule['unit']}" if rule["unit"] else ""
        facts = f"type: {accepts(option)}{unit}; default: {rule['default']}"
        alike.setdefault((rule["meaning"], facts), []).append(option.name)
    margin = 2 + max(len(names[0]) for names in alike.values() if len(names) == 1)
    width = width or min(120, shutil.get_terminal_size().columns)
    lines = []

    def add(text: str, first: str, indent: str) -> None:
        lines.extend(textwrap.wrap(text, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False))

    for (meaning, facts), names in alike.items():
        if len(names) > 1:
            add(", ".join(names), "", "")
        add(meaning, f"{names[0] if len(names) == 1 else '':{margin}}", " " * margin)
        add(facts, " " * margin, " " * margin)
    return "\n".join(lines)
