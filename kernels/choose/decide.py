"""Which kernels run each site of a network: by policy, or by the measured time of every candidate's whole chain."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from kernels import runtime
from kernels.choose.cache import ChoiceCache, identity
from kernels.choose.candidates import Candidate, Chain, cudnn_benchmark
from kernels.choose.choice import PARTS, TORCH, Choice, options, static_choice
from kernels.choose.precompile import precompile, running_target
from kernels.choose.sites import TUNED_DTYPES, ConvSite
from kernels.choose.table import Decision, Row, Table, agree
from kernels.choose.timer import CudaDevice, DeviceTimer, order
from kernels.reference.check import errors, wrong

__all__ = [
    "TORCH",
    "Choice",
    "ChoiceCache",
    "Decision",
    "ConvSite",
    "Row",
    "Table",
    "Timer",
    "agree",
    "measure_choices",
    "static_choice",
]

Timer = Callable[[Callable[[], object]], float]  # microseconds that a callable takes

BROKEN = 0.05  # of torch's own error: nothing could be compared with that
MARGIN = 0.99  # of torch's time that ours has to stay below
REPEATS = 15  # runs in each turn of a candidate
ROUNDS = 3  # interleaved: every candidate in the first, in the others those that came within
CONTENTION = 1.2  # times the best of their mode


def measure_choices(
    sites: Iterable[ConvSite],
    device: torch.device,
    *,
    timer: Timer | None = None,
    cache: ChoiceCache | None = None,
    announce: Callable[[str], None] | None = None,
) -> Table:
    """Choose for each distinct site by measurement; what a cache holds is not measured again.

    Every candidate is first compared with convolutions in fp64 and with torch's own error. One that is further off, or
    does not run, is rejected with the reason and never timed. cuDNN wins unless ours is more than 1% faster; a prologue
    goes with a dgrad of ours that writes z, and both count. Sites in other dtypes than bf16 and fp16, and those that
    no kernel takes, are torch's. On a GPU all candidates are compiled first, on all cores that this process may use.

    Args:
        sites: as often as a network has them.
        device: where they are to run.
        timer: takes a candidate (a callable with a `name`) and gives microseconds; None for `cold_us` on the device.
        cache: where choices are kept; None for the default folder.
        announce: takes a line for each site measured, and what is compiled before; None for no lines.

    Raises:
        ValueError: no timer is given and the device is no GPU.
        RuntimeError: a CUDA graph is being captured, torch's own chain is wrong, or a candidate broke the device.
    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a CUDA graph is being captured, in which kernels cannot be timed; measure_choices comes before it"
        )
    if timer is None:
        if device.type != "cuda" or not torch.cuda.is_available():
            raise ValueError(
                f"measure_choices: nothing is timed on {device}; expected a CUDA device, nearest is static_choice"
            )
        timer = partial(cold_us, DeviceTimer(CudaDevice(device)))
    cache = cache or ChoiceCache()
    chip = runtime.chip(device)
    distinct = list(dict.fromkeys(sites))
    keys = {
        site: identity(device, asdict(site))
        for site in distinct
        if site.dtype in TUNED_DTYPES and any(options(site, part, chip) for part in PARTS)
    }
    limits = chip, runtime.shared_bytes(device)
    kept = {site: cache.load(key, partial(_read, site, *limits)) for site, key in keys.items()}
    if device.type == "cuda":
        missing = [site for site, decision in kept.items() if decision is None]
        _compile_ahead(missing, device, announce or (lambda line: None))
    decisions = {}
    for place, site in enumerate(distinct):
        if site not in keys:
            decisions[site] = Decision(TORCH)
            continue
        decision = kept[site]
        if decision is None:
            decision = measure_site(site, device, timer)
            cache.store(keys[site], decision.to_dict())
            if announce:
                announce(_line(site, decision, place + 1, len(distinct)))
        decisions[site] = decision
    return Table(decisions, torch.cuda.get_device_name(device) if device.type == "cuda" else device.type)


def _compile_ahead(sites: list[ConvSite], device: torch.device, announce: Callable[[str], None]) -> None:
    """Compile what these sites will measure on all cores; one by one it would take many minutes."""
    if not sites:
        return
    announce(f"kernels: compiling the candidates of {len(sites)} kind{'s' * (len(sites) > 1)} of layer")
    start = time.perf_counter()
    try:
        with torch.cuda.device(device):
            count = precompile(sites, runtime.chip(device), running_target())
    except Exception as error:  # of any kind: what is missing is compiled when it is measured
        announce(f"kernels: compiled one by one as they are measured: {' '.join(str(error).split())}")
        return
    announce(f"kernels: {count:,} compiled in {time.perf_counter() - start:.0f} s")


def _read(site: ConvSite, chip: str, most_shared_bytes: int, values: Any) -> Decision:
    """What a cache kept for a site; ValueError where it is none of the site's candidates."""
    decision = Decision.from_dict(values)
    choice = decision.choice
    for part in PARTS:
        mode, tile_config = getattr(choice, part), getattr(choice, f"{part}_config")
        if (
            mode != "torch"
            and tile_config not in options(site, part, chip, most_shared_bytes)
            or mode == "prologue"
            and site.role != "inner"
        ):
            raise ValueError(f"{choice.names[part]} is no candidate")
    return decision


