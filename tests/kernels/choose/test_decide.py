"""What is chosen: by policy, and by an injected timer, since nothing is timed in the interpreter."""

import dataclasses
import functools

import pytest
import torch

from kernels import runtime
from kernels.chips import CHIPS
from kernels.choose import candidates, choice, decide
from kernels.choose.cache import ChoiceCache
from kernels.choose.choice import name, options
from kernels.choose.decide import TORCH, Choice, ConvSite, measure_choices, static_choice
from kernels.choose.timer import CudaDevice, DeviceTimer
from kernels.tiles.tile_configs import fitting_configs

INNER = ConvSite(1, 1, 32, 32, 2, 4, 4, "float16", "inner")
SHORTCUT = ConvSite(1, 2, 16, 32, 2, 4, 4, "float16", "shortcut")
CHIP = runtime.chip(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
LAST = options(INNER, "dgrad", CHIP)[-1]


class FakeTimer:
    """Microseconds by the longest beginning of a candidate's name that `us` has, else 10."""

    def __init__(self, **us: float) -> None:
        self.us = {key.replace("_", " "): value for key, value in us.items()}
        self.called: list[str] = []

    def __call__(self, candidate) -> float:
        self.called.append(candidate.name)
        known = [key for key in self.us if candidate.name.startswith(key)]
        return self.us[max(known, key=len)] if known else 10.0


@pytest.fixture
def cache(tmp_path):
    return ChoiceCache(tmp_path)


@pytest.fixture
def chosen(device, cache, monkeypatch):
    """Decide for one site with a timer, all candidates being right."""
    monkeypatch.setattr(decide, "_check", lambda chain, part, rejected: chain.candidates(part))
    return lambda site, timer: measure_choices([site], device, timer=timer, cache=cache)[site]


@pytest.fixture
def two_configs(monkeypatch):
    """Fewer configurations to be checked: the default one and LAST."""
    monkeypatch.setattr(choice, "fitting_configs", lambda *shape: (fitting_configs(*shape)[0], LAST))


def imagenet(kernel, stride, c_in, c_out, size, role, *rest):
    return ConvSite(kernel, stride, c_in, c_out, 256, size, size, "bfloat16", role, *rest)


@pytest.mark.parametrize(
    ("site", "forward", "dgrad", "inference"),
    [
        (imagenet(1, 1, 256, 64, 56, "first", "identity", True), "triton", "triton", "triton"),
        (imagenet(1, 1, 64, 256, 56, "inner"), "triton", "triton", "triton"),
        (imagenet(1, 1, 64, 256, 56, "shortcut"), "triton", "torch", "triton"),
        (imagenet(1, 1, 256, 128, 56, "first", "projection", True, 2), "torch", "triton", "triton"),
        (imagenet(1, 2, 256, 128, 56, "first", "projection", True, 2), "torch", "torch", "triton"),
        (imagenet(1, 1, 512, 128, 28, "first", "identity", True), "torch", "triton", "triton"),
        (imagenet(1, 1, 512, 128, 28, "first"), "torch", "torch", "triton"),
        (imagenet(1, 1, 128, 512, 28, "inner"), "torch", "torch", "triton"),
        (imagenet(1, 1, 512, 256, 28, "first", "projection", True, 2), "torch", "torch", "triton"),
        (imagenet(3, 1, 64, 64, 56, "inner"), "torch", "torch", "triton"),
        (imagenet(3, 1, 64, 64, 32, "inner"), "prologue", "triton", "triton"),
        (imagenet(3, 1, 128, 128, 28, "inner"), "torch", "torch", "triton"),
        (imagenet(3, 2, 128, 128, 56, "inner"), "torch", "torch", "triton"),
        (imagenet(3, 1, 256, 256, 14, "inner"), "torch", "torch", "torch"),
        (imagenet(1, 2, 256, 512, 56, "shortcut"), "torch", "torch", "triton"),
        (imagenet(1, 1, 512, 2048, 7, "inner"), "torch", "torch", "torch"),
        (imagenet(1, 1, 1024, 512, 14, "first", "projection", True, 2), "torch", "torch", "torch"),
        (ConvSite(3, 1, 16, 16, 128, 32, 32, "bfloat16", "inner"), "prologue", "triton", "triton"),
        (ConvSite(3, 1, 64, 64, 128, 8, 8, "float32", "first", "identity", True), "triton", "triton", "triton"),
        (ConvSite(3, 2, 16, 32, 128, 32, 32, "float16", "first", "padded", True, 2), "torch", "torch", "triton"),
        (ConvSite(1, 1, 8, 64, 128, 32, 32, "bfloat16", "inner"), "torch", "torch", "torch"),
        (ConvSite(1, 1, 36, 64, 128, 32, 32, "bfloat16", "inner"), "torch", "torch", "torch"),
        (ConvSite(1, 1, 64, 64, 128, 32, 32, "float64", "inner"), "torch", "torch", "torch"),
    ],
    ids=str,
)
def test_policy(site, forward, dgrad, inference):
    for chip in CHIPS:
        assert static_choice(site, chip) == Choice(forward, dgrad, inference)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "site",
    [
        INNER,
        ConvSite(3, 1, 16, 16, 2, 5, 7, "bfloat16", "inner"),
        ConvSite(1, 1, 32, 16, 1, 8, 7, "float16", "first", "padded", True, 2),
        ConvSite(1, 1, 32, 16, 2, 5, 5, "bfloat16", "first", "projection", True, 2),
        ConvSite(3, 1, 16, 24, 2, 8, 8, "float16", "first", "identity", True),
        ConvSite(3, 1, 16, 16, 2, 5, 5, "float16", "first"),
        ConvSite(3, 2, 16, 32, 2, 7, 7, "float16", "first", "padded", True, 2),
        ConvSite(1, 2, 16, 32, 2, 7, 7, "float16", "first", "projection", True, 2),
        ConvSite(1, 2, 16, 32, 2, 7, 7, "float16", "first"),
        SHORTCUT,
    ],
    ids=str,
)
def test_every_candidate_of_every_kind_of_link_is_right(site, device, cache):
    decision = measure_choices([site], device, timer=FakeTimer(), cache=cache).decisions[site]
    assert not decision.rejected
    modes = {part: {timed.split()[1] for timed in decision.times_us if timed.startswith(part)} for part in choice.PARTS}
    gradient_is_ours = site.stride == 1 or site.role == "shortcut"
    prologue = gradient_is_ours and site.role == "inner"
    assert modes == {
        "forward": {"torch", "triton"} | ({"prologue"} if prologue else set()),
        "dgrad": {"torch"} | ({"triton"} if gradient_is_ours else set()) | ({"triton+z"} if prologue else set()),
        "inference": {"torch", "triton"},
    }


