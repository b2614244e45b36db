"""Rank 0's account of a run: its row, its journal, and the seconds that the accounting itself takes."""

import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.config import slurm
from bench.config.examined import lost_with
from bench.config.run_config import RunConfig
from bench.measure import machine, metrics, revision
from bench.measure.clock import COLUMNS
from bench.measure.failure import Failure
from bench.training.checkpoint import compatibility
from bench.training.engine import COMM_DTYPE
from bench.training.process_group import World
from bench.training.progress import Emitter
from bench.training.state import RunState
from resnet import Counts
from resnet.data import DATASETS, Splits, shown_left_out
from resnet.fused.layer_choices import LayerChoices
from results import identity
from results.statistics import percentile
from results.store.schema import SCHEMA_VERSION
from results.store.writer import RunWriter


def run_row(config: RunConfig, run_id: str, restart: int) -> dict[str, Any]:
    """What is known of a run before it starts, as columns of `runs`."""
    ran = revision.running()
    job, array_task = slurm.allocation(os.environ)
    row = {
        "run_id": run_id,
        "benchmark": "training",
        "schema_version": SCHEMA_VERSION,
        "config_hash": config.config_hash(),
        "git_commit": ran.commit,
        "dirty": ran.dirty,
        "snapshot": ran.snapshot,
        "recipe": config.recipe.name,
        "comm_dtype": COMM_DTYPE,
        "batch_per_device": config.batch,
        "bn_span": config.batch,
        "global_batch": config.global_batch,
        "config_json": config.to_json(),
        "slurm_job_id": job,
        "array_task": array_task,
        "restart_count": restart,
        "nodelist": os.environ.get("SLURM_JOB_NODELIST") if slurm.is_task(os.environ) else None,
        "node_shared": slurm.node_shared(os.environ),
        "slurm_gpus": slurm.gpus(os.environ),
        "init_start": datetime.now(UTC),
        "target_top1": config.target,
        "eval_interval": 1,
        "warmup_steps": metrics.WARMUP_STEPS,
        "steps_cap": config.steps,
        "extension": config.architecture.extension,
        "eval_protocol": DATASETS[config.dataset].eval_protocol,
        "synthetic": config.loader == "synthetic",
        "experiment": config.experiment,
        "scale": config.scale,
        "activation_checkpointing": config.activation_checkpointing,
    }
    same = "family depth shortcut stride dataset image_size num_classes kernels loader engine precision zero_stage"
    more = "grad_accum nodes ranks_per_node world_size seed lr weight_decay epochs"
    for name in (*same.split(), *more.split()):
        row[name] = getattr(config, name)
    return row


