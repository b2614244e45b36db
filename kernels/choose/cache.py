"""Choices on disk: one JSON file for each site on each kind of machine, which appears whole or not at all."""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import triton

import kernels
from results.durable import replace_file

__all__ = ["ChoiceCache", "default_directory", "identity"]

Parsed = TypeVar("Parsed")


def default_directory() -> Path:
    """$RESNET_BENCH_CACHE, or resnet-bench/kernels under $XDG_CACHE_HOME or ~/.cache.

    Raises:
        RuntimeError: the user has no home directory.
    """
    if os.environ.get("RESNET_BENCH_CACHE"):
        return Path(os.environ["RESNET_BENCH_CACHE"])
    given = os.environ.get("XDG_CACHE_HOME")
    # A relative one is to be ignored. Source: XDG Base Directory Specification.
    base = Path(given) if given and os.path.isabs(given) else Path.home() / ".cache"
    return base / "resnet-bench" / "kernels"


def identity(device: torch.device, site: dict[str, Any]) -> dict[str, Any]:
    """All that a measured choice depends on: the GPU, versions, the kernels' sources and the site."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "kernels": kernels.__version__,
        "sources": _sources(),
        "site": site,
    }


@functools.cache
def _sources() -> str:
    return source_digest(Path(kernels.__file__).parent)


def source_digest(package: Path) -> str:
    """16 hexadecimal digits of the sources under a folder that what is measured is made of.

    What only compiles ahead of time (aot) and what results are compared with (reference) is left out: a mended
    docstring there must not have every user measure again.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if place.parts[0] in ("aot", "reference"):
            continue
        source = path.read_bytes()
        digest.update(f"{place.as_posix()} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:16]


class ChoiceCache:
    """A folder of choices. Nothing that is wrong with it stops a run: a line says so, and the choice is measured.

    Processes may share it: a file is written beside its place and moved there, so a reader sees one writer's.

    Args:
        directory: where; None for `default_directory`.
        announce: takes what there is to say, a line at a time; None for stderr.
    """

    def __init__(self, directory: Path | None = None, announce: Callable[[str], None] | None = None) -> None:
        self._announce = announce or _to_stderr
        self._writable = True
        try:
            self.directory: Path | None = directory or default_directory()
        except RuntimeError as error:
            self.directory = None
            self._announce(f"kernel choices are not kept: {error}; RESNET_BENCH_CACHE=<folder> gives them a place")

    def path(self, key: dict[str, Any]) -> Path | None:
        """Where the value of a key is."""
        if self.directory is None:
            return None
        return self.directory / f"{hashlib.sha256(_canonical(key).encode()).hexdigest()[:32]}.json"

    def load(self, key: dict[str, Any], parse: Callable[[Any], Parsed]) -> Parsed | None:
        """The value of a key, read by `parse`, which raises ValueError; None where there is none to be read."""
        path = self.path(key)
        if path is None:
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or content.get("key") != key:
                raise ValueError("it is for something else")
            return parse(content.get("value"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._announce(f"kernel choices: {path} is measured again, {_one_line(error)}")
            return None

    def store(self, key: dict[str, Any], value: Any) -> None:
        """Keep a value for a key."""
        path = self.path(key)
        if path is None or not self._writable:
            return
        text = json.dumps({"key": key, "value": value}, indent=1) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda file: file.write(text.encode()))
        except OSError as error:
            self._writable = False  # one line, not one for each site
            self._announce(f"kernel choices are not kept: {_one_line(error)}")


def _canonical(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True, separators=(",", ":"))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
