"""Which nets are timed, and which kernels and backends on each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.config.grammar import WordError, key, parse
from bench.config.paths import check_folder
from bench.micro.measure import BACKENDS
from bench.micro.ops import OPS
from bench.roofline.net_keys import NetKeys
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.tiles import tile_configs
from results.store.files import attempt_name
from results.words import DEFAULT_ROOT


@dataclass(kw_only=True)
class Keys(NetKeys):
    """Words of the command line, behind those that name the net."""

    op: str = key("which kernels", "all", default="all", choices=("all", *OPS))
    backend: str | None = key("what computes them, in turn in one process", "all", choices=BACKENDS)
    rounds: int = key("turns of all backends", "10", default=10, least=2)
    repeats: int = key("samples of each backend in a turn", "5", default=5, least=1)
    seed: int = key("of the random operands", "0", default=0, least=0, most=2**31 - 1)
    tile_config: str | None = key(
        "of our convolutions: MxNxK/wWARPS/sSTAGES, such as 128x64x64/w4/s3",
        "the shape's default",
        text="a tile config",
    )
    run: str | None = key("id of a run to go on with: what it has is left out", "a new run", text="an id")
    results: str = key("folder that rows are written to", "results/v1", default=str(DEFAULT_ROOT), path=True)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One net and precision to time: `keys` of the cell, with all its ops and backends.

    Attributes:
        ops: in the order of `OPS`.
        backends: in the order of `BACKENDS`.
        tile_config: of our convolutions; None for that of each shape.
    """

    keys: Keys
    step: Step
    ops: tuple[str, ...]
    backends: tuple[str, ...]
    tile_config: TileConfig | None = None

    def config(self) -> dict[str, Any]:
        """What is measured."""
        keys = self.keys
        return {
            "benchmark": "micro", "depth": keys.depth, "shortcut": self.step.architecture.shortcut,
            "stride": self.step.architecture.stride, "family": self.step.architecture.family,
            "batch": self.step.batch, "image_size": self.step.image_size, "precision": keys.precision,
            "rounds": keys.rounds, "repeats": keys.repeats, "seed": keys.seed, "ops": self.ops,
            # "cut" is the stored name of the tile config, by which rows compare with older ones.
            "backends": self.backends, "cut": None if self.tile_config is None else str(self.tile_config),
        }  # fmt: skip


def plan(words: Sequence[str]) -> list[Plan]:
    """Group a command line's cells by net and precision.

    Raises:
        WordError, ValueError: one line that names the word and what would do instead.
    """
    if old := next((word for word in words if word.startswith("cut=")), None):
        raise WordError(f"{old}: the key is now tile_config; nearest is {old.replace('cut', 'tile_config', 1)}")
    grouped: dict[str, list[Keys]] = {}
    for cell in parse(words, Keys):
        grouped.setdefault(repr(replace(cell, op="all", backend=None)), []).append(cell)
    plans = []
    for cells in grouped.values():
        keys = replace(cells[0], results=str(check_folder("results", cells[0].results)))
        if keys.run is not None:
            try:
                attempt_name(keys.run, 0)
            except ValueError as error:
                raise WordError(f"run={keys.run}: no id of a run: {error}") from None
        step = keys.step()
        typed = {cell.op for cell in cells}
        ops = tuple(op for op in OPS if op in typed or "all" in typed)
        backends = tuple(one for one in BACKENDS if one in {cell.backend for cell in cells} or not keys.backend)
        plans.append(
            Plan(
                keys=keys,
                step=step,
                ops=ops,
                backends=backends,
                tile_config=_tile_config(keys.tile_config, ops, backends),
            )
        )
    if len(plans) > 1 and plans[0].keys.run:
        raise WordError(
            f"run={plans[0].keys.run}: {len(plans)} nets, precisions or tile configs are swept; a run is of one"
        )
    return plans


def _tile_config(text: str | None, ops: Sequence[str], backends: Sequence[str]) -> TileConfig | None:
    if text is None:
        return None
    if "triton" not in backends:
        typed = ",".join(backends)
        raise WordError(f"tile_config={text}: is of our kernels, and backend={typed} has none; add backend=triton")
    others = [op for op in ops if not OPS[op].conv]
    if others:
        convs = ",".join(name for name, op in OPS.items() if op.conv)
        raise WordError(f"tile_config={text}: {others[0]} is no convolution; nearest is op={convs}")
    try:
        return tile_configs.parse(text)
    except ValueError as error:
        raise WordError(f"tile_config={error}") from None