class Recorder:
    """Writes a run down while it goes. Thread-safe: the watchdog may end the run from its own thread.

    Args:
        config: the run's configuration.
        run_id: the launcher's name for the run.
        restart: 0 for a first attempt.
    """

    def __init__(self, config: RunConfig, run_id: str, restart: int) -> None:
        self._config = config
        self._key = {"run_id": run_id, "restart": restart}
        self._lock = threading.RLock()
        self._finished = False
        self._status = ""
        self._fields: dict[str, Any] = {}
        self._null_reasons: dict[str, str] = {}
        self.facts: dict[str, list[str | None]] = {}  # what computed this attempt and those before it
        self._writer = RunWriter(Path(config.results), run_row(config, run_id, restart))
        self.progress = Emitter(config)

    def system(self, device: torch.device) -> None:
        """Describe the machine; the rest of the row hangs on it."""
        config = self._config
        row = machine.describe(device, gpus=config.ranks_per_node if device.type == "cuda" else 0, nodes=config.nodes)
        with self._lock:
            self._writer.system(row)
        self.update(system_id=row["system_id"], hardware=identity.system_class(row))

    def update(self, **fields: Any) -> None:
        """Columns of the run's row as they become known."""
        with self._lock:
            self._fields |= fields
            self._writer.update(**fields)

    def choices(self, choices: LayerChoices, table: str) -> None:
        """What computes each layer; `table` shows what that was chosen from, and may be empty."""
        self.update(kernels_choices=choices.to_json(), choices_hash=choices.hash())
        self.progress.emit("choices", table=table, layers=choices.layers)

    def network(self, world: World, multiply_adds: int, parameters: int) -> None:
        """What the network costs and the device could do: a run that ends early needs it for its figures too."""
        row, reasons = of_network(self._config, world, multiply_adds, parameters)
        self.update(**row, null_reasons=reasons)

    def begin(self, before: Mapping[str, list[str | None]] | None = None, **fields: Any) -> None:
        """Columns that are known when the clock has started; with them stands what the run may be compared with.

        Args:
            before: what computed the attempts that this one goes on from, see `compatibility.joined`.
        """
        self.update(**fields)
        self.facts = compatibility.joined(before, self._writer.row)
        self.update(mixed=compatibility.mixed(self.facts))
        self.update(**identity.comparability(self._writer.row))

    def say(self, line: str) -> None:
        """Show a line to whoever watches the run."""
        self.progress.emit("note", text=line)

    def null(self, reason: str, *columns: str) -> None:
        """Say why columns have no figure."""
        self._null_reasons |= dict.fromkeys(columns, reason)

    def steps(self, rank: int, rows: list[tuple[float, ...]]) -> None:
        """Steps of one rank, each with the columns of `StepClock.drain`."""
        with self._lock:
            self._writer.steps([{**self._key, "rank": rank, **_typed(row)} for row in rows])

    def epoch(self, **row: Any) -> None:
        """An epoch's row, but for the time of its checkpoint, which comes after it."""
        with self._lock:
            self._writer.epoch({**self._key, **row})

    def checkpoint(self, epoch: int, seconds: float) -> None:
        """What the checkpoint after an epoch took."""
        with self._lock:
            self._writer.checkpoint(epoch, seconds)

    def finish(self, status: str, failure: Failure | None = None, **fields: Any) -> None:
        """Write the tables; only the first call does anything. What watches the run is told by `close`."""
        with self._lock:
            if self._finished:
                return
            self._fields |= fields
            reasons = {name: why for name, why in self._null_reasons.items() if self._fields.get(name) is None}
            self._writer.finish(
                status,
                failure_kind=failure.kind if failure else None,
                failure_message=failure.message if failure else None,
                run_stop=datetime.now(UTC),
                null_reasons=reasons,
                **fields,
            )
            # Only now: what cannot be written ends the run as a failure of its own, which has to find its way here.
            self._finished = True
            self._status = status

    def announce(self, world: World, splits: Splits, parameters: int, epochs: int, steps: int) -> None:
        """Tell whoever watches what begins, and which files of its images are left out."""
        config = self._config
        if splits.left_out:
            self.say(f"{splits.name}: {shown_left_out(splits.left_out)}")
        where = machine.gpu_name(world.device) or "CPU"
        images = "SYNTHETIC images" if config.loader == "synthetic" else splits.name
        self.progress.emit(
            "start",
            about=f"{parameters:,} parameters, {world.size} ranks ({where}), {images}, "
            f"{config.engine}, {config.kernels}, {config.precision}, batch {config.global_batch}",
            epochs=epochs,
            steps=steps,
            target=config.target,
        )

    def conclude(
        self, world: World, throughput: metrics.Throughput, counts: Counts, state: RunState, *, elapsed_s: float,
        energy_j: float | None, **measured: Any,
    ) -> None:  # fmt: skip
        """Write the tables of a run that came to its end.

        Args:
            state: at the end.
            elapsed_s, energy_j, measured: columns of `runs`; `energy_j` is None where nobody counts it.
        """
        row, reasons = outcome(self._config, world, throughput, counts.multiply_adds, counts.parameters)
        for column, reason in reasons.items():
            self.null(reason, column)
        if energy_j is None:
            self.null("no energy counter", "energy_j")
        if not state.top1:
            self.null("synthetic images: nothing to evaluate", "final_top1", "best_top1", "tta_s")
            self.null("synthetic images", "dataset_hash", "files_left_out", "epochs_to_target")
        elif self._config.target is None:
            self.null("no target", "tta_s", "epochs_to_target")
        else:
            missed = f"top-1 never reached {self._config.target:g} (best {max(state.top1):.4f})"
            self.null(missed, "tta_s", "epochs_to_target")
        self.finish(
            "completed",
            **row,
            best_top1=max(state.top1, default=None),
            final_top1=state.top1[-1] if state.top1 else None,
            tta_s=state.tta_s,
            epochs_to_target=state.epochs_to_target,
            steps_completed=state.step,
            elapsed_s=elapsed_s,
            active_s=elapsed_s - state.downtime_s,
            train_s=throughput.seconds,
            energy_j=energy_j,
            **measured,
        )

    def close(self) -> None:
        """Tell whoever watches that the run has ended."""
        with self._lock:
            self.progress.emit("end", status=self._status)
            self.progress.close()

    def fail(self, failure: Failure) -> None:
        """Write the tables of a run that a failure ended; its figures are those of `results.store.early_end`.

        One that has its tables stays what they say: what came after training is lost, and that is said.
        """
        with self._lock:
            if self._finished:
                lost = lost_with(self._config) if self._config.examined.after_training else "nothing of it is lost"
                self.say(f"the run is completed and its rows are written, but then {failure}: {lost}")
            self.finish(failure.status, failure)
            self.close()


def _typed(row: tuple[float, ...]) -> dict[str, Any]:
    named: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    return named | {"step": int(named["step"]), "t_ns": int(named["t_ns"])}


def outcome(
    config: RunConfig, world: World, throughput: metrics.Throughput, multiply_adds: int, parameters: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Throughput columns of a finished run, and the reasons of those that are null.

    Returns:
        Columns of `runs`, reasons by column.
    """
    rate = throughput.images_per_s
    network, unknown = of_network(config, world, multiply_adds, parameters)
    peak = network["peak_flops_per_s"]
    steps = throughput.step_ms[metrics.WARMUP_STEPS :]
    row = {
        "images_per_s": rate,
        "step_ms_p50": percentile(steps, 0.5) if steps else None,
        "step_ms_p95": percentile(steps, 0.95) if steps else None,
        "data_wait_frac": throughput.data_wait_frac,
        "mfu": metrics.mfu(rate / world.size, multiply_adds, peak) if rate and peak else None,
        **network,
    }
    reasons: dict[str, str] = {}
    if rate is None:
        short = f"no longer than the warm-up of {metrics.WARMUP_STEPS} steps"
        reasons |= dict.fromkeys(("images_per_s", "step_ms_p50", "step_ms_p95", "mfu"), short)
    return row, reasons | unknown


def of_network(
    config: RunConfig, world: World, multiply_adds: int, parameters: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """What is known of a run's network and device before a step is taken.

    Returns:
        Columns of `runs`, reasons by column.
    """
    gpu = machine.gpu_name(world.device)
    peak = metrics.peak_flops(gpu, config.precision)
    row = {
        "flops_per_image": 6 * multiply_adds,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "peak_flops_per_s": peak,
        "peak_name": f"dense {config.precision} peak of {gpu}" if peak else None,
    }
    unknown = f"the peak of {gpu or 'this CPU'} in {config.precision} is not known"
    return row, {} if peak else {"mfu": unknown, "peak_flops_per_s": unknown}
