"""The key loader_threads: what it resolves to, what it refuses, and that rows from before it are what they were."""

import dataclasses
import json
import shlex

import pytest

from bench.config import grammar
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve, words
from bench.config.run_config import LATER_KEYS, STARTED_KEYS, RunConfig
from results.identity import comparability
from results.store.files import read_rows
from results.words import PATH_KEYS, RECORD_ROOT

HOST = Host(ranks_per_node=2, results="/rows")
DIGITS = "depth=20 dataset=digits"


def keys_of(line: str) -> RunKeys:
    (keys,) = grammar.parse(shlex.split(line), RunKeys)
    return keys


def config(line: str) -> RunConfig:
    return resolve(keys_of(line), HOST)[0]


@pytest.mark.parametrize(
    ("line", "cores", "threads"),
    [
        ("batch=3", 1, 1), ("batch=3", 2, 2), ("batch=3", 48, 3), ("batch=64", 48, 48), ("batch=64", 96, 64),
        ("batch=3 loader_threads=1", 48, 1), ("batch=3 loader_threads=48", 2, 3), ("batch=64 loader_threads=48", 2, 48),
        ("batch=3 loader=torch", 48, 3), ("batch=3 loader=torch loader_threads=48", 2, 48),
        ("loader=torch loader_threads=0", 2, 0), ("loader_threads=4096 batch=64", 1, 64),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_used_as_far_as_there_are_images(line: str, cores: int, threads: int) -> None:
    assert config(f"{DIGITS} {line}").threads_of_loader(cores) == threads


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("loader_threads=-1", "loader_threads=-1: loader_threads takes a whole number, at least 0 and at most 4096 "
                              "(nearest: loader_threads=0)"),
        ("loader_threads=5000", "loader_threads=5000: loader_threads takes a whole number, at least 0 and at most 4096 "
                                "(nearest: loader_threads=4096)"),
        ("loader_threads=many", "loader_threads=many: loader_threads takes a whole number"),
        ("loader_threads=", "loader_threads=: loader_threads takes a whole number"),
        ("loader_threads=0", "loader_threads=0: loader=dali reads with threads; nearest is loader_threads=1 (0 is for "
                             "loader=torch, which can read in the rank's own process)"),
        ("loader=synthetic loader_threads=4", "loader_threads=4: loader=synthetic reads no images; leave "
                                              "loader_threads out, or loader=dali"),
        ("loader=synthetic loader_threads=0", "loader_threads=0: loader=synthetic reads no images"),
        ("loader_thread=4", "loader_thread=4: no such key; did you mean loader_threads=4?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_the_nearest(line: str, said: str) -> None:
    with pytest.raises(WordError) as raised:
        config(f"{DIGITS} {line}")
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)


def test_who_asks_for_threads_asks_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    with pytest.raises(WordError, match=r"^loader_threads=4: no images of cifar10 .*add data=PATH$"):
        config("depth=20 dataset=cifar10 loader_threads=4")


def test_it_goes_along_in_the_words_of_a_batch_script_once_it_is_typed() -> None:
    for line in (DIGITS, f"{DIGITS} loader_threads=4"):
        found = words(keys_of(line), config(line))
        assert ("loader_threads=4" in found) == ("loader_threads" in line)
        assert config(" ".join(found)) == config(line)


def test_a_sweep_of_it_has_configurations_of_their_own() -> None:
    base = config(DIGITS)
    found = [config(f"{DIGITS} loader_threads={threads}") for threads in (1, 2, 7)]
    assert len({each.config_hash() for each in (base, *found)}) == 4
    for each in found:
        assert json.loads(each.to_json())["loader_threads"] == each.loader_threads
        assert RunConfig.from_json(each.to_json()) == each


def test_a_configuration_that_leaves_it_out_is_the_one_that_it_was() -> None:
    base = config(DIGITS)
    assert not set(LATER_KEYS) & set(json.loads(base.to_json()))
    assert RunConfig.from_json(base.to_json()) == base and base.loader_threads is None
    left_out = {*LATER_KEYS, *STARTED_KEYS}
    assert {field.name for field in dataclasses.fields(RunConfig)} == set(base.values()) | left_out


def test_rows_that_are_kept_have_the_hash_that_their_configuration_has_today() -> None:
    rows = [row for row in read_rows(RECORD_ROOT, "runs")[0] if row["benchmark"] in (None, "training")]
    training = [row for row in rows if "recipe" in json.loads(row["config_json"])]
    assert len(training) >= 4
    for row in training:
        values = json.loads(row["config_json"])
        assert "loader_threads" not in values
        again = RunConfig.from_json(json.dumps({**dict.fromkeys(PATH_KEYS), "results": "/rows", **values}))
        assert again.config_hash() == row["config_hash"], row["run_id"]


def test_the_threads_that_are_used_tell_runs_apart_and_not_those_that_were_asked_for() -> None:
    row = {"benchmark": "training", "hardware": None, "threads_per_rank": 1, "loader_threads": 2}
    default, asked = (
        comparability({**row, "config_json": config(f"{DIGITS}{word}").to_json()}) for word in ("", " loader_threads=2")
    )
    assert default == asked
    other = {**row, "loader_threads": 3, "config_json": config(f"{DIGITS} loader_threads=3").to_json()}
    assert json.loads(comparability(other)["comparability_parts"])["threads"] == {"loader": 3, "per_rank": 1}
    assert comparability(other)["comparability_key"] != default["comparability_key"]
