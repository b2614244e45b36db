"""How long a launch takes: one program's timeline, and the programs that share a multiprocessor and the memory.

Of the programs on a multiprocessor each waits for latencies by itself, and for the busiest unit and the memory behind
the others: a closed queueing network of two stations, whose cycle time mean-value analysis gives for as many customers
as there are resident programs. Nothing in it is fitted to a measurement.

Source: Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing networks", 1980.
"""

from dataclasses import dataclass

from bench.machine_code.timeline import Alone
from kernels.aot.sass import Path

ASYNCHRONOUS = "LDGSTS"


@dataclass(frozen=True)
class Rates:
    """Of a whole GPU.

    Attributes:
        copy_bytes_per_s: measured, bytes read and written together.
        flops_per_s: measured, of a large matrix product.
        clock_hz: of the multiprocessors.
        processors: how many there are.
    """

    copy_bytes_per_s: float
    flops_per_s: float
    clock_hz: float
    processors: int

    @property
    def cycles_per_flop(self) -> float:
        """Of the matrix units of one multiprocessor."""
        return self.clock_hz * self.processors / self.flops_per_s

    @property
    def cycles_per_byte(self) -> float:
        """Of one multiprocessor's share of the memory's rate."""
        return self.clock_hz * self.processors / self.copy_bytes_per_s


@dataclass(frozen=True)
class Prediction:
    """Seconds of a launch.

    Attributes:
        issue_s, shared_s, special_s, matrix_s: that the units of all multiprocessors are kept busy.
        memory_s: the least bytes at the copy rate.
        latency_s: of one program by itself, memory's own time left out.
        total_s: of the launch.
        bound: what takes the most of it: a unit, "memory", or "latency" where programs wait longer by themselves.
    """

    issue_s: float
    shared_s: float
    special_s: float
    matrix_s: float
    memory_s: float
    latency_s: float
    total_s: float
    bound: str


def predict(
    alone: Alone, tail_cycles: float, path: Path, *, moved: int, programs: int, resident: int, rates: Rates
) -> Prediction:
    """Time of a launch.

    Args:
        alone: of one program.
        tail_cycles: of what only the last program does.
        path: for what is copied while the loop goes on.
        moved: least bytes of the launch.
        programs: of the launch.
        resident: of them on a multiprocessor at once.
    """
    memory = moved / programs * rates.cycles_per_byte
    unit = alone.busy.most
    thinking = max(alone.cycles - unit, 0.0)
    hidden = min(memory * asynchronous_part(path), alone.loop_cycles)
    of_one = programs / rates.processors  # that a multiprocessor runs in all
    at_once = max(min(resident, -(-programs // rates.processors)), 1)
    cycles = cycle_time(thinking, (unit, memory), hidden, at_once) * max(of_one / at_once, 1.0) + tail_cycles
    shares = {name: getattr(alone.busy, name) * of_one for name in ("issue", "shared", "special", "matrix")}
    shares |= {"memory": memory * of_one}
    bound = max(shares, key=lambda name: shares[name])
    if thinking * of_one / at_once > shares[bound]:
        bound = "latency"
    seconds = {f"{name}_s": value / rates.clock_hz for name, value in shares.items()}
    return Prediction(**seconds, latency_s=alone.cycles / rates.clock_hz, total_s=cycles / rates.clock_hz, bound=bound)


def cycle_time(thinking: float, demands: tuple[float, ...], hidden: float, customers: int) -> float:
    """Cycles from one program's beginning to its end among `customers` that are there all the time.

    Args:
        thinking: cycles in which a program waits for nobody else.
        demands: cycles that it keeps each station busy.
        hidden: cycles of them that overlap with others of its own.
    """
    waiting = [0.0] * len(demands)
    total = 0.0
    for present in range(1, customers + 1):
        response = [demand * (1.0 + queue) for demand, queue in zip(demands, waiting, strict=True)]
        total = max(thinking + sum(response) - hidden, present * max(demands))
        waiting = [present / total * one for one in response]
    return total


def asynchronous_part(path: Path) -> float:
    """Part of a program's traffic that its loop copies ahead while it computes: all but the first turn's."""
    ahead = whole = 0.0
    turns = max((loop.turns for loop in path.loops), default=1)
    for one, inside in path.executed():
        if one.name in ("LDG", "STG", ASYNCHRONOUS):
            whole += one.access_bytes
            ahead += one.access_bytes if inside and one.name == ASYNCHRONOUS else 0
    return ahead / whole * (1.0 - 1.0 / turns) if whole else 0.0
