"""Whatever becomes of a store's files, each is read or set aside in one line, the others are read, and nothing crashes.

Damage is found by hypothesis: shortly in every run of the tests, for minutes under `make soak`.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from any_file import DAMAGES, TABLES, Damage, Store, write_store
from any_input import HANGS_S, is_line, short, soak
from hypothesis import given
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
# What each command's own documentation says of its exit status.
STATUSES = {
    "results.baseline": {0, 1, 2},
    "results.check": {0, 1, 2, 3, 4},
    "results.export": {0, 1, 2},
    "results.plot": {0, 1, 2},
    "results.recover": {0, 1, 2},
}


class Reader:
    """The process that reads; another one once it has died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, **asked: Any) -> dict[str, Any]:
        if self.process is None:
            words = [sys.executable, "-X", "faulthandler", str(HERE / "reading_process.py")]
            environment = {**os.environ, "COLUMNS": "200"}
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], HANGS_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.close()
            raise AssertionError(f"reading ended with {self.status}" if ready else "reading hangs")
        return json.loads(line)  # type: ignore[no-any-return]

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.status = self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("damage")
    root = folder / "store"
    write_store(root)
    return Store(root, {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")})


NUMBER = st.integers(0, 2**31)
DONE = st.lists(st.tuples(st.sampled_from(DAMAGES), NUMBER, NUMBER, NUMBER), min_size=1, max_size=3)
PARTS = 6  # of the commands: so many examples have each command once
HOW = st.tuples(st.booleans(), st.integers(0, 79))  # whether an index is kept; which commands, and at 79 pictures


def id_of(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".parquet").rpartition(".")[0]


def damage_and_read(
    store: Store, reader: Reader, done: list[tuple[Damage, int, int, int]], how: tuple[bool, int]
) -> None:
    store.restore()
    what = [(damage.__name__, *numbers) for damage, *numbers in done]
    for damage, *numbers in done:
        try:
            damage(store, *numbers)
        except OSError:  # done to what is gone already
            continue
    chosen = id_of(sorted(name for name in store.files if name.startswith("runs/"))[done[0][1] % 6])
    to = store.root.parent / "to"
    subprocess.run(["rm", "-rf", str(to)], check=True)
    found = reader.ask(
        root=str(store.root), to=str(to), run=chosen, 
        indexed=how[0], draws=how[1] == 79, part=how[1] % PARTS, parts=PARTS,
    )  # fmt: skip
    for table in TABLES:
        one = found["tables"][table]
        assert one["same"], (what, table)
        for path, reason, line in one["bad"]:
            assert reason.isprintable() and line.isprintable() and 0 < len(reason) <= 200, (what, line)
            name = str(Path(path).relative_to(store.root))
            assert name in store.touched or not name.endswith(".parquet") or "a copy: this attempt" in reason, (
                what,
                line,
            )
        whole = {name for name in store.files if name.startswith(f"{table}/")} - store.touched
        column = {"pairs": None}.get(table, table)
        if column:
            assert {id_of(name) for name in whole} <= set(one["ids"]), (what, table)
        # Nothing is passed over in silence: who is not read is listed.
        aside = {str(Path(path).relative_to(store.root)) for path, _, _ in one["bad"]}
        unread = [name for name in one["listed"] if name not in aside and id_of(name) not in one["ids"]]
        assert table == "pairs" or all(name in store.touched for name in unread), (what, unread)
    for name, words, status, out, err, fault in found["said"]:
        assert not fault, f"{what}\n{name} {words}\n{fault}"
        assert status in STATUSES.get(name, {0, 2}), (what, name, words, status, err)
        assert all(is_line(f"{line}\n") for line in err.splitlines()), (what, name, words, err)
        assert status != 2 or name == "results.check" or (out == "" and err.count("\n") == 1), (
            what,
            name,
            words,
            out,
            err,
        )
        if status == 0 and "format=json" in words:
            json.loads(out)


@pytest.mark.slow
@pytest.mark.parametrize("damage", dict.fromkeys(DAMAGES))
def test_every_damage_is_read_or_set_aside(store: Store, reader: Reader, damage: Damage) -> None:
    number = DAMAGES.index(damage)
    damage_and_read(
        store, reader, [(damage, number * 7, 12_345 + number, 678 + number * 5)], (number % 3 == 1, number + 1)
    )


@pytest.mark.slow
def test_any_damage_is_read_or_set_aside(store: Store, reader: Reader) -> None:
    @short(6)
    @given(done=DONE, how=st.tuples(st.booleans(), st.integers(1, PARTS)))
    def tried(done: Any, how: Any) -> None:
        damage_and_read(store, reader, done, how)

    tried()


@pytest.mark.soak
def test_any_damage_for_minutes(store: Store, reader: Reader) -> None:
    def tried(done: Any, how: Any) -> None:
        damage_and_read(store, reader, done, how)

    assert soak(tried, "damaged stores", done=DONE, how=HOW) > 10