def measure_site(site: ConvSite, device: torch.device, timer: Timer) -> Decision:
    """Check and time every candidate of a site, and choose; see `measure_choices`."""
    times: dict[str, float] = {}
    rejected: dict[str, str] = {}
    valid: list[Candidate] = []
    # cuDNN as it is trained with.
    with torch.no_grad(), torch.autocast(device.type, enabled=False), cudnn_benchmark(True):
        chain = Chain(site, device)
        for part in PARTS:
            passed = _check(chain, part, rejected)
            times |= _time(passed, timer, chain.device, rejected)
            valid += [candidate for candidate in passed if candidate.name in times]
    return Decision(_fastest(valid, times), times, rejected)


def _check(chain: Chain, part: str, rejected: dict[str, str]) -> list[Candidate]:
    """Candidates of a part that compute what they should."""
    exact = chain.exact(part)
    first, *ours = chain.candidates(part)
    own = errors(chain.outputs(first), exact)
    for key, error in own.items():
        if not error <= BROKEN:
            raise RuntimeError(f"{chain.site}: {key} of {first.name} is off by {error:.1e}; nothing compares with that")
    passed = [first]
    for candidate in ours:
        try:
            found = errors(chain.outputs(candidate), chain.owed(candidate, exact))
        except Exception as error:  # of any kind: validation, the compiler and the launch each have their own
            mistakes = [_reason(candidate, chain.device, error)]
        else:
            mistakes = wrong(found, own)
        if not mistakes:
            passed.append(candidate)
            continue
        rejected[candidate.name] = ", ".join(mistakes)
        # It may have left the counters that launches share at anything.
        runtime.counters(runtime.COUNTERS, chain.device).zero_()
    return passed


def _time(
    candidates: list[Candidate], timer: Timer, device: torch.device, rejected: dict[str, str]
) -> dict[str, float]:
    """Medians over rounds in which the candidates take turns, so that a drift of clocks meets all of them."""
    samples: dict[str, list[float]] = {}
    field = candidates
    for turn in range(ROUNDS):
        for candidate in order(field, turn):
            try:
                us = float(timer(candidate))
            except Exception as error:
                if candidate.mode == "torch":
                    raise
                rejected[candidate.name] = _reason(candidate, device, error)
                samples.pop(candidate.name, None)
                field = [other for other in field if other is not candidate]
                continue
            if not 0 < us < math.inf:
                raise ValueError(f"{candidate.name}: the timer gave {us} us; expected a positive number")
            samples.setdefault(candidate.name, []).append(us)
        medians = {name: statistics.median(values) for name, values in samples.items()}
        best: dict[str, float] = {}
        for candidate in field:
            best[candidate.mode] = min(medians[candidate.name], best.get(candidate.mode, math.inf))
        field = [candidate for candidate in field if medians[candidate.name] <= CONTENTION * best[candidate.mode]]
    return medians


def cold_us(timer: DeviceTimer, run: Callable[[], object]) -> float:
    """Median microseconds of `REPEATS` runs with a cold L2: what a layer finds in training, whose tensors are large."""
    return statistics.median(timer.samples(run, repeats=REPEATS, cold=True))


def _fastest(candidates: list[Candidate], times: dict[str, float]) -> Choice:
    """The fastest combination that there is; torch's unless ours is faster by more than the margin."""
    best: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:  # among equals the first stays
        key = candidate.part, candidate.mode
        if key not in best or times[candidate.name] < times[best[key].name]:
            best[key] = candidate

    def us(*chosen: Candidate) -> float:
        return sum(times[candidate.name] for candidate in chosen)

    chosen = {}
    for part in PARTS:
        torchs, ours = best[part, "torch"], best.get((part, "triton"))
        chosen[part] = ours if ours and us(ours) < MARGIN * us(torchs) else torchs
    prologue, writer = best.get(("forward", "prologue")), best.get(("dgrad", "triton+z"))
    if prologue and writer and us(prologue, writer) < MARGIN * us(chosen["forward"], chosen["dgrad"]):
        chosen |= {"forward": prologue, "dgrad": writer}
    forward, dgrad, inference = (chosen[part] for part in PARTS)
    return Choice(
        forward.mode,
        dgrad.mode.removesuffix("+z"),
        inference.mode,
        forward.tile_config,
        dgrad.tile_config,
        inference.tile_config,
    )


def _reason(candidate: Candidate, device: torch.device, error: Exception) -> str:
    """Why a candidate does not run, on one line.

    Raises:
        RuntimeError: nothing else runs on the device any more either.
    """
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError as broken:
            raise RuntimeError(f"{candidate.name} broke {device}: {' '.join(str(broken).split()):.200}") from error
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _line(site: ConvSite, decision: Decision, place: int, count: int) -> str:
    row = Table({site: decision}).rows()[0]
    modes = f"forward {row.forward}, dgrad {row.dgrad}, inference {row.inference}"
    return f"kernels {place}/{count}: {row.layer} {row.role}: {modes}; {row.ratio:.2f}x of torch's speed"
