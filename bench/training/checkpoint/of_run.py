"""The checkpoints of one run on one rank: the one that it goes on from, and those that it writes."""

from pathlib import Path
from typing import Any

from torch import nn

from bench.config.run_config import RunConfig
from bench.training.checkpoint import compatibility, tensors
from bench.training.checkpoint.ancestor import Ancestor
from bench.training.checkpoint.contents import Checkpoint, read, read_at
from bench.training.checkpoint.folder import CheckpointError
from bench.training.checkpoint.occupied import refuse_if_occupied
from bench.training.checkpoint.writer import Writer
from bench.training.engine import Engine
from bench.training.process_group import World
from bench.training.state import RunState


class RunCheckpoints:
    """What a Trainer asks of checkpoints.

    Args:
        run_id, restart: of the run; written into its checkpoints.
        writer: of its save= path, on rank 0.

    Attributes:
        saved: the checkpoint that the run goes on from, or None.
    """

    def __init__(self, config: RunConfig, world: World, run_id: str, restart: int, writer: Writer | None) -> None:
        self.config, self.world, self.run_id, self.restart, self.writer = config, world, run_id, restart, writer
        self.saved: Checkpoint | None = None
        self._found = ""
        self._dataset_hash: str | None = None
        self._steps_per_epoch: int | None = None

    def open(self, model: nn.Module) -> None:
        """Read and check the checkpoint to go on from, where there is one, and load its weights.

        Raises:
            CheckpointError: the run cannot go on from it.
        """
        path = self.config.resume
        if path is None:
            return
        self._found = tensors.agreed(path, self.world)
        self.saved = read_at(path, Path(self._found))
        compatibility.check(path, self.saved, self.config)
        tensors.load_weights(path, self._found, model)
        tensors.load_statistics(path, self._found, self.saved, model, self.world.rank)

    def load(self, engine: Engine) -> None:
        """Load what the engine keeps, once it is there."""
        assert self.saved and self.config.resume
        tensors.load_momentum(self.config.resume, self._found, self.saved, engine)

    def check_data(self, dataset_hash: str | None, steps_per_epoch: int) -> None:
        """See that the images are the same; see `compatibility.check_data`."""
        self._dataset_hash, self._steps_per_epoch = dataset_hash, steps_per_epoch
        if self.saved:
            assert self.config.resume
            compatibility.check_data(self.config.resume, self.saved, dataset_hash, steps_per_epoch)

    @property
    def chain(self) -> tuple[Ancestor, ...]:
        """The attempts that this one goes on from, the first one first."""
        return (*self.saved.chain, self.saved.left) if self.saved else ()

    def row(self, state: RunState) -> dict[str, Any]:
        """What earlier attempts came to, as columns of `runs`: it counts also where this one is killed before it adds
        to it.

        Args:
            state: as the run begins.
        """
        if not self.saved:
            return {}
        known = {"tta_s": state.tta_s, "epochs_to_target": state.epochs_to_target} if state.tta_s is not None else {}
        return {
            **known,
            "downtime_s": state.downtime_s,
            "epochs_completed": state.epoch,
            "best_top1": max(state.top1, default=None),
            "resumed_from": self.saved.left.attempt,
            "resumed_epoch": state.epoch,
            "resumed_step": state.step,
            "lineage": " ".join(map(str, self.chain)),
        }

    def save(self, engine: Engine, state: RunState, saved_at: float, facts: dict[str, list[str | None]]) -> None:
        """Write a checkpoint; every rank calls it.

        Args:
            saved_at: seconds since 1970.
            facts: of `compatibility.joined`; rank 0's count.

        Raises:
            CheckpointError: another run has taken the path over.
            OSError, resnet.WeightsError: the disk refuses; the checkpoints before are whole.
        """
        assert self.config.save
        if self.writer:
            self.writer.check()
        found = Checkpoint(
            run_id=self.run_id,
            restart=self.restart,
            net=compatibility.net_of(self.config),
            saved_at=saved_at,
            state=state,
            chain=self.chain,
            facts=facts,
            dataset_hash=self._dataset_hash,
            steps_per_epoch=self._steps_per_epoch,
        )
        tensors.save(self.config.save, engine, self.world, found)


def restart_of(path: str) -> int:
    """The restart count of an attempt that goes on from a checkpoint; 0 where that cannot be read."""
    try:
        return read(path).restart + 1
    except CheckpointError:  # it is raised again where the run's row can say so
        return 0


def claim(config: RunConfig, run_id: str, restart: int) -> Writer | None:
    """The claim of rank 0 to where the run saves; None where it does not.

    Raises:
        CheckpointError: another run writes there, or has.
    """
    if config.save is None:
        return None
    Path(config.save).parent.mkdir(parents=True, exist_ok=True)
    writer = Writer(config.save, f"{run_id}.{restart}")
    try:
        refuse_if_occupied(config.save, config.resume, run_id)
    except BaseException:
        writer.release()
        raise
    return writer
