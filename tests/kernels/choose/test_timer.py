"""The one timer, on a device that is a clock: what is timed, what comes before it, and that no launch gap is in it."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.choose import timer as timer_module
from kernels.choose.timer import FLUSH_BYTES, LEAD_CYCLES, WARM_UPS, DeviceTimer, flush_buffer, order, read

CYCLE_US = 5e-4  # 2 GHz
FLUSH_US = 90.0
EVENT_US = 2.0  # that the host takes to queue one


class FakeEvent:
    def __init__(self, device):
        device.host_us += EVENT_US
        self.device, self.at_us = device, device.queue("event", 0.0)

    def query(self):
        return self.at_us <= self.device.host_us

    def elapsed_time(self, end):
        assert self.device.host_us >= end.at_us, "read before the device was there"
        return (end.at_us - self.at_us) / 1e3


class FakeDevice:
    """A host and a device with a clock each: work begins when it is queued and the device is free, whichever is later.

    Attributes:
        log: what was queued and waited for, in order.
        l2: what is in the cache: the last thing that ran.
    """

    def __init__(self):
        self.host_us = self.device_us = 0.0
        self.log, self.l2, self.leads = [], "", []

    def queue(self, what, us, launch_us=0.0):
        """Queue work; returns when the device has done it."""
        self.host_us += launch_us
        self.device_us = max(self.device_us, self.host_us) + us
        self.log.append(what)
        return self.device_us

    def run(self, name, us=3.0, launches=1, launch_us=5.0):
        """A run that takes the device `us` in all, and longer where something else lies in the cache."""

        def go():
            for _ in range(launches):
                self.queue(name, us / launches * (1 if self.l2 == name else 2), launch_us)
            self.l2 = name

        return go

    def selected(self):
        return contextlib.nullcontext()

    def lead(self, cycles):
        self.leads.append(cycles)
        self.queue("lead", cycles * CYCLE_US, 5.0)

    def flush(self):
        self.queue("flush", FLUSH_US, 5.0)
        self.l2 = "flush"

    def event(self):
        return FakeEvent(self)

    def synchronize(self):
        self.host_us = max(self.host_us, self.device_us)
        self.log.append("|")


@pytest.fixture
def fake():
    return FakeDevice()


def test_a_warm_sample_is_the_run_alone_after_the_same_run(fake):
    fake.run("other")()
    fake.log.clear()
    assert DeviceTimer(fake).samples(fake.run("a"), repeats=2, cold=False) == pytest.approx([3.0] * 2)
    sample = "| lead a event a event |"
    assert " ".join(fake.log) == " ".join(["a"] * WARM_UPS + [sample] * 2)


def test_a_cold_sample_is_the_run_alone_after_a_flush(fake):
    assert DeviceTimer(fake).samples(fake.run("a"), repeats=2, cold=True) == pytest.approx([6.0] * 2)
    sample = "| lead flush event a event |"
    assert " ".join(fake.log) == " ".join(["a"] * WARM_UPS + [sample] * 2)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize(("launches", "launch_us"), [(1, 5.0), (6, 40.0), (12, 400.0)])
def test_no_launch_gap_is_in_a_sample(fake, cold, launches, launch_us):
    """However long the host takes to queue the launches of a chain, the lead is longer."""
    run = fake.run("a", 30.0, launches, launch_us)
    assert DeviceTimer(fake).samples(run, repeats=3, cold=cold) == pytest.approx([60.0 if cold else 30.0] * 3)
    assert fake.leads[0] == LEAD_CYCLES and fake.leads == sorted(fake.leads)
    # Only what was too short is doubled.
    least = ((1 if cold else 2) * launches * launch_us + 3 * EVENT_US) / CYCLE_US
    assert fake.leads[-1] < max(2.5 * least, 2 * LEAD_CYCLES)


def test_a_late_sample_is_taken_again(fake):
    """The host is held up once."""
    runs, quick = iter(range(100)), fake.run("a")

    def run():
        if next(runs) == WARM_UPS + 1:
            fake.host_us += 1e3  # longer than the first lead
        quick()

    assert DeviceTimer(fake).samples(run, repeats=3, cold=True) == pytest.approx([6.0] * 3)
    assert fake.leads == [LEAD_CYCLES, LEAD_CYCLES, 2 * LEAD_CYCLES, 2 * LEAD_CYCLES]


def test_what_the_first_run_does_is_not_timed(fake):
    """It compiles, or searches for an algorithm."""
    first, later = fake.run("a", 4e4), fake.run("a")
    runs = iter([first])
    assert DeviceTimer(fake).samples(lambda: next(runs, later)(), repeats=2, cold=True) == pytest.approx([6.0] * 2)


def test_a_run_that_waits_for_the_device_has_no_time(fake):
    def run():
        fake.run("a")()
        fake.synchronize()

    with pytest.raises(RuntimeError, match="it waits for the device") as error:
        DeviceTimer(fake).samples(run, repeats=3, cold=True)
    assert "\n" not in str(error.value)


def test_runs_take_turns_and_every_other_round_is_backwards(fake):
    runs = {name: fake.run(name, us) for name, us in (("a", 3.0), ("b", 7.0), ("c", 9.0))}
    found = DeviceTimer(fake).interleaved(runs, rounds=3, repeats=2, cold=False)
    assert found == {"a": pytest.approx([3.0] * 6), "b": pytest.approx([7.0] * 6), "c": pytest.approx([9.0] * 6)}
    timed = [name for name in fake.log if name in runs]
    assert "".join(dict.fromkeys(timed)) == "abc"
    each = WARM_UPS + 2 * 2
    assert "".join(timed[::each]) == "abccbaabc"


def test_samples_stay_in_the_order_in_which_they_were_taken(fake):
    lengths = iter(range(1, 100))
    run = lambda: fake.queue("a", float(next(lengths)), 1.0)  # noqa: E731
    found = DeviceTimer(fake).interleaved({"a": run}, rounds=2, repeats=2, cold=True)
    first = WARM_UPS + 1
    assert found["a"] == pytest.approx([first, first + 1, first + 2 + WARM_UPS, first + 3 + WARM_UPS])


def test_every_other_order_is_backwards():
    assert order(["a", "b", "c"], 0) == ["a", "b", "c"] == order(["c", "b", "a"], 1) == order("abc", 2)


@pytest.mark.parametrize(("l2_mib", "mib"), [(0, 256), (40, 256), (50, 256), (64, 256), (126, 504)])
def test_the_buffer_is_several_times_the_l2(l2_mib, mib):
    buffer = flush_buffer(l2_mib << 20, torch.device("meta"))
    assert buffer.numel() * buffer.element_size() == mib << 20 >= FLUSH_BYTES


def test_the_buffer_cannot_be_compressed_and_draws_nothing(monkeypatch):
    monkeypatch.setattr(timer_module, "FLUSH_BYTES", 1 << 16)
    state = torch.random.get_rng_state()
    buffer = flush_buffer(0, torch.device("cpu"))
    assert buffer.unique().numel() == buffer.numel() == 1 << 14
    assert torch.equal(torch.random.get_rng_state(), state)


class Written(TorchDispatchMode):
    """Counts the bytes that operations write, and keeps what they read."""

    def __init__(self):
        super().__init__()
        self.bytes, self.read = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.read += [argument for argument in args if isinstance(argument, torch.Tensor)]
        for made in out if isinstance(out, tuple) else (out,):
            self.bytes += made.numel() * made.element_size()  # in place, that is the buffer
        return out


def test_a_flush_reads_and_does_not_write():
    buffer = torch.arange(1 << 14, dtype=torch.int32)
    before = buffer.clone()
    with Written() as written:
        read(buffer)
    assert 0 < written.bytes <= 16 and any(argument.data_ptr() == buffer.data_ptr() for argument in written.read)
    assert all(argument.numel() == buffer.numel() for argument in written.read)
    assert torch.equal(buffer, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_small_run_is_slower_cold(device):
    x = torch.randn(1 << 20, device=device)
    timed = DeviceTimer(timer_module.CudaDevice(device))
    warm, cold = (sorted(timed.samples(x.neg, repeats=15, cold=cold))[7] for cold in (False, True))
    assert 0 < warm < cold
