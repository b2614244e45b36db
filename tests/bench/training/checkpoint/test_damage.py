"""Any damage to a checkpoint ends in one line that names the file, or in the checkpoint that was written: nothing else.

Damage is found by hypothesis: shortly in every run of the tests, for minutes under `make soak`.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from any_input import limited
from damaged_run import DAMAGES, Run
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors import safe_open
from saved_run import at, content, load, momenta, save, save_old, trained

import resnet
from bench.training.checkpoint import contents, folder
from bench.training.checkpoint.contents import KEY, Checkpoint, CheckpointError

SHORT = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
LONG_S = 150.0  # of each of the two that go on for minutes
PARTS = ("weights.safetensors", "momentum.safetensors", "state.json", "manifest.json", "COMPLETE")
EVIL = (
    "..",
    "../../x",
    "/etc/passwd",
    "/dev/zero",
    "a\nb",
    "\0",
    "\ud800",
    "\U00018d09",
    "\ue000",
    "w.safetensors",
    "",
    "@huge",
    "0003-00000066-r.1-abcd",
)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("damage") / "run"
    root.mkdir()
    path, originals = root / "w.safetensors", []
    engine = trained()
    for epoch in (1, 2):
        engine.model(torch.randn(2, 3, 32, 32)).square().sum().backward()
        engine.optimizer.step()
        save(path, at(epoch), engine)
        originals.append((at(epoch), content(engine)))
    (root.parent / "outside").write_bytes(path.read_bytes())
    return Run(path, files_of(root), originals, trained())


def outcome(run: Run, path: Path) -> tuple[Checkpoint, list[bytes]] | None:
    """What is loaded from a path; None where one line refuses it."""
    with limited():
        try:
            found, engine = load(path, run.engine)
        except CheckpointError as error:
            line = str(error)
            assert line.startswith(f"resume={path}: ") and line.isprintable() and len(line) < 2000, line
            rest = line.removeprefix(f"resume={path}: ")
            assert rest.startswith(("/", "its momentum ", "the checkpoint has ")), line  # a file, or what is in it
            return None
    return found, content(engine)


NUMBER = st.integers(0, 2**31)
damages = st.lists(st.tuples(st.sampled_from(DAMAGES), NUMBER, NUMBER, NUMBER), min_size=1, max_size=3)


def damage_and_load(run: Run, done: list[tuple[Callable[[Run, int, int, int], None], int, int, int]]) -> None:
    run.restore()
    for damage, *numbers in done:
        with contextlib.suppress(OSError):  # done to what is gone already
            damage(run, *numbers)
    found = outcome(run, run.path)
    assert found is None or found in run.originals, [damage.__name__ for damage, *_ in done]


@pytest.mark.slow
@SHORT
@given(done=damages)
def test_damaged_files_are_refused_or_whole(run: Run, done: Any) -> None:
    damage_and_load(run, done)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("one", range(11))
def test_every_damage_to_every_file(run: Run, damage: Callable[[Run, int, int, int], None], one: int) -> None:
    damage_and_load(run, [(damage, one, 12_345, 678)])


WORDS = st.sampled_from(EVIL) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**17, -(10**400), 2**63, 1e300, 0.5, 22, 44])
    | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with every key in it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [pair for key in keys for pair in [(value, key), *places(value[key])]]


def mutate(text: str, where: int, how: int, value: Any) -> str:
    values = json.loads(text)
    container, key = places(values)[where % len(places(values))]
    if how % 4 == 0 or isinstance(container, list):
        container[key] = value
    elif how % 4 == 1:
        del container[key]
    elif how % 4 == 2:
        container[str(value)] = container[key]
    else:
        return text[: where % len(text)] + str(value) + text[where % len(text) :]
    return dumped(values)


def dumped(values: Any) -> str:
    """JSON as other writers may make it: of NaN, and of integers of any length."""
    return json.dumps(values).replace('"@huge"', "1" + 5000 * "0")


def seal(inside: Path) -> None:
    """Make the sizes and sums of a folder those of its files."""
    manifest: dict[str, Any] = {"version": 1, "files": {}}
    for part in contents.PARTS:
        size, digest = folder.measure(inside / part)
        manifest["files"][part] = {"bytes": size, "sha256": digest}
    (inside / "manifest.json").write_text(json.dumps(manifest))
    seal_manifest(inside)


def seal_manifest(inside: Path) -> None:
    (inside / "COMPLETE").write_text(hashlib.sha256((inside / "manifest.json").read_bytes()).hexdigest())


def retell(run: Run, kind: str, where: int, how: int, value: Any) -> None:
    """Change what JSON of the last checkpoint says, with sums that are right again."""
    run.restore()
    inside = run.inside(1)
    if kind in ("state.json", "manifest.json"):
        file = inside / kind
        changed = mutate(file.read_text(), where, how, value)
        file.write_text(changed, errors="surrogatepass")
        (seal if kind == "state.json" else seal_manifest)(inside)
    elif kind == "COMPLETE":
        (inside / kind).write_text(str(value), errors="surrogatepass")
    else:  # the header of a safetensors file
        file = inside / kind.partition(" ")[0]
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = mutate(data[8 : 8 + length].decode(), where, how, value).encode("utf-8", "surrogatepass")
        file.unlink()
        file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
        if kind.endswith("pointer"):
            run.path.unlink()
            os.link(file, run.path)
        seal(inside)
    found = outcome(run, run.path)
    if found is not None:
        checkpoint, tensors = found
        state = checkpoint.state
        assert checkpoint.steps_per_epoch and state.step == state.epoch * checkpoint.steps_per_epoch
        assert 0 <= state.downtime_s <= state.elapsed_s < 1e16 and 0 <= checkpoint.saved_at < 1e11
        assert len(state.top1) in (0, state.epoch) and checkpoint.net == run.originals[1][0].net
        if kind in ("state.json", "manifest.json", "COMPLETE"):
            assert tensors in [each for _, each in run.originals]


KINDS = ("state.json", "manifest.json", "COMPLETE", "weights.safetensors", "weights.safetensors pointer",
         "momentum.safetensors")  # fmt: skip


@pytest.mark.slow
@SHORT
@given(kind=st.sampled_from(KINDS), where=NUMBER, how=NUMBER, value=VALUES)
def test_what_a_checkpoint_says_wrongly_is_refused(run: Run, kind: str, where: int, how: int, value: Any) -> None:
    retell(run, kind, where, how, value)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, str, list[bytes]]]:
    """By version a checkpoint of that form, what it says, and its tensors."""
    found = {}
    for version in (1, 2):
        path = tmp_path_factory.mktemp(f"v{version}") / "w.safetensors"
        engine = save_old(path, version)
        with safe_open(path, framework="numpy") as file:
            found[version] = (path, file.metadata()[KEY], content(engine))
    return found


@pytest.mark.slow
@SHORT
@given(version=st.sampled_from([1, 2]), where=NUMBER, how=NUMBER, value=VALUES)
def test_what_an_older_checkpoint_says_wrongly_is_refused(
    run: Run, old: dict[int, tuple[Path, str, list[bytes]]], version: int, where: int, how: int, value: Any
) -> None:
    path, text, tensors = old[version]
    changed = mutate(text, where, how, value).encode("utf-8", "replace").decode()
    model = run.engine.model
    parts = iter(tensors)
    for each in model.state_dict().values():
        each.copy_(as_tensor(next(parts), each))
    resnet.save_weights(model, path, {KEY: changed})
    found = outcome(run, path)
    if found is not None:
        checkpoint, loaded = found
        assert loaded == tensors and len(momenta(run.engine)) > 10
        assert checkpoint.version in (1, 2) and 0 <= checkpoint.state.elapsed_s < 1e16
        assert Path(checkpoint.momentum).name == checkpoint.momentum


def as_tensor(data: bytes, like: Any) -> Any:
    return torch.frombuffer(bytearray(data), dtype=like.dtype).reshape(like.shape)


@pytest.mark.soak
def test_damaged_files_for_minutes(run: Run) -> None:
    count = 0
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:

        @seed(time.time_ns())
        @LONG
        @given(done=damages)
        def fuzz(done: Any) -> None:
            nonlocal count
            count += 1
            damage_and_load(run, done)

        fuzz()
    print(f"{count} damaged checkpoints")
    assert count > 200


@pytest.mark.soak
def test_wrong_words_for_minutes(run: Run) -> None:
    count = 0
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:

        @seed(time.time_ns())
        @LONG
        @given(kind=st.sampled_from(KINDS), where=NUMBER, how=NUMBER, value=VALUES)
        def fuzz(kind: str, where: int, how: int, value: Any) -> None:
            nonlocal count
            count += 1
            retell(run, kind, where, how, value)

        fuzz()
    print(f"{count} checkpoints that say something else")
    assert count > 200
