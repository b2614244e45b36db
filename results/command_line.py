"""A configuration of a row as the words that were typed for it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["launch_words"]


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
