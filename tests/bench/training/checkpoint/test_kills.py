"""A process that is killed while it saves leaves a whole checkpoint, the last or the one before it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from saved_run import load, momenta, untrained

from bench.config.paths import ROOT
from bench.training.checkpoint import folder
from results.recover import recover
from results.store.files import read_rows

SAVING = Path(__file__).with_name("saving_process.py")


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [sys.executable, str(SAVING), str(tmp_path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        assert process.stdin
        process.stdin.close()


def kill_while_saving(saving: subprocess.Popen[str], path: Path, epoch: int, chance: random.Random) -> int:
    """Save from an epoch on until that is killed at a random moment; the last epoch that was said to be saved."""
    assert saving.stdin and saving.stdout
    saving.stdin.write(f"{path} {epoch}\n")
    saving.stdin.flush()
    pid, _ = int(saving.stdout.readline()), saving.stdout.readline()
    begun = time.monotonic()
    said = [saving.stdout.readline().strip()]
    time.sleep(chance.random() * 2 * (time.monotonic() - begun))  # somewhere in the saves after it
    os.kill(pid, signal.SIGKILL)
    while said[-1] != "ended":
        said.append(saving.stdout.readline().strip())
        assert said[-1], "it could not save"
    return int(said[-2])


def killed_and_resumed(saving: subprocess.Popen[str], path: Path, kills: int, seed: int) -> int:
    """See after each of so many kills that all of a checkpoint can be loaded; how many had left a save half done."""
    chance = random.Random(seed)
    epoch, halves = 1, 0
    for _ in range(kills):
        said = kill_while_saving(saving, path, epoch, chance)
        halves += any(entry.name.endswith(".tmp") for entry in folder.home_of(path).iterdir())
        found, engine = load(path, untrained(), config=None)
        done = found.state.epoch
        # What was said to be saved is there; what was not yet said may be.
        assert said <= done <= said + 1
        for value in [*engine.model.parameters(), *momenta(engine)]:
            assert (value == done).all(), "of more than one checkpoint"
        epoch = done + 1
    return halves


@pytest.mark.slow
def test_a_killed_save_leaves_a_whole_checkpoint(saving: subprocess.Popen[str], tmp_path: Path) -> None:
    killed_and_resumed(saving, tmp_path / "w.safetensors", kills=3, seed=1)


@pytest.mark.soak
def test_twenty_killed_saves_leave_whole_checkpoints(saving: subprocess.Popen[str], tmp_path: Path) -> None:
    halves = killed_and_resumed(saving, tmp_path / "w.safetensors", kills=20, seed=time.time_ns())
    print(f"\nkills: {halves} of 20 kills left a save half done")
    assert halves  # else no kill came in a save


# A Trainer whose process is killed in the save after the epoch that the command line names.
KILLED = """
import os
import signal
import sys
from pathlib import Path

import pytest
from fake_run import FakeRun, config

from bench.training.checkpoint import tensors

fake = FakeRun(pytest.MonkeyPatch())
tensors.save = lambda *_: fake.evaluations == int(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)
fake.train(config(Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epoch", "figures"),
    [
        (1, {"tta_s": None, "epochs_to_target": None, "best_top1": 0.5, "final_top1": None, "elapsed_s": 41.0}),
        (2, {"tta_s": 57.0, "epochs_to_target": 2, "best_top1": 0.9, "final_top1": None, "elapsed_s": 57.0}),
        (3, {"tta_s": 57.0, "epochs_to_target": 2, "best_top1": 0.9, "final_top1": 0.8, "elapsed_s": 77.0}),
    ],
)
def test_what_an_evaluation_found_outlives_a_kill_in_the_save_after_it(
    tmp_path: Path, epoch: int, figures: dict[str, object]
) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "bench")])
    words = [sys.executable, "-c", KILLED, str(tmp_path), str(epoch)]
    assert subprocess.run(words, env=os.environ | {"PYTHONPATH": path}).returncode == -signal.SIGKILL
    recover(tmp_path)
    (row,), _ = read_rows(tmp_path, "runs")
    assert {name: row[name] for name in figures} == figures
    assert (row["status"], row["epochs_completed"]) == ("killed", epoch)
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [each["top1"] for each in epochs] == [0.5, 0.9, 0.8][:epoch]
    assert [each["checkpoint_s"] for each in epochs] == [0.0] * (epoch - 1) + [None]  # a save that takes no time
