"""Forks, for each line WEIGHTS EPOCH on stdin, a process that saves checkpoint after checkpoint until it is killed."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402
from saved_run import at, save, untrained  # noqa: E402

from bench.training.checkpoint.writer import Writer  # noqa: E402


def save_on(path: str, epoch: str) -> None:
    print(os.getpid(), flush=True)
    Writer(path, f"run-{epoch}.0")
    for number in range(int(epoch), 10**6):
        # Every value says of which epoch it is.
        for parameter in engine.model.parameters():
            parameter.data.fill_(number)
            engine.optimizer.state[parameter]["momentum_buffer"].fill_(number)
        save(Path(path), at(number, run_id=f"run-{epoch}"), engine)
        print(number, flush=True)


engine = untrained()
save(Path(sys.argv[1]) / "warm-up.safetensors", at(1), engine)  # what is imported at first use
torch.set_num_threads(1)  # threads do not come along in a fork
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        save_on(*line.split())
    os.waitpid(child, 0)
    print("ended", flush=True)
