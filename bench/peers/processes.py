"""One rank of a comparison: several trainers side by side, each training a block when told to.

Run by `bench.peers` through `bench.training.ranks`; commands are lines `NAME EPOCH` on stdin.
"""

import json
import sys

from bench.config.run_config import RunConfig
from bench.measure.clock import now_s, synchronize
from bench.training.process_group import start_process_group
from bench.training.ranks import answer
from bench.training.recorder import Recorder
from bench.training.trainer import Trainer


def main(path: str) -> None:
    """Build the trainers that the file at `path` describes, then obey.

    Args:
        path: JSON of `{name: {"config": RunConfig, "measured": bool, "limit": steps}}`.
    """
    with open(path) as file:
        cells = json.load(file)
    world = start_process_group(lambda failure: None)
    trainers = {}
    for name, cell in cells.items():
        config = RunConfig.from_json(json.dumps(cell["config"]))
        recorder = Recorder(config, f"peers-{name}", 0) if world.rank == 0 and cell["measured"] else None
        trainers[name] = Trainer(config, world, recorder, measured=cell["measured"])
    for line in sys.stdin:
        name, epoch = line.split()
        trainer = trainers[name]
        world.barrier()
        waited_s, accounted_s = trainer.throughput.waited_s, trainer.accounting.total_s
        start_s = now_s()
        steps = trainer.train_epoch(int(epoch), cells[name]["limit"]).steps
        synchronize(world.device)
        world.barrier()
        seconds = now_s() - start_s
        if world.rank == 0:
            block = {
                "images_per_s": steps * trainer.config.global_batch / seconds,
                "data_wait_frac": (trainer.throughput.waited_s - waited_s) / seconds,
                "instrumentation_frac": (trainer.accounting.total_s - accounted_s) / seconds,
            }
            answer(json.dumps(block))
    for trainer in trainers.values():
        trainer.train_loader.close()
        if trainer.test_loader:
            trainer.test_loader.close()
    world.close()


if __name__ == "__main__":
    main(sys.argv[1])
