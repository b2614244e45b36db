"""The training loop that every figure of the suite comes from."""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional

import resnet
from bench.config.examined import check_counts
from bench.config.run_config import RunConfig
from bench.measure import machine
from bench.measure.clock import StepClock, Stopwatch, now_s, synchronize, wall_s
from bench.measure.failure import Diverged, Stopped
from bench.measure.metrics import Throughput
from bench.training.checkpoint.of_run import RunCheckpoints
from bench.training.checkpoint.writer import Writer
from bench.training.dataset import check_shared_memory, make_run_loader, prepare
from bench.training.decoder_warnings import DecoderWarnings
from bench.training.engine import Engine, build, set_lr
from bench.training.evaluate import evaluate
from bench.training.examination import Examiner
from bench.training.group.agreement import Agreement, stopped
from bench.training.group.stop_request import REQUEST
from bench.training.model import build_model, describe_choices, warm_up
from bench.training.process_group import World
from bench.training.recorder import Recorder
from bench.training.state import RunState
from bench.training.training_accuracy import TrainingAccuracy
from resnet.data import Batch
from resnet.recipe import lr_factor

DRAIN_S = 1.0  # between two looks at the steps' times and losses
COLD_STEPS = 50  # between two looks at the training error while the cold start of very deep nets lasts


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training came to.

    Attributes:
        loss, lr, steps: mean over all ranks, the last learning rate, optimizer steps.
        top1: over all training images that were seen, as they were trained on; None of synthetic images.
    """

    loss: float
    lr: float
    steps: int
    top1: float | None = None


class Trainer:
    """The parts of one run, put together on one rank.

    Args:
        config: the run's configuration.
        world: this rank among the others.
        recorder: on rank 0; None elsewhere.
        run_id, restart: written into checkpoints.
        measured: False leaves out whatever measures a step, to see what that costs.
        writer: on rank 0, the claim to where checkpoints go.
    """

    def __init__(
        self,
        config: RunConfig,
        world: World,
        recorder: Recorder | None,
        run_id: str = "",
        restart: int = 0,
        measured: bool = True,
        writer: Writer | None = None,
    ) -> None:
        self.config, self.world, self.recorder, self.measured = config, world, recorder, measured
        self.attempt = f"{run_id}.{restart}"
        self.checkpoints = RunCheckpoints(config, world, run_id, restart, writer)
        self.accounting = Stopwatch()
        self.throughput = Throughput()
        self.clock = StepClock(world.device)
        self.loader_threads = config.threads_of_loader(world.threads)
        if recorder:
            recorder.system(world.device)
            recorder.update(threads_per_rank=torch.get_num_threads(), loader_threads=self.loader_threads)
        check_shared_memory(config, world)
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True
        self.model = build_model(config).to(world.device)
        self.counts = resnet.count(self.model, config.image_size)
        if recorder:
            recorder.network(world, self.counts.multiply_adds, self.counts.parameters)
        warm_up(self.model, config, world.device, recorder.say if recorder else None)
        if recorder and getattr(self.model, "fused", None) is not None:
            recorder.choices(*describe_choices(self.model.fused))
        self.checkpoints.open(self.model)
        self.engine: Engine = build(config, self.model, world.device)
        known = measured and config.loader != "synthetic"  # whose labels mean nothing
        self.training_accuracy = TrainingAccuracy(world.device) if known else None
        self.cold_seen = torch.zeros(2, dtype=torch.float64, device=world.device)
        self.state = self._begin()
        self.begun = dataclasses.replace(self.state)  # where this attempt begins
        self.saved, self.saved_step = False, self.state.step
        self.agreement = Agreement(world) if config.save else None
        self.stopped = False
        self._open_data()

    def _open_data(self) -> None:
        """Start the run's clock, then touch the data for the first time.

        What is prepared once for all runs is timed apart and taken out of the clock; rank 0 does it, the others find it
        done.
        """
        config, world = self.config, self.world
        world.barrier()
        started, start_s = datetime.now(UTC), now_s()
        if world.rank != 0:
            world.barrier()
        self.splits, mean, prepare_s = prepare(config, world)
        if world.rank == 0:
            world.barrier()
        if config.loader != "synthetic":
            check_counts(config, train=len(self.splits.train), test=len(self.splits.test))
        self.warnings = DecoderWarnings(config, self.splits, world.device)
        prepare_s = world.all_reduce([prepare_s if world.rank == 0 else 0.0])[0]
        self.origin_s = start_s + prepare_s - self.begun.elapsed_s
        self.energy_j = machine.energy_j(world.device)
        self.train_loader = make_run_loader(config, world, self.splits.train, mean, self.loader_threads)
        # Synthetic images have nothing to evaluate.
        self.test_loader = (
            make_run_loader(config, world, self.splits.test, mean, self.loader_threads)
            if config.loader != "synthetic"
            else None
        )
        per_epoch = self.train_loader.steps_per_epoch
        dataset_hash = None if config.loader == "synthetic" else self.splits.hash
        self.checkpoints.check_data(dataset_hash, per_epoch)
        self.done_in_epoch = self.begun.step - self.begun.epoch * per_epoch  # by earlier attempts
        self.total_steps = min(config.epochs * per_epoch, config.steps or sys.maxsize)
        self.epochs = -(-self.total_steps // per_epoch)
        say = self.recorder.say if self.recorder else lambda line: None
        self.examiner = Examiner(config, world, self.splits, self.attempt, mean, self.loader_threads, self.epochs, say)
        if self.recorder:
            self.recorder.begin(
                init_stop=started,
                run_start=started,
                prepare_s=prepare_s,
                before=self.checkpoints.saved.facts if self.checkpoints.saved else None,
                **self.checkpoints.row(self.begun),
                dataset_hash=dataset_hash,
                sample=self.splits.name,
                files_left_out=None if config.loader == "synthetic" else sum(self.splits.left_out.values()),
                images_per_epoch=self.train_loader.images_per_epoch,
            )
            self.recorder.announce(world, self.splits, self.counts.parameters, self.epochs, self.total_steps)

    def elapsed_s(self) -> float:
        """Seconds of the run's clock: data, training, evaluation and checkpoints, never paused."""
        return now_s() - self.origin_s

    def fit(self) -> None:
        """Train and evaluate epoch by epoch, write the outcome, then find out about the net what was asked for.

        Where that fails loaders stay open: what they wait for may never come, and the process is about to end.
        """
        if not self.begun.step:
            self.examiner.after_epoch(self.model, 0)
        with REQUEST.heeded(alone=self.world.size == 1) if self.config.save else contextlib.nullcontext():
            for epoch in range(self.begun.epoch, self.epochs):
                self._epoch(epoch)
        self.train_loader.close()
        if self.test_loader:
            self.test_loader.close()
        # Its rows first: what ends the run while its net is looked at must not take a whole training along.
        self._conclude()
        if self.world.size == 1 and self.config.save and (why := REQUEST.asked()):
            raise Stopped(why.message, why.kind)  # of several ranks the watchdog does it
        torch.backends.cudnn.benchmark = False  # which would time algorithms for each size of multi-scale
        self.examiner.after_training(self.model)
        if self.recorder:
            self.recorder.close()

    def _epoch(self, epoch: int) -> None:
        before = self.throughput.images, self.throughput.seconds
        trained = self.train_epoch(epoch)
        if self.stopped:
            self._leave()
        self.state.end_epoch()
        eval_start = now_s()
        top1, top5 = self._evaluate()
        elapsed_s = self.elapsed_s()
        eval_s = now_s() - eval_start if self.test_loader else None
        reached = top1 is not None and self.state.evaluated(top1, elapsed_s, self.config.target)
        if self.recorder:
            with self.accounting.running():
                # Before the save: what ends the run in it must not take along what was found.
                self.recorder.epoch(
                    epoch=epoch + 1,
                    elapsed_s=elapsed_s,
                    loss=trained.loss,
                    top1=top1,
                    top5=top5,
                    train_top1=trained.top1,
                    lr=trained.lr,
                    images=trained.steps * self.config.global_batch,
                    eval_s=eval_s,
                )
        self.examiner.after_epoch(self.model, epoch + 1)
        checkpoint_s = self._save() if self.config.save else None
        if self.recorder:
            with self.accounting.running():
                if checkpoint_s is not None:
                    self.recorder.checkpoint(epoch + 1, checkpoint_s)
                images, seconds = self.throughput.images - before[0], self.throughput.seconds - before[1]
                self.recorder.progress.emit(
                    "epoch",
                    epoch=epoch + 1,
                    loss=trained.loss,
                    top1=top1,
                    elapsed_s=elapsed_s,
                    images_per_s=images / seconds if images else None,
                    left_s=self._left_s(),
                    reached=reached,
                )

    def _leave(self) -> NoReturn:
        """End a run that was asked to stop, with all that it has in a checkpoint; every rank comes here.

        Raises:
            Stopped: by whom, and where it goes on.
        """
        if self.state.step > self.saved_step:
            self._save()
        if self.recorder:
            self.recorder.update(steps_completed=self.state.step)
        raise stopped(self.state.step, self.config.save if self.saved else None)

    def _left_s(self) -> float:
        """Time left at the pace so far, evaluation included."""
        done = self.state.step - self.begun.step
        return (self.elapsed_s() - self.begun.elapsed_s) / max(done, 1) * (self.total_steps - self.state.step)

    def train_epoch(self, epoch: int, limit: int | None = None) -> Epoch:
        """One epoch of training, or its first `limit` steps; the rest of one that an earlier attempt has begun."""
        config, clock, throughput, state = self.config, self.clock, self.throughput, self.state
        done, self.done_in_epoch = self.done_in_epoch, 0
        if not done:
            state.epoch_loss, state.epoch_hits, state.epoch_images = 0.0, 0, 0
        steps = min(self.train_loader.steps_per_epoch - done, self.total_steps - state.step, limit or sys.maxsize)
        batches = self.train_loader.epoch(epoch, done * config.grad_accum)
        begun = state.step
        if self.agreement:
            self.agreement.ask_next()
        rows: list[tuple[float, ...]] = []
        lr = 0.0
        self.model.train()
        clock.start()
        throughput.begin(now_s())
        drained_s = now_s()
        for _ in range(steps):
            if self.agreement and self.agreement.stops():
                self.stopped = True
                break
            lr = self._lr()
            set_lr(self.engine, lr)
            loss = self._step(batches)
            self.state.step += 1
            if self.state.cold and self.state.step % COLD_STEPS == 0:
                self._end_cold_start()
            if self.measured:
                clock.step(self.state.step, loss)
                if throughput.step(config.global_batch):
                    synchronize(self.world.device)
                    throughput.warm(now_s())
                if now_s() - drained_s > DRAIN_S:
                    rows += self._drain(epoch)
                    drained_s = now_s()
        rows += self._drain(epoch)
        synchronize(self.world.device)
        throughput.end(now_s(), clock.waited_s)
        done += state.step - begun
        if not rows:
            return Epoch(float("nan"), lr, done)
        throughput.step_ms += [row[2] for row in rows]
        with self.accounting.running():
            if self.training_accuracy:
                hits, images = self.training_accuracy.take(self.world)
                state.epoch_hits, state.epoch_images = state.epoch_hits + hits, state.epoch_images + images
            parts = self.world.gather(torch.tensor(rows, dtype=torch.float64))
            if self.recorder:
                for rank, part in enumerate(parts[1:], start=1):
                    self.recorder.steps(rank, [tuple(row) for row in part.tolist()])
        state.epoch_loss += sum(float(part[:, -1].sum()) for part in parts) / len(parts)
        top1 = state.epoch_hits / state.epoch_images if state.epoch_images else None
        return Epoch(state.epoch_loss / done, lr, done, top1)

    def _step(self, batches: Iterator[Batch]) -> Tensor:
        """One optimizer step: `grad_accum` micro-batches. Returns this rank's detached mean loss."""
        losses = []
        for _ in range(self.config.grad_accum):
            with self.clock.data():
                batch = next(batches)
            logits = self.engine.forward(batch.images).float()
            loss = functional.cross_entropy(logits, batch.labels, label_smoothing=self.config.recipe.label_smoothing)
            self.engine.backward(loss)
            losses.append(loss.detach())
            if self.training_accuracy:
                self.training_accuracy.add(logits, batch)
            if self.state.cold:
                wrong = (logits.detach().argmax(1) != batch.labels).sum()
                self.cold_seen += torch.stack([wrong, torch.full_like(wrong, len(batch.labels))])
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _lr(self) -> float:
        recipe = self.config.recipe
        if self.state.cold:
            assert recipe.cold_lr is not None
            return recipe.cold_lr * self.config.lr / recipe.lr
        return self.config.lr * lr_factor(recipe, self.state.step, self.total_steps)

    def _end_cold_start(self) -> None:
        """Leave the cold start once the training error of the last steps, over all ranks, is low enough."""
        wrong, seen = self.world.all_reduce(self.cold_seen.tolist())
        self.cold_seen.zero_()
        self.state.cold_wrong = self.state.cold_images = 0
        assert self.config.recipe.cold_error is not None
        self.state.cold = wrong / seen >= self.config.recipe.cold_error

    def _drain(self, epoch: int) -> list[tuple[float, ...]]:
        """Read times and losses of the last steps, write them down, and stop the run at a loss that is not finite."""
        with self.accounting.running():
            rows = self.clock.drain()
            for step, *_, loss in rows:
                if not abs(loss) < float("inf"):
                    raise Diverged(
                        f"loss is {loss} at step {int(step)} (epoch {epoch + 1}): lr={self.config.lr:g} may be too high"
                    )
            if self.recorder and rows:
                self.recorder.steps(0, rows)
                mean_s = sum(row[2] for row in rows) / len(rows) / 1e3
                self.recorder.progress.emit(
                    "step",
                    epoch=epoch + 1,
                    step=self.state.step,
                    images_per_s=self.config.global_batch / mean_s,
                    loss=rows[-1][-1],
                    left_s=self._left_s(),
                )
        return rows

    def _evaluate(self) -> tuple[float | None, float | None]:
        """Top-1 and top-5 (fractions) over the whole test set; None where there is none."""
        if not self.test_loader:
            return None, None
        accuracy = evaluate(self.model, self.test_loader, self.config.precision, self.world)
        expected = len(self.splits.test.labels)
        assert accuracy.images == expected, f"evaluated {accuracy.images} of {expected} test images"
        return accuracy.top1, accuracy.top5

    def _save(self) -> float:
        """Write a checkpoint; the seconds that it took."""
        start = now_s()
        self.state.elapsed_s = self.elapsed_s()
        if self.state.cold:
            self.state.cold_wrong, self.state.cold_images = map(round, self.world.all_reduce(self.cold_seen.tolist()))
        self.checkpoints.save(self.engine, self.state, wall_s(), self.recorder.facts if self.recorder else {})
        self.saved, self.saved_step = True, self.state.step
        return now_s() - start

    def _begin(self) -> RunState:
        """A new state, or that of the checkpoint to go on from, where the time since it was written is downtime."""
        saved = self.checkpoints.saved
        if saved is None:
            return RunState(cold=self.config.recipe.cold_lr is not None)
        self.checkpoints.load(self.engine)
        state = dataclasses.replace(saved.state, top1=list(saved.state.top1))  # the checkpoint stays what it was
        state.resumed(wall_s() - saved.saved_at)
        if self.world.rank == 0:
            self.cold_seen += torch.tensor([state.cold_wrong, state.cold_images]).to(self.cold_seen)
        return state

    def _conclude(self) -> None:
        elapsed_s, state = self.elapsed_s(), self.state
        energy_j = machine.energy_j(self.world.device)
        used_j = float("nan") if energy_j is None or self.energy_j is None else energy_j - self.energy_j
        mine = torch.tensor([[machine.peak_memory_bytes(self.world.device), used_j]], dtype=torch.float64)
        memory_bytes, ranks_j = torch.cat(self.world.gather(mine)).T.tolist()
        self.warnings.conclude(self.world, self.recorder)
        if self.recorder:
            self.recorder.conclude(
                self.world, self.throughput, self.counts, state, epochs_completed=self.epochs, elapsed_s=elapsed_s,
                peak_mem_bytes=int(max(memory_bytes)),
                energy_j=None if math.isnan(sum(ranks_j)) else sum(ranks_j),
                instrumentation_s=self.accounting.total_s,
            )  # fmt: skip
