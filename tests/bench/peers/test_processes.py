"""A rank of a comparison: whose block is trained when, and its figures, exact on a clock that the test moves."""

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.peers import processes
from bench.training.ranks import Ranks


def cells(folder: Path) -> dict[str, Any]:
    words = RunKeys(depth=8, dataset="digits", batch=16, epochs=4, ranks_per_node=2, results=str(folder / "rows"))
    base = resolve(words, Host(ranks_per_node=2))[0]
    return {
        "whole": {"config": dataclasses.asdict(base), "measured": True, "limit": 5},
        "bare": {"config": dataclasses.asdict(dataclasses.replace(base, engine="ddp")), "measured": False, "limit": 7},
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a rank on commands; returns its answers, what it built, and what happened in which order."""

    def go(rank: int, commands: str) -> SimpleNamespace:
        found = SimpleNamespace(answers=[], built={}, log=[])
        now = [1000.0]

        def take(seconds: float, what: str) -> None:
            now[0] += seconds
            found.log.append(what)

        class Trainer:
            def __init__(self, config: RunConfig, world: Any, recorder: Any, *, measured: bool) -> None:
                self.config = config
                self.throughput, self.accounting = SimpleNamespace(waited_s=30.0), SimpleNamespace(total_s=7.0)
                loader = SimpleNamespace(close=lambda: found.log.append("closed"))
                self.train_loader, self.test_loader = loader, loader if measured else None
                found.built[config.engine] = recorder, measured

            def train_epoch(self, epoch: int, limit: int) -> SimpleNamespace:
                # 6 s, of which 1.5 s are waited for data and 0.75 s go into measuring.
                self.throughput.waited_s += 1.5
                self.accounting.total_s += 0.75
                take(6.0, f"{self.config.engine} epoch {epoch}, at most {limit} steps")
                return SimpleNamespace(steps=limit)

        world = SimpleNamespace(
            rank=rank, device="cpu", barrier=lambda: take(1.0, "barrier"), close=lambda: found.log.append("left")
        )
        monkeypatch.setattr(processes, "start_process_group", lambda failed: world)
        monkeypatch.setattr(processes, "Trainer", Trainer)
        monkeypatch.setattr(processes, "Recorder", lambda config, name, restart: name)
        monkeypatch.setattr(processes, "now_s", lambda: now[0])
        monkeypatch.setattr(processes, "synchronize", lambda device: take(0.5, "synchronized"))
        monkeypatch.setattr("sys.stdin", io.StringIO(commands))
        path = tmp_path / "cells.json"
        path.write_text(json.dumps(cells(tmp_path)))
        processes.main(str(path))
        lines = capsys.readouterr().out.splitlines()
        found.answers = [json.loads(line.removeprefix("ANSWER ")) for line in lines if line.startswith("ANSWER ")]
        return found

    return go


def test_a_blocks_figures_are_of_all_ranks_work_over_the_time_between_barriers(run) -> None:
    found = run(0, "whole 0\nbare 0\nbare 1\n")
    # 6 s of training, half a second until the device is done and 1 s until all ranks are; the barrier before it is out.
    seconds = 6.0 + 0.5 + 1.0
    share = {"data_wait_frac": 1.5 / seconds, "instrumentation_frac": 0.75 / seconds}
    assert found.answers == [
        {"images_per_s": 5 * 32 / seconds, **share},
        {"images_per_s": 7 * 32 / seconds, **share},
        {"images_per_s": 7 * 32 / seconds, **share},
    ]
    assert found.log[:12] == [
        "barrier", "deepspeed epoch 0, at most 5 steps", "synchronized", "barrier",
        "barrier", "ddp epoch 0, at most 7 steps", "synchronized", "barrier",
        "barrier", "ddp epoch 1, at most 7 steps", "synchronized", "barrier",
    ]  # fmt: skip
    assert found.log[12:] == ["closed"] * 3 + ["left"]


def test_only_what_is_measured_has_a_recorder_and_only_on_rank_0(run) -> None:
    assert run(0, "").built == {"deepspeed": ("peers-whole", True), "ddp": (None, False)}
    other = run(1, "whole 0\n")
    assert other.built == {"deepspeed": (None, True), "ddp": (None, False)}
    assert other.answers == [] and "deepspeed epoch 0, at most 5 steps" in other.log


@pytest.mark.ranks
def test_real_ranks_answer_for_each_block(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(cells(tmp_path)))
    with Ranks("bench.peers.processes", [str(path)], 2) as ranks:
        answers = {name: [json.loads(ranks.ask(f"{name} {turn}")) for turn in range(2)] for name in ("whole", "bare")}
    assert [process.returncode for process in ranks.processes] == [0, 0]
    for block in sum(answers.values(), []):
        assert block["images_per_s"] > 0 and 0 < block["data_wait_frac"] < 1
    # What is not measured looks once a block at an empty clock. The least of two, as the machine may be busy.
    whole, bare = (min(block["instrumentation_frac"] for block in answers[name]) for name in ("whole", "bare"))
    assert 0 <= bare < whole / 10 < whole < 1
