"""Writes runs to MLflow: settings as parameters, figures and epochs as metrics.

Figures are metrics `runs/COLUMN` at step 0, epochs metrics `epochs/COLUMN` at their number. A text that is longer than
a parameter may be is an artifact, `COLUMN.txt`. MLflow keeps an infinite loss as the
largest double. A run carries the tag resnet_bench.run_id; one that was cut short while it was exported is not FINISHED
there, and is written anew.
"""

from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

from results.exporters.parts import gone, this_process
from results.exporters.runs import ExportedRun
from results.words import ConfigError

__all__ = ["TAG", "Tracker"]

TAG, WRITER = "resnet_bench.run_id", "resnet_bench.writer"
STATUSES = {"completed": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class Tracker:
    """An experiment of MLflow."""

    def __init__(self, project: str, to: Path | None) -> None:
        """Open a tracker.

        Args:
            project: name of the experiment.
            to: folder of a local store; None for MLFLOW_TRACKING_URI, or what else MLflow takes.

        Raises:
            OSError: the folder cannot be made.
        """
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(None if to is None else f"sqlite:///{to.resolve()}/mlflow.db")
        found = self._client.get_experiment_by_name(project)
        place = None if to is None else (to.resolve() / "artifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(project, place)

    def has(self, run_id: str) -> bool:
        """Whether a run was exported; what is left of one that was cut short is removed.

        Raises:
            ConfigError: somebody else writes it now, or died on another host.
        """
        whole = False
        for found in self._client.search_runs([self._experiment], f"tags.`{TAG}` = '{run_id}'"):
            if found.info.status in STATUSES.values():
                whole = True
                continue
            host, _, pid = found.data.tags.get(WRITER, "").rpartition(":")
            if not gone(host, pid):
                raise ConfigError(
                    f"run={run_id}: {host or 'another'}:{pid} writes it now; if it is dead, delete it there"
                )
            self._client.delete_run(found.info.run_id)
        return whole

    def write(self, run: ExportedRun) -> None:
        """Export a run."""
        made = self._client.create_run(
            self._experiment,
            start_time=_ms(run.started),
            run_name=run.run_id,
            tags={TAG: run.run_id, WRITER: ":".join(this_process())},
        )
        own = made.info.run_id
        params = []
        for name, value in run.settings.items():
            if len(str(value)) > MAX_PARAM_VAL_LENGTH:
                self._client.log_text(own, str(value), f"{name}.txt")
            else:
                params.append(Param(name, str(value)))
        ended = run.ended or run.started
        metrics = [Metric(f"runs/{name}", value, _ms(ended), 0) for name, value in run.figures.items()]
        metrics += [
            Metric(f"epochs/{name}", value, _ms(epoch.at), epoch.epoch)
            for epoch in run.epochs
            for name, value in epoch.values.items()
        ]
        for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(own, params=params[first : first + MAX_PARAMS_TAGS_PER_BATCH])
        for first in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            self._client.log_batch(own, metrics=metrics[first : first + MAX_METRICS_PER_BATCH])
        self._client.set_terminated(own, STATUSES[run.status], _ms(ended))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