def test_the_slower_loses_in_each_part(chosen):
    choice = chosen(INNER, FakeTimer(forward_triton=8, dgrad_triton=12, inference_triton=7))
    assert (choice.forward, choice.dgrad, choice.inference) == ("triton", "torch", "triton")
    assert choice.forward_config == options(INNER, "forward", CHIP)[0] and choice.dgrad_config is None


def test_the_fastest_configuration_wins(chosen):
    timer = FakeTimer(forward_triton=8, **{name("dgrad", "triton", LAST): 5})
    choice = chosen(INNER, timer)
    assert choice.dgrad_config == LAST
    # Those far behind the best of their mode are timed once, the others in every round.
    counts = {timed: timer.called.count(timed) for timed in set(timer.called)}
    assert counts[name("dgrad", "triton", LAST)] == counts["dgrad torch"] == decide.ROUNDS
    behind = [
        name("dgrad", "triton", tile_config) for tile_config in options(INNER, "dgrad", CHIP) if tile_config != LAST
    ]
    assert behind and all(counts[timed] == 1 for timed in behind)


def test_medians_over_rounds_are_compared(chosen):
    times = iter([1.0, 30.0, 31.0])
    timer = FakeTimer()
    first = options(SHORTCUT, "dgrad", CHIP)[0]
    choice = chosen(SHORTCUT, lambda c: next(times) if c.name == name("dgrad", "triton", first) else timer(c))
    assert choice.dgrad == "torch"


@pytest.mark.parametrize(("us", "winner"), [(10.0, "torch"), (9.9, "torch"), (9.89, "triton"), (10.1, "torch")])
def test_torch_wins_ties(chosen, us, winner):
    choice = chosen(INNER, FakeTimer(forward_triton=us, dgrad_triton=us, inference_triton=us, forward_prologue=99))
    assert (choice.forward, choice.dgrad, choice.inference) == (winner,) * 3
    if winner == "triton":
        assert choice.forward_config == options(INNER, "forward", CHIP)[0]


def test_a_prologue_is_chosen_with_the_dgrad_that_writes_z(chosen):
    timer = FakeTimer(forward_prologue=5, **{"dgrad_triton+z": 11, name("dgrad", "triton+z", LAST): 10.5})
    choice = chosen(INNER, timer)
    assert (choice.forward, choice.dgrad, choice.dgrad_config) == ("prologue", "triton", LAST)
    assert choice.names["dgrad"] == name("dgrad", "triton+z", LAST)


def test_a_prologue_pays_for_z(chosen):
    assert chosen(INNER, FakeTimer(forward_prologue=5, **{"dgrad_triton+z": 14.9})).forward == "torch"
    with pytest.raises(ValueError, match="dgrad=torch with forward=prologue.*nearest is triton"):
        Choice(forward="prologue", dgrad="torch")


