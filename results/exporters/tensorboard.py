"""Writes runs as event files of TensorBoard, and its table of hyperparameters.

Each run is a folder of its own, which appears whole. Figures are scalars `runs/COLUMN` at step 0, epochs are scalars
`epochs/COLUMN` at their number; both keep all digits of a double.
"""

from datetime import datetime
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from results.exporters.parts import part_of
from results.exporters.runs import ExportedRun

__all__ = ["Tracker"]


class Tracker:
    """A folder of event files."""

    def __init__(self, project: str, to: Path) -> None:
        """Open a tracker.

        Args:
            project: a folder below `to`.
        """
        self.where = to / project

    def has(self, run_id: str) -> bool:
        """Whether a run was exported."""
        return (self.where / run_id).is_dir()

    def write(self, run: ExportedRun) -> None:
        """Export a run.

        Raises:
            OSError: it cannot be written.
        """
        with part_of(self.where, run.run_id) as part:
            writer = EventFileWriter(str(part / "events"))
            writer.add_event(_event(run.started, 0, hparams_pb(run.settings, start_time_secs=run.started.timestamp())))
            for name, value in run.figures.items():
                writer.add_event(_event(run.ended or run.started, 0, _scalar(f"runs/{name}", value)))
            for epoch in run.epochs:
                for name, value in epoch.values.items():
                    writer.add_event(_event(epoch.at, epoch.epoch, _scalar(f"epochs/{name}", value)))
            writer.close()
            (part / "events").rename(self.where / run.run_id)


def _event(at: datetime, step: int, summary: Summary) -> Event:
    return Event(wall_time=at.timestamp(), step=step, summary=summary)


def _scalar(tag: str, value: float | int) -> Summary:
    # TensorBoard's own helper would round to 32 bits.
    tensor = make_tensor_proto(np.float64(value))
    metadata = create_summary_metadata(display_name="", description="")
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])
