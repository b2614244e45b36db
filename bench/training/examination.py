"""What a run finds out about its net besides training it: the keys `protocol`, `bn` and `examine`."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import resnet
from bench.config.run_config import RunConfig
from bench.evaluation import rows
from bench.evaluation.exact_bn import mixed_rows, set_exact_statistics, spread_rows
from bench.evaluation.flow import gradient_flow, measured_after
from bench.evaluation.images import Normalization
from bench.evaluation.lesions import DRAWS, all_cuts, examine, place_of
from bench.evaluation.nets import Net
from bench.evaluation.softmax import NotFinite, Totals, answers
from bench.evaluation.task import Setting, plain_batches
from bench.evaluation.verdict import costs, verdict
from bench.measure.failure import Diverged
from bench.training.process_group import World
from resnet.data import DATASETS, Split, Splits
from results.store.schema import Row

FLOW_KINDS = ("activation", "output_gradient", "weight_gradient")
SEED = 0  # of the random cuts, as `bench.depth` has it


@contextlib.contextmanager
def _collected(errors: list[OSError]) -> Iterator[None]:
    """Keep what a disk refuses for later."""
    try:
        yield
    except OSError as error:
        errors.append(error)


@dataclass(frozen=True)
class Examiner:
    """Examines the net of a run on all its ranks, and writes rows on rank 0.

    Attributes:
        attempt: RUN.RESTART.
        mean: the mean training image, float32 [S, S, 3] in [0, 255], where the recipe subtracts it.
        threads: that read images.
        epochs: of the whole run.
        say: takes a line for whoever watches the run.
    """

    config: RunConfig
    world: World
    splits: Splits
    attempt: str
    mean: np.ndarray | None
    threads: int
    epochs: int
    say: Callable[[str], None]

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """What is looked at while training goes on, before its checkpoint: a restart comes here again, and never skips
        it. Every rank comes here.

        Args:
            model: of the run, whose BNs have the same statistics on all ranks.
            epoch: epochs done, 0 before training.
        """
        if "gradient-flow" in self.config.examined.examinations and measured_after(epoch, self.epochs):
            self._flow(model, epoch)

    def after_training(self, model: nn.Module) -> None:
        """What is looked at once training is over; every rank comes here."""
        wanted = self.config.examined
        if not (wanted.protocols or {"responses", "lesions"} & set(wanted.examinations)):
            return
        net = self._net(model, self.epochs, self.config.save if self.world.rank == 0 else None)
        unwritten: list[OSError] = []
        try:
            # As the net was trained, before exact statistics take the place of the running ones.
            if {"responses", "lesions"} & set(wanted.examinations):
                self._examine(net, unwritten, cut="lesions" in wanted.examinations)
            if wanted.protocols:
                self._evaluate(net, unwritten)
        except NotFinite as error:
            raise Diverged(str(error)) from None
        if unwritten:  # only now: what one table has no room for another may have, and all of it has been said
            raise unwritten[0]

    def _evaluate(self, net: Net, unwritten: list[OSError]) -> None:
        config, wanted, of, test = self.config, self.config.examined, self._setting(), self.splits.test
        mine = np.arange(self.world.rank, len(test), self.world.size)
        evaluation_id = rows.new_id("evaluations")
        for part, bn in enumerate(wanted.statistics):  # each pass is written before the next, which may fail
            bn_images = None
            if bn == "exact":
                chosen = mixed_rows(min(wanted.bn_images, len(self.splits.train)), len(self.splits.train))
                chosen = chosen[self.world.rank :: self.world.size]
                images = (images for images, _ in plain_batches(of, self.splits.train, chosen, self._normalization()))
                with of.autocast():
                    bn_images = set_exact_statistics(net.model, images, self.world.all_reduce)
            started, totals = time.perf_counter(), Totals(wanted.protocols, 1)
            for answer in answers(
                [net.model], test, mine, wanted.protocols, self._normalization(), image_size=config.image_size,
                batch=of.batch, threads=of.threads, device=of.device, precision=of.precision,
            ):  # fmt: skip
                totals.add(answer)
            figures = totals.figures(self.world.all_reduce)
            found = rows.rows_of(
                [net], figures, bn=bn, bn_images=bn_images, elapsed_s=time.perf_counter() - started,
                world_size=self.world.size,
            )  # fmt: skip
            for row in found:
                over = "" if row["bn_images"] is None else f" over {row['bn_images']:,} images"
                self.say(f"{row['protocol']}, {row['bn']} BN{over}: top-1 {row['top1']:.2%}, top-5 {row['top5']:.2%}")
            with _collected(unwritten):
                self._write(self.splits.test, "evaluations", found, evaluation_id, part)

    def _examine(self, net: Net, unwritten: list[OSError], *, cut: bool) -> None:
        wanted, of, test = self.config.examined, self._setting(), self.splits.test
        count = min(wanted.examine_images, len(test))
        mine = spread_rows(count, len(test))[self.world.rank :: self.world.size]
        cuts = all_cuts(net.model, DRAWS, SEED) if cut else []
        with of.autocast():
            found = examine(
                net.model, plain_batches(of, test, mine, self._normalization()), cuts,
                rank=self.world.rank, ranks=self.world.size, all_reduce=self.world.all_reduce,
            )  # fmt: skip
        known = costs(found)
        if cut and (says := verdict(found, known)):
            self.say(str(says))
        with _collected(unwritten):
            self._write(test, "lesions", [self._shared(net, count) | row for row in rows.lesion_rows(found, known)])

    def _flow(self, model: nn.Module, epoch: int) -> None:
        """On one rank, since a BN's batch is one rank's: the others go on to where they wait for it."""
        if self.world.rank:
            return
        train = self.splits.train
        count = min(self.config.examined.flow_images, len(train))
        chosen = spread_rows(count, len(train))
        of = self._setting(batch=count)
        ((images, labels),) = plain_batches(of, train, chosen, self._normalization())
        net = self._net(model, epoch)
        found: list[Row] = []
        for flow in gradient_flow(net.model, images, labels):
            place = place_of(flow.layer)
            for kind in FLOW_KINDS:
                at = {"kind": kind, "stage": place.stage, "block": place.block, "layer": flow.layer}
                found.append(at | {"value": getattr(flow, kind)})
        self._write(train, "lesions", [self._shared(net, count) | row for row in found])

    def _net(self, model: nn.Module, epoch: int, saved: str | None = None) -> Net:
        """The net over modules, whatever computes it in training: at any image size, with hooks, in any precision.

        Args:
            saved: the file that has its weights.
        """
        config, architecture = self.config, self.config.architecture
        with torch.random.fork_rng(devices=[]):
            copy = resnet.build(
                family=architecture.family, depth=architecture.depth, shortcut=architecture.shortcut,
                stride=architecture.stride, num_classes=architecture.num_classes,
            )  # fmt: skip
        copy.load_state_dict(model.state_dict())
        copy.to(device=self.world.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        sha256 = hashlib.sha256(Path(saved).read_bytes()).hexdigest() if saved else None
        words = {"recipe": config.recipe.name, "seed": str(config.seed)}
        return Net(path=saved or "", sha256=sha256, model=copy, attempt=self.attempt, epoch=epoch, words=words)

    def _setting(self, batch: int | None = None) -> Setting:
        config = self.config
        return Setting(
            dataset=config.dataset, splits=self.splits, image_size=config.image_size, batch=batch or config.batch,
            precision=config.precision, threads=max(1, self.threads), results=Path(config.results),
            device=self.world.device,
        )  # fmt: skip

    def _normalization(self) -> Normalization:
        known = DATASETS[self.config.dataset]
        return Normalization(mean=known.mean, std=known.std, mean_image=self.mean)

    def _shared(self, net: Net, images: int) -> Row:
        protocol = DATASETS[self.config.dataset].eval_protocol
        return rows.of_nets([net]) | {"weights": rows.hashes([net]), "images": images, "protocol": protocol}

    def _write(self, split: Split, table: str, found: list[Row], evaluation_id: str = "", part: int = 0) -> None:
        if self.world.rank == 0:
            rows.write(self._setting(), split, table, found, evaluation_id or rows.new_id(table), part)