def plant(monkeypatch, op, spoil, tile_config=LAST, **when):
    """Spoil what an op returns with one configuration (and with the keyword arguments `when`)."""
    right = getattr(candidates, op)

    def planted(*arguments, **keywords):
        result = right(*arguments, **keywords)
        if keywords["tile_config"] == tile_config and all(keywords.get(key) == value for key, value in when.items()):
            return spoil(result)
        return result

    monkeypatch.setattr(candidates, op, planted)


def _raise(error):
    raise error


def _one_pixel(outputs):
    outputs[0][0, 0, 0, 0] += 1.0
    return outputs


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("op", "when", "spoil", "names", "reason"),
    [
        ("conv1x1", {"prologue": None}, _one_pixel, ["forward triton"], "y is off by"),
        ("conv1x1", {}, lambda r: (r[0], r[1] * 1.001), ["forward triton", "forward prologue"], "mean is off by"),
        ("conv1x1", {}, lambda r: (r[0] * torch.nan, r[1]), ["forward triton", "forward prologue"], "y is off by nan"),
        ("conv_dgrad", {"write_activation": False}, _one_pixel, ["dgrad triton"], "g is off by"),
        (
            "conv_dgrad",
            {"write_activation": False},
            lambda r: (r[0], r[1] * 0.99, None),
            ["dgrad triton"],
            "sum of g is",
        ),
        ("conv_dgrad", {"write_activation": True}, lambda r: (*r[:2], r[2] * 1.01), ["dgrad triton+z"], "z is off by"),
        ("conv_dgrad", {"write_activation": True}, lambda r: (*r[:2], None), ["dgrad triton+z"], "z is off by nan"),
        ("conv_inference", {}, lambda r: r * 1.01, ["inference triton"], "z is off by"),
        (
            "conv_inference",
            {},
            lambda r: _raise(RuntimeError("out of\nshared memory")),
            ["inference triton"],
            "out of shared",
        ),
    ],
)
def test_a_wrong_or_failing_configuration_is_rejected_and_not_timed(
    monkeypatch, two_configs, device, cache, op, when, spoil, names, reason
):
    plant(monkeypatch, op, spoil, **when)
    timer = FakeTimer(**{f"{planted}_{LAST}": 0.1 for planted in names}, forward_triton=8, dgrad_triton=8)
    decision = measure_choices([INNER], device, timer=timer, cache=cache).decisions[INNER]
    assert list(decision.rejected) == [f"{planted} {LAST}" for planted in names]
    for planted, why in decision.rejected.items():
        assert reason in why and "\n" not in why
        assert planted not in timer.called and planted not in decision.times_us
        assert planted not in decision.choice.names.values()


@pytest.mark.interpreted
def test_what_a_kernel_leaves_unwritten_is_seen(monkeypatch, two_configs, device, cache):
    empty = lambda shape, dtype, device: torch.zeros(tuple(shape), dtype=dtype, device=device)  # noqa: E731
    monkeypatch.setattr(runtime, "empty", empty)  # not the tests' poison: the check has its own

    def unwritten(x, *rest, tile_config, **keywords):
        return (
            runtime.empty_image(*x.shape, x.dtype, x.device)
            if tile_config == LAST
            else exact(x, *rest, tile_config=tile_config, **keywords)
        )

    exact = candidates.conv_inference
    monkeypatch.setattr(candidates, "conv_inference", unwritten)
    decision = measure_choices([INNER], device, timer=FakeTimer(), cache=cache).decisions[INNER]
    assert "nan" in decision.rejected[f"inference triton {LAST}"]
    assert runtime.empty is empty


@pytest.mark.interpreted
def test_counters_that_a_failed_kernel_left_are_reset(monkeypatch, two_configs, device, cache):
    first = options(INNER, "forward", CHIP)[0]

    def spoil(result):
        runtime.counters(8, device).fill_(1)
        raise RuntimeError("illegal")

    plant(monkeypatch, "conv1x1", spoil, tile_config=first)
    assert len(measure_choices([INNER], device, timer=FakeTimer(), cache=cache).decisions[INNER].rejected) == 2


@pytest.mark.interpreted
def test_without_its_dgrad_there_is_no_prologue(monkeypatch, two_configs, device, cache):
    right = candidates.conv_dgrad
    fails = lambda *a, **k: _raise(RuntimeError("spills")) if k["write_activation"] else right(*a, **k)  # noqa: E731
    monkeypatch.setattr(candidates, "conv_dgrad", fails)
    decision = measure_choices([INNER], device, timer=FakeTimer(forward_prologue=1), cache=cache).decisions[INNER]
    assert decision.choice == TORCH and len(decision.rejected) == 2


