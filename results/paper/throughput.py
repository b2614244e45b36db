"""Training rates of ResNet-50, published beside measured: of one GPU model, and only where images were read as well."""

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from results.identity import benchmark_of, system_parts
from results.paper.measured import Store, finite, when_of
from results.paper.rules import marks_of
from results.published.throughput import RATES, TIMES, Rate, Time
from results.store.schema import Row

__all__ = ["TITLE", "Measured", "RateTable", "build"]

TITLE = "ResNet-50 v1.5 at 224 pixels: training images a second and GPU"
# What tells a card of the same name from the one that was published, which is of the fast sockets.
_OTHERS = ("PCIe", "NVL", "MIG")
_NET = {
    "family": "imagenet", "depth": 50, "shortcut": "B", "stride": "v1.5", "image_size": 224, "num_classes": 1000,
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Runs that agree in everything but when they ran; the median of their rates.

    Attributes:
        gpu: model, as the driver names it.
        gpus: of the whole run.
        what: "training", or what was left out of it.
        loader, engine, zero_stage, recipe: as of column; None where not recorded, and for a step without training.
        images_per_s: of one GPU.
        minutes: to the target, median of the runs that reached it; None where none did.
        top1: the target; None where there was none.
    """

    gpu: str
    gpus: int
    what: str
    kernels: str
    precision: str
    batch: int | None
    loader: str | None
    engine: str | None
    zero_stage: int | None
    recipe: str | None
    images_per_s: float
    run_ids: tuple[str, ...]
    marks: tuple[str, ...]
    minutes: float | None = None
    top1: float | None = None

    @property
    def setting(self) -> str:
        """How it ran, with everything that tells two groups on the same GPUs apart but what was left out."""
        said = [self.kernels]
        said += [f"batch {self.batch}"] if self.batch is not None else []
        said += [one for one in (self.loader, self.engine) if one is not None]
        said += [f"ZeRO {self.zero_stage}"] if self.zero_stage is not None else []
        said += [f"recipe={self.recipe}"] if self.recipe is not None else []
        return ", ".join(said)

    @property
    def comparable(self) -> bool:
        """Whether a published rate may stand beside it: that of whole training, images read and decoded."""
        return self.what == "training"

    def same_gpu(self, name: str) -> bool:
        """Whether it ran on the GPU of a published figure."""
        return bool(re.search(rf"\b{re.escape(name)}\b", self.gpu)) and not any(word in self.gpu for word in _OTHERS)


@dataclass(frozen=True)
class RateTable:
    """The table.

    Attributes:
        gpus: names of published GPUs, each with its published rates, times, and what was measured of whole training.
        apart: measured without images, on other GPUs.
        missing: by GPU without a measured training, the command that would fill it.
    """

    word: str
    title: str
    gpus: dict[str, tuple[list[Rate], list[Time], list[Measured]]]
    apart: list[Measured]
    missing: dict[str, str]
    notes: list[str]


def build(store: Store) -> RateTable:
    """Lay the rates of a store beside the published ones."""
    measured = _measured(store.runs)
    gpus: dict[str, tuple[list[Rate], list[Time], list[Measured]]] = {}
    for name in sorted({*(rate.gpu for rate in RATES), *(time.gpu for time in TIMES)}):
        own = [one for one in measured if one.comparable and one.same_gpu(name)]
        rates, times = [rate for rate in RATES if rate.gpu == name], [time for time in TIMES if time.gpu == name]
        gpus[name] = (rates, times, own)
    shown = {id(one) for _, _, own in gpus.values() for one in own}
    missing = {name: _command(rates) for name, (rates, _, own) in gpus.items() if not own}
    notes = [f"cannot be read: {file.path}: {file.reason}" for file in store.bad]
    apart = [one for one in measured if id(one) not in shown]
    return RateTable("table=throughput", TITLE, gpus, apart, missing, notes)


def _command(rates: Iterable[Rate]) -> str:
    ranks = max((one.gpus or 1 for one in rates), default=1)
    words = f"depth=50 stride=v1.5 dataset=imagenet data=PATH epochs=1 ranks_per_node={ranks}"
    return f"python launch/local.py {words}"


def _measured(runs: Iterable[Row]) -> list[Measured]:
    groups: dict[Measured, list[Row]] = {}
    for row in runs:
        if (key := _key(row)) is not None:
            groups.setdefault(key, []).append(row)
    found = []
    for key, rows in groups.items():
        rows.sort(key=when_of)
        rates = [row["images_per_s"] / key.gpus for row in rows]
        reached = [row["tta_s"] / 60 for row in rows if finite(row.get("tta_s"))]
        marks = tuple(sorted({mark for row in rows for mark in marks_of(row)}))
        found.append(
            replace(
                key,
                images_per_s=statistics.median(rates),
                run_ids=tuple(row["run_id"] for row in rows),
                marks=marks,
                minutes=statistics.median(reached) if reached else None,
            )  # fmt: skip
        )
    return sorted(found, key=lambda one: (one.gpu, one.what, -one.images_per_s))


def _key(row: Row) -> Measured | None:
    """What runs of a group share, without their figures; None of a run that says nothing of the table."""
    benchmark = benchmark_of(row)
    if row["status"] != "completed" or benchmark == "micro" or not finite(row.get("images_per_s")):
        return None
    processors, _ = system_parts(row.get("hardware"))
    number, _, model = (processors or "").partition("x")
    if any(row.get(name) != value for name, value in _NET.items()) or "NVIDIA" not in model or not number.isdecimal():
        return None
    what = "training"
    if benchmark == "step":
        what = "a step, no images read" + (", CUDA graph" if row.get("cuda_graph") else "")
    elif row.get("synthetic") or row.get("loader") == "synthetic":
        what = "training on SYNTHETIC images"
    return Measured(
        gpu=model, gpus=row.get("world_size") or 1, what=what, kernels=row.get("kernels") or "unknown",
        precision=row.get("precision") or "unknown", batch=row.get("batch_per_device"), loader=row.get("loader"),
        engine=row.get("engine"), zero_stage=row.get("zero_stage"), recipe=row.get("recipe"),
        top1=row.get("target_top1"), images_per_s=0.0, run_ids=(), marks=(),
    )  # fmt: skip
