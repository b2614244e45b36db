"""A configuration of a row as the words that were typed for it."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["launch_command", "launch_words"]


def launch_words(configuration: Mapping[str, Any]) -> list[str]:
    """Return the `key=value` words by which `launch/` and `bench.pairs` make a configuration again.

    Args:
        configuration: as a run's comparability has it: by key, without paths and seed.
    """
    config = {name: value for name, value in configuration.items() if value is not None}
    recipe = config.get("recipe")
    if recipe is not None:
        config["recipe"] = recipe.get("name") if isinstance(recipe, dict) else recipe
    return [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in config.items()]


def launch_command(configuration: Mapping[str, Any], seeds: Iterable[int] = ()) -> str:
    """Return the command that runs a configuration on this machine.

    Args:
        configuration: as of `launch_words`.
        seeds: a run each; none for the default.
    """
    words = ["python", "launch/local.py", *launch_words(configuration)]
    if each := ",".join(map(str, seeds)):
        words.append(f"seed={each}")
    # Where images lie is of a machine, and in no row; those of digits come with a library.
    if configuration.get("dataset") != "digits" and configuration.get("loader") != "synthetic":
        words.append("data=PATH")
    return shlex.join(words)
