"""Writes runs through the API of wandb, which trackio shares: settings as configuration, epochs and figures as logs.

Epochs are logged as `epochs/COLUMN` over `epoch`, then the figures once as `runs/COLUMN`, so that they are the summary.
With to= a run is written offline, for `wandb sync`, and its folder appears whole; without it the library decides, by
its own settings and variables, where runs go.
"""

import importlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from results.exporters.parts import part_of
from results.exporters.runs import ExportedRun

__all__ = ["Tracker"]

_RUN = re.compile(r"^offline-run-\d{8}_\d{6}-")


class Tracker:
    """A project of wandb or trackio."""

    def __init__(self, project: str, to: Path | None, library: str = "wandb") -> None:
        """Open a tracker.

        Args:
            to: folder that runs are written to offline; None for what the library's own settings say.
            library: wandb or trackio.
        """
        if library == "trackio" and to is not None:
            os.environ["TRACKIO_DIR"] = str(to.resolve())  # which it reads when it is imported
        self._project, self._library = project, library
        self._to = to / project if to is not None and library == "wandb" else None
        self._api: Any = importlib.import_module(library)

    def has(self, run_id: str) -> bool:
        """Whether a run was exported, as far as can be seen without asking a server."""
        if self._library == "wandb":
            # With a server the library itself refuses a run that is there.
            return self._to is not None and any(
                _RUN.sub("", one.name) == run_id for one in self._to.glob("wandb/offline-run-*")
            )
        return any(run.name == run_id for run in self._trackio_runs())

    def _trackio_runs(self) -> list[Any]:
        try:
            return list(self._api.Api().runs(self._project))
        except ValueError:  # no such project yet
            return []

    def write(self, run: ExportedRun) -> None:
        """Export a run.

        Raises:
            OSError: it cannot be written.
        """
        if self._library == "trackio":
            # It has one store for all runs: a run has its name once it is whole.
            name = f"{run.run_id} (part)"
            for left in [one for one in self._trackio_runs() if one.name == name]:
                left.delete()
            self._log(self._api.init(project=self._project, name=name, config=dict(run.settings)), run)
            next(one for one in self._trackio_runs() if one.name == name).rename(run.run_id)
            return
        if self._to is None:
            self._log(self._wandb_run(run), run)
            return
        with part_of(self._to, run.run_id) as part:
            self._log(self._wandb_run(run, dir=str(part), mode="offline"), run)
            (self._to / "wandb").mkdir(exist_ok=True)
            for made in part.glob("wandb/offline-run-*"):
                for folder in ("logs", "tmp", "files"):  # which name paths of this machine, and hold nothing of the run
                    shutil.rmtree(made / folder, ignore_errors=True)
                made.rename(self._to / "wandb" / made.name)

    def _wandb_run(self, run: ExportedRun, **more: Any) -> Any:
        # What the library would find out of this machine is not of the run.
        quiet = self._api.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        made = self._api.init(project=self._project, id=run.run_id, name=run.run_id, config=dict(run.settings),
                              resume="never", settings=quiet, **more)  # fmt: skip
        made.define_metric("epochs/*", step_metric="epoch")
        return made

    def _log(self, made: Any, run: ExportedRun) -> None:
        for epoch in run.epochs:
            values = {f"epochs/{name}": value for name, value in epoch.values.items()}
            made.log({"epoch": epoch.epoch, **values, **self._when(epoch.at.timestamp())})
        end = (run.ended or run.started).timestamp()
        made.log({**{f"runs/{name}": value for name, value in run.figures.items()}, **self._when(end)})
        self._api.finish()

    def _when(self, seconds: float) -> dict[str, float]:
        return {"_timestamp": seconds} if self._library == "wandb" else {}
