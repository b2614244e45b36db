"""Decodes every image of a dataset once, strictly, and names those that are damaged.

    python -m bench.check_data data=PATH [workers=8]
    python -m bench.check_data data=/data/imagenet

Training looks at the marks between an image's parts alone, since a second decode would cost as much as the first. JPEG
decoders mend the rest: of a file that was cut and closed again half the picture is grey, and nothing fails. Here Pillow
and DALI's libjpeg both decode everything, in parallel. Each damaged file is a line on stdout with the reason, and the
exit status is then 1. What changed a picture and left it decodable (a flipped bit in its data, another picture under
its name) nothing can see.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from bench.config import command
from bench.config.grammar import WordError, key, parse
from bench.config.paths import existing, of_data
from bench.config.slurm import cores_here
from resnet.data import Damage, DataError, damaged_files, data_folder, files_to_check, shown_left_out
from results.words import printable

CHUNK = 64  # files that a worker takes at a time
SAY_S = 5.0  # between two lines of progress


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    data: str | None = key("folder or archive of a dataset, or any folder of images", "required", path=True, one=True)
    workers: int | None = key("processes that decode", "a core each", unit="processes", least=1, most=1024, one=True)


class Progress:
    """Says on stderr how far the work is: a line that changes on a terminal, elsewhere one now and then."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._damaged = total, 0, 0
        self._live = sys.stderr.isatty()
        self._start = self._said = time.monotonic()

    def step(self, done: int, damaged: int) -> None:
        """Count files that are done, and damaged ones among them."""
        self._done, self._damaged = self._done + done, self._damaged + damaged
        now = time.monotonic()
        if now - self._said < (0.2 if self._live else SAY_S) or self._done == self._total:
            return
        self._said = now
        left_s = (now - self._start) / max(1, self._done) * (self._total - self._done)
        line = f"{self._done:,} of {self._total:,} files, {self._damaged:,} damaged, {left_s:,.0f} s left"
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def examined(files: Sequence[str], workers: int) -> Iterator[tuple[int, list[Damage]]]:
    """Decode files in parallel; yields how many more are done, and the damaged ones among them."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)][::-1]
    suspects: list[Sequence[str]] = []
    while chunks:
        with _pool(workers) as pool:
            running: dict[Future[list[Damage]], Sequence[str]] = {}
            try:
                while chunks or running:
                    while chunks and len(running) < 2 * workers:
                        chunk = chunks.pop()
                        running[pool.submit(damaged_files, chunk)] = chunk
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        found = future.result()
                        yield len(running.pop(future)), found
            except BrokenProcessPool:  # a worker crashed on one of its files
                suspects += running.values()
            finally:
                pool.shutdown(cancel_futures=True)
    while suspects:
        chunk = suspects.pop()
        with _pool(1) as pool:
            try:
                yield len(chunk), pool.submit(damaged_files, chunk).result()
            except BrokenProcessPool:
                if len(chunk) == 1:
                    yield 1, [(chunk[0], "the decoder crashes on it")]
                else:
                    half = len(chunk) // 2
                    suspects += [chunk[half:], chunk[:half]]


def _pool(workers: int) -> ProcessPoolExecutor:
    # A fresh process each: they catch their own stderr, and a fork would inherit what the parent's threads hold.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def _read(words: Sequence[str]) -> tuple[Keys, Path]:
    (keys,) = parse(words, Keys)
    if keys.data is None:
        raise WordError("data is missing: add data=PATH, the folder of a dataset")
    path = existing("data", keys.data, visible=True)
    with of_data(path):
        return keys, data_folder(path)


def _check(task: tuple[Keys, Path]) -> int:
    """Returns 1 where something is damaged, or wrong with the class folders."""
    keys, root = task
    left_out: Counter[str] = Counter()
    try:
        found = files_to_check(root, left_out)
    except DataError as error:
        raise command.Failure(str(error)) from None
    for line in (*found.folders, *(found.originals or [])):
        print(printable(line), flush=True)
    count, progress = len(found.originals or []), Progress(len(found.files))
    workers = min(keys.workers or cores_here(os.environ), -(-len(found.files) // CHUNK))
    try:
        for done, damaged in examined(found.files, workers):
            progress.step(done, len(damaged))
            if damaged:
                progress.clear()
            for path, reason in damaged:
                print(printable(f"{path}: {reason}"), flush=True)
            count += len(damaged)
    finally:
        progress.clear()
    if found.originals is not None:
        said = "CIFAR-10's original files read"
    else:
        said = f"{len(found.files):,} image{'s' * (len(found.files) != 1)} decoded"
    if found.files or found.originals is not None:
        said += f", {count:,} damaged" if count else ", all whole"
    if wrong := len(found.folders):  # no file of theirs is damaged
        said += f"; {wrong:,} fault{'s' * (wrong > 1)} of the class folders"
    if left_out:
        said += f"; {shown_left_out(left_out)}"
    print(f"{root}: {said}", file=sys.stderr)
    return 1 if count or wrong else 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.check_data", __doc__, Keys, _read, _check, words)


if __name__ == "__main__":
    sys.exit(main())
