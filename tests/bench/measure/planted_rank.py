"""The only rank of a run into which a fault is planted, named on the command line; run by the tests of failures."""

import sys

import bench.training.trainer
from bench.config.run_config import RunConfig
from bench.training import run
from resnet.data import DataError
from results.words import ConfigError


def evaluate(*arguments: object) -> None:
    """What the run does in place of its evaluation."""
    if FAULT == "ours":
        int("x")
    if FAULT == "data":
        raise DataError("cat.jpg: truncated")
    raise ConfigError("batch=0: expected 1 or more")


FAULT = sys.argv[1]
bench.training.trainer.evaluate = evaluate  # type: ignore[assignment]
run.run(RunConfig.from_json(sys.argv[2]), run_id="planted")
