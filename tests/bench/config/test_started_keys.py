"""By whose name a run was started is in its row, and in nothing that configurations are compared by."""

import dataclasses
import json
import pickle

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import STARTED_KEYS, RunConfig
from bench.training.recorder import run_row
from results.identity import parts_of
from results.store.schema import SCHEMAS

PLAIN, _ = resolve(RunKeys(depth=8, dataset="digits"), Host(ranks_per_node=2))
NAMED = dataclasses.replace(PLAIN, experiment="table6", scale="small")


def test_it_is_the_same_configuration() -> None:
    assert NAMED == PLAIN and {NAMED: 1} == {PLAIN: 1}
    assert (NAMED.config_hash(), NAMED.to_json()) == (PLAIN.config_hash(), PLAIN.to_json())
    assert not set(STARTED_KEYS) & (set(NAMED.values()) | set(json.loads(NAMED.to_json())))
    rows = [run_row(config, "r", 0) | {"hardware": None} for config in (PLAIN, NAMED)]
    assert parts_of(rows[0]) == parts_of(rows[1])


def test_the_row_has_it() -> None:
    assert [run_row(NAMED, "r", 0)[name] for name in STARTED_KEYS] == ["table6", "small"]
    assert [run_row(PLAIN, "r", 0)[name] for name in STARTED_KEYS] == [None, None]
    assert set(STARTED_KEYS) <= set(SCHEMAS["runs"].names)


def test_a_job_keeps_it() -> None:
    again = pickle.loads(pickle.dumps(NAMED))
    assert [getattr(again, name) for name in STARTED_KEYS] == ["table6", "small"]


def test_a_job_of_an_older_age_has_none() -> None:
    old = object.__new__(RunConfig)
    for name, value in vars(PLAIN).items():
        if name not in STARTED_KEYS:
            object.__setattr__(old, name, value)
    assert [run_row(pickle.loads(pickle.dumps(old)), "r", 0)[name] for name in STARTED_KEYS] == [None, None]
