"""Draws measured kernels against their floors: a roofline, and each kernel's time over the least it could be.

    python -m results.plot to=FOLDER [results=PATH] [run=ID]
    python -m results.plot to=build/plots results=results/record

Reads the tables `kernels` and `system` of a store and writes roofline-RUN.svg and roofline-RUN.png. The floor of a
kernel is max(bytes_min / copy rate, flops / matrix rate), with the rates that its own run measured.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results.plot.kernels import choose_run, draw, gpu_of, points
from results.store.files import BadFile, read_rows
from results.words import DEFAULT_ROOT


def _complain(bad: Sequence[BadFile]) -> None:
    for file in bad:
        print(f"left out {file.path}: {file.reason}", file=sys.stderr)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, parse
    from bench.config.paths import check_folder

    @dataclass(kw_only=True)
    class Keys:
        to: str | None = key(
            "folder that the pictures are written to, made if need be", "required", path=True, one=True
        )
        results: str = key(
            "store to read", "results/v1 of the checkout", default=str(DEFAULT_ROOT), path=True, one=True
        )
        run: str | None = key(
            "which run, or the start or end of its id", "the latest with kernels", text="an id", one=True
        )

    def read(typed: Sequence[str]) -> Keys:
        (keys,) = parse(typed, Keys)
        if keys.to is None:
            raise WordError("to is missing: add to=FOLDER")
        return keys

    def do(keys: Keys) -> int:
        assert keys.to is not None
        store, folder = Path(keys.results).expanduser(), check_folder("to", keys.to)
        if not store.is_dir():
            raise WordError(f"results={keys.results}: no such folder")
        rows, bad = read_rows(store, "kernels")
        _complain(bad)
        if nameless := sum(not row["run_id"] for row in rows):
            print(f"left out {nameless} rows without a run_id", file=sys.stderr)
            rows = [row for row in rows if row["run_id"]]
        if not rows:
            raise WordError(f"results={keys.results}: no kernels in it; measure some with bench.micro on a GPU")
        run_id = choose_run(rows, keys.run)
        systems, bad = read_rows(store, "system", [run_id])
        _complain(bad)
        found, left = points([row for row in rows if row["run_id"] == run_id])
        for line in left:
            print(f"not drawn: {line}", file=sys.stderr)
        if not found:
            raise WordError(f"run={run_id}: none of its kernels has a time")
        gpu_model = gpu_of(systems, run_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = draw(found, gpu_model, run_id, folder)
        except OSError as error:
            raise command.Failure(f"to={keys.to}: {error.strerror or error}") from None
        print(*files, sep="\n")
        return 0

    return command.run("results.plot", __doc__, Keys, read, do, words, goes_on=True)
