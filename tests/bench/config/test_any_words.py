"""Whatever is typed is used, or refused in one line that names it: every command, its words read and nothing done.

Words are made up by hypothesis: shortly in every run of the tests, for minutes under `make soak`.
"""

import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from any_input import called, is_line, names_one, short, soak
from any_words import words
from every_command import COMMANDS, LAUNCHERS, main_of
from hypothesis import given
from hypothesis import strategies as st

from bench.config import command
from kernels import runtime
from results.words import RECORD_ROOT

NAMES = [*COMMANDS, "results"]
RUN = ["depth=20", "dataset=digits"]
BASES: dict[str, list[list[str]]] = {
    "launch/local.py": [RUN, ["depth=20", "dataset=cifar10"], ["depth=18"], ["depth=50", "loader=synthetic"]],
    "launch/slurm.py": [
        RUN,
        [*RUN, "mode=print"],
        ["depth=18", "mode=print", "data=/shared/imagenet", "num_classes=9"],
    ],
    "bench.pairs": [["a=kernels=torch", *RUN], ["a=commit:HEAD", *RUN]],
    "bench.check_data": [["data=here"]],
    "bench.peers.plain": [["data=here"]],
    "results.compare": [["here", "here"], ["x", "y"], ["here"]],
    "results.query": [["SELECT 1 AS one"], ["SELECT * FROM runs"]],
    "results.export": [["run=x"]],
    "results.exporters": [["library=mlflow"], ["library=tensorboard", "to=x"]],
    "results.plot": [["to=x"]],
    "results.baseline": [
        ["list"],
        ["pin", "reason=x"],
        ["accept", "reason=x", "run=x"],
        ["revert", "id=x", "reason=x"],
    ],
    "results.check": [["against=pinned"], ["format=json"]],
    "kernels.aot": [["per=first"], ["per=list", "resident=write"]],
}
# Readers of rows have some to read.
for each in ("report", "query", "compare", "history", "check", "export", "exporters", "baseline"):
    BASES[f"results.{each}"] = [[*base, f"results={RECORD_ROOT}"] for base in BASES.get(f"results.{each}", [[]])]
# What is said where no word is wrong, but one is missing, a store has nothing, or words are taken together.
UNNAMED = re.compile(
    r"results\.baseline: nothing: say one of |results\.compare: expected two words, A and B|results\.\w+: no runs |"
    r"results\.query: (\w+ Error: |\d+ statements; |\w+ is not allowed)|[\w.]+: \w+ is missing"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with something in it; nothing may be added."""
    folder = tmp_path / "elsewhere"
    (folder / "here" / "runs").mkdir(parents=True)
    (folder / "a file").write_text("text\n")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    with tarfile.open(folder / "empty.tar", "w"):
        pass
    (folder / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\x00cut")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("RESNET_BENCH_DATA", "RESNET_BENCH_CLUSTERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def read_alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Commands read their words and do nothing, but for the batch script that is printed; gets the keys by program."""
    whole, seen = command.run, dict[str, type]()

    def run(program: str, about: str | None, keys: type, read: Any, do: Any, words: Any = None, **how: Any) -> int:
        seen[program] = keys

        def shown(task: Any) -> int:
            return do(task) if getattr(task, "mode", "") == "print" else 0

        return whole(program, about, keys, read, shown, words, **how)

    monkeypatch.setattr(command, "run", run)
    return seen


def keys_of(name: str, seen: dict[str, type]) -> type:
    called(main_to_call(name), ["foo"])
    return seen[program_of(name)]


def main_to_call(name: str) -> Callable[[Sequence[str]], int]:
    return main_of("results.__main__" if name == "results" else name)


def program_of(name: str) -> str:
    return "launch" if name in LAUNCHERS else name


def check(name: str, line: list[str]) -> None:
    before = sorted(os.listdir())
    said = called(main_to_call(name), line)
    assert not said.fault, f"{line}\n{said.fault}"
    assert said.status in (0, 2), (line, said)
    if said.status == 2:
        assert said.out == "" and is_line(said.err) and said.err.startswith(f"{program_of(name)}: "), (line, said)
        assert names_one(said.err, line) or UNNAMED.match(said.err), (line, said.err)
    elif said.out and not {"-h", "--help", "help"} & set(line):
        assert name == "launch/slurm.py"
        subprocess.run(["bash", "-n"], input=said.out, text=True, check=True, errors="surrogateescape")
    assert sorted(os.listdir()) == before, line


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_words_are_used_or_named(name: str, read_alone: dict[str, type]) -> None:
    @short(60)
    @given(line=words(keys_of(name, read_alone), BASES.get(name, [])))
    def tried(line: list[str]) -> None:
        check(name, line)

    tried()


@pytest.mark.soak
def test_any_words_for_minutes(read_alone: dict[str, type]) -> None:
    lines = {name: words(keys_of(name, read_alone), BASES.get(name, [])) for name in NAMES}
    named = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), lines[name]))
    assert soak(lambda line: check(*line), "command lines", line=named) > 200
