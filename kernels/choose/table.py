"""The table of choices: what was chosen for every site, what it was measured against, and the same on all ranks."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch.distributed as dist
from rich.table import Table as RichTable
from rich.text import Text

from kernels.choose.choice import PARTS, Choice
from kernels.choose.sites import ConvSite, site_from_dict

__all__ = ["Decision", "Row", "Table", "agree"]


@dataclass(frozen=True)
class Decision:
    """A choice and what it rests on; nothing where it was not measured.

    Attributes:
        times_us: microseconds of every candidate's chain, by its name.
        rejected: of candidates that failed their check or did not run, the reason, by name.
    """

    choice: Choice
    times_us: Mapping[str, float] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, for JSON."""
        return {"choice": self.choice.to_dict(), "times_us": dict(self.times_us), "rejected": dict(self.rejected)}

    @classmethod
    def from_dict(cls, values: Any) -> "Decision":
        """The inverse of `to_dict`, also of what JSON made of it.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(values, dict) or values.keys() != {"choice", "times_us", "rejected"}:
            raise ValueError(f"no Decision: {values!r:.80}")
        choice = Choice.from_dict(values["choice"])
        times, rejected = values["times_us"], values["rejected"]
        if not isinstance(times, dict) or not all(type(us) is float and 0 < us < math.inf for us in times.values()):
            raise ValueError(f"no Decision: times_us {times!r:.80}")
        if not isinstance(rejected, dict) or not all(isinstance(reason, str) for reason in rejected.values()):
            raise ValueError(f"no Decision: rejected {rejected!r:.80}")
        for name in (*TORCH_NAMES.values(), *choice.names.values()) if times else ():
            if name not in times:
                raise ValueError(f"no Decision: {name:.80} was not measured")
        return cls(choice, times, rejected)


@dataclass(frozen=True)
class Row:
    """A site as a reader of the table sees it; times and ratios are None where nothing was measured.

    Attributes:
        forward, dgrad, inference: "cuDNN", or our mode and its configuration.
        torch_us, chosen_us: forward and dgrad chains together.
        ratio: torch_us / chosen_us; 1 where cuDNN won.
        inference_torch_us, inference_chosen_us, inference_ratio: the same of the inference chain.
        rejected: how many candidates, and the reason of the first.
    """

    layer: str
    role: str
    forward: str
    dgrad: str
    inference: str
    torch_us: float | None
    chosen_us: float | None
    ratio: float | None
    inference_torch_us: float | None
    inference_chosen_us: float | None
    inference_ratio: float | None
    rejected: str


@dataclass(frozen=True, eq=False)
class Table(Mapping[ConvSite, Choice]):
    """What was chosen for each site.

    Attributes:
        decisions: by site.
        device: name of the GPU that it was measured on, "" where nothing was.
    """

    decisions: Mapping[ConvSite, Decision]
    device: str = ""

    def __getitem__(self, site: ConvSite) -> Choice:
        return self.decisions[site].choice

    def __iter__(self) -> Iterator[ConvSite]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (dict(self.decisions), self.device) == (dict(other.decisions), other.device)

    def hash(self) -> str:
        """16 hex digits of the sites and their choices, whatever their order and the times behind them."""
        lines = sorted(_canonical([asdict(site), choice.to_dict()]) for site, choice in self.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line that `from_json` makes an equal table of."""
        decisions = [{"site": asdict(site), **decision.to_dict()} for site, decision in self.decisions.items()]
        return json.dumps({"device": self.device, "decisions": decisions}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Table":
        """The inverse of `to_json`.

        Raises:
            ValueError: anything else.
        """
        content = json.loads(text)
        try:
            device, entries = content["device"], content["decisions"]
            decisions = {site_from_dict(entry.pop("site")): Decision.from_dict(entry) for entry in entries}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no table of choices: {text:.80}") from error
        return cls(decisions, str(device))

    def rows(self) -> list[Row]:
        """What `render` shows, a site a row."""
        return [_row(site, decision) for site, decision in self.decisions.items()]

    def render(self) -> RichTable:
        """For a console: what runs each layer, and what the chain that it replaces takes."""
        where = f" on {self.device}" if self.device else ", not measured"
        table = RichTable(title=f"kernels{where} ({self.hash()})", caption="us of the whole chain: torch -> chosen")
        for column in ("layer", "role", "forward", "dgrad", "training us", "", "inference", "us", "", "rejected"):
            table.add_column(column, justify="right" if column in ("training us", "us", "") else "left")
        for row in self.rows():
            cells = [row.layer, row.role, row.forward, row.dgrad, _us(row.torch_us, row.chosen_us), _times(row.ratio)]
            inference_us = _us(row.inference_torch_us, row.inference_chosen_us)
            cells += [row.inference, inference_us, _times(row.inference_ratio), row.rejected]
            table.add_row(*(Text(cell) for cell in cells))  # not markup: reasons have brackets
        return table


def agree(table: Table | None, group: dist.ProcessGroup | None = None) -> Table:
    """The table of rank 0 on every rank; the same one where there are no ranks.

    Args:
        table: rank 0's; what other ranks have is not looked at.
        group: its first rank counts as rank 0; None for all ranks.

    Raises:
        ValueError: rank 0 has none; raised on every rank.
    """
    text = None if table is None else table.to_json()
    if dist.is_available() and dist.is_initialized():
        message = [text]
        dist.broadcast_object_list(message, src=dist.get_global_rank(group, 0) if group else 0, group=group)
        text = message[0]
    if text is None:
        raise ValueError("kernels: rank 0 has no table of choices; expected the one that it decided")
    return Table.from_json(text)


def _row(site: ConvSite, decision: Decision) -> Row:
    choice, times = decision.choice, decision.times_us
    shown = {
        part: "cuDNN" if getattr(choice, part) == "torch" else choice.names[part].removeprefix(f"{part} ")
        for part in PARTS
    }
    torch_us, chosen_us = (_sum(times, names, PARTS[:2]) for names in (TORCH_NAMES, choice.names))
    inference_torch_us, inference_chosen_us = (_sum(times, names, PARTS[2:]) for names in (TORCH_NAMES, choice.names))
    rejected = [f"{name}: {reason}" for name, reason in decision.rejected.items()]
    return Row(
        layer=str(site),
        role=site.place,
        **shown,
        torch_us=torch_us,
        chosen_us=chosen_us,
        ratio=_ratio(torch_us, chosen_us),
        inference_torch_us=inference_torch_us,
        inference_chosen_us=inference_chosen_us,
        inference_ratio=_ratio(inference_torch_us, inference_chosen_us),
        rejected=f"{len(rejected)}, {rejected[0]}" if rejected else "",
    )


TORCH_NAMES = Choice().names


def _sum(times: Mapping[str, float], names: Mapping[str, str], parts: tuple[str, ...]) -> float | None:
    return sum(times[names[part]] for part in parts) if times else None


def _ratio(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before / after


def _us(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{before:.0f} -> {after:.0f}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