@pytest.mark.interpreted
def test_a_candidate_that_fails_when_timed_is_rejected(device, cache):
    def timer(candidate):
        if candidate.mode != "torch" and candidate.part == "inference":
            raise torch.OutOfMemoryError("out of memory")
        return 10.0

    decision = measure_choices([SHORTCUT], device, timer=timer, cache=cache).decisions[SHORTCUT]
    assert decision.choice == TORCH
    assert all("out of memory" in why for why in decision.rejected.values()) and decision.rejected
    assert not any(timed.startswith("inference triton") for timed in decision.times_us)


@pytest.mark.interpreted
def test_nothing_is_compared_with_a_wrong_torch_chain(monkeypatch, device, cache):
    monkeypatch.setattr(candidates, "bn_stats", lambda y, running: y.new_full((2, y.shape[1]), torch.nan).float())
    with pytest.raises(RuntimeError, match="mean of forward torch is off by nan"):
        measure_choices([INNER], device, timer=FakeTimer(), cache=cache)


@pytest.mark.parametrize("us", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timer_gives_positive_numbers(chosen, us):
    with pytest.raises(ValueError, match="forward torch: the timer gave"):
        chosen(SHORTCUT, lambda candidate: us)


def test_other_dtypes_and_channels_are_torchs_unmeasured(device, cache):
    timer = FakeTimer()
    sites = [dataclasses.replace(INNER, dtype="float32"), dataclasses.replace(INNER, dtype="float64")]
    sites += [dataclasses.replace(INNER, c_in=20), dataclasses.replace(INNER, c_out=8)]
    table = measure_choices(sites, device, timer=timer, cache=cache)
    assert set(table.values()) == {TORCH} and not timer.called
    assert [row.ratio for row in table.rows()] == [None] * 4


@pytest.mark.interpreted
def test_a_link_is_measured_once_and_announced(device, cache):
    timer, lines = FakeTimer(forward_triton=5), []
    table = measure_choices([SHORTCUT, SHORTCUT], device, timer=timer, cache=cache, announce=lines.append)
    assert len(table) == 1 and timer.called.count("forward torch") == decide.ROUNDS
    (line,) = [line for line in lines if not line.startswith("kernels: ")]  # on a GPU it says what it compiles, too
    assert line.startswith("kernels 1/1: 1x1/2 16->32 2x4x4 float16 shortcut: forward triton")
    assert line.endswith("1.33x of torch's speed")


def test_cudnns_search_is_on_while_candidates_run(monkeypatch, chosen):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    seen = []
    chosen(SHORTCUT, lambda candidate: seen.append(torch.backends.cudnn.benchmark) or 1.0)
    assert set(seen) == {True} and torch.backends.cudnn.benchmark is False


def test_nothing_is_timed_without_a_gpu():
    with pytest.raises(ValueError, match="nothing is timed on cpu; expected a CUDA device, nearest is static_choice"):
        measure_choices([INNER], torch.device("cpu"))


def test_nothing_is_timed_while_a_graph_is_captured(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="a CUDA graph is being captured") as error:
        measure_choices([INNER], device, timer=FakeTimer())
    assert "\n" not in str(error.value)


def test_candidates_turn_round_every_other_round(chosen):
    timer = FakeTimer()
    chosen(SHORTCUT, timer)
    forward = [timed for timed in timer.called if timed.startswith("forward")]
    count = len(forward) // decide.ROUNDS
    rounds = [forward[turn * count : (turn + 1) * count] for turn in range(decide.ROUNDS)]
    assert count > 1 and rounds[0][0] == "forward torch"
    assert rounds[1] == rounds[0][::-1] and rounds[2] == rounds[0]


def test_a_candidate_takes_the_median_of_cold_runs():
    asked = []

    class Timer(DeviceTimer):
        def samples(self, run, *, repeats, cold):
            asked.append((run, repeats, cold))
            return [900.0, 50.0, 70.0]

    assert decide.cold_us(Timer(None), len) == 70.0
    assert asked == [(len, decide.REPEATS, True)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_longer_work_takes_longer(device, cache):
    timer = functools.partial(decide.cold_us, DeviceTimer(CudaDevice(device)))
    small, large = torch.ones(2**20, device=device), torch.ones(2**28, device=device)
    assert 0 < timer(small.neg) < 0.5 * timer(large.neg)
    site = ConvSite(1, 1, 64, 64, 32, 28, 28, "bfloat16", "inner")
    decision = measure_choices([site], device, cache=cache).decisions[site]
    assert {"forward torch", "dgrad torch", "inference torch"} <= decision.times_us.keys()
