"""A launch is prepared once for operands that look alike, and goes where they are."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import prepared, runtime
from kernels.operands import KernelError, Norm, Running
from kernels.ops import bn_act as module
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.prepared import Made, Prepared
from kernels.tiles import pointwise

META, CPU = torch.device("meta"), torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


def image(n, c, size, dtype=torch.bfloat16, device=META):
    return torch.empty((n, size, size, c), dtype=dtype, device=device).permute(0, 3, 1, 2)


def norm(c, device=META):
    return Norm(torch.empty(2, c, device=device), torch.empty(c, device=device), torch.empty(c, device=device))


@pytest.fixture
def plans(monkeypatch):
    """Rows of each image that was cut into tiles."""
    found, cut = [], pointwise.pointwise_tiling

    def count(rows, *rest, **keywords):
        found.append(rows)
        return cut(rows, *rest, **keywords)

    monkeypatch.setattr(pointwise, "pointwise_tiling", count)
    return found


def test_operands_that_look_alike_are_planned_for_once(plans):
    with runtime.capture_launches("sm_90") as launches:
        for _ in range(3):
            bn_act(image(2, 16, 8), norm(16))
    assert plans == [128] and len(launches) == 3
    # What a launch gets is its own, never an earlier one's.
    tensors = [launch.arguments[name] for launch in launches for name in ("y_ptr", "stats_ptr", "z_ptr")]
    assert len(set(map(id, tensors))) == 9


@pytest.mark.parametrize(
    "other",
    [
        lambda: bn_act(image(3, 16, 8), norm(16)),
        lambda: bn_act(image(2, 24, 8), norm(24)),
        lambda: bn_act(image(2, 16, 8, torch.float16), norm(16)),
        lambda: bn_act(image(2, 16, 8), norm(16), relu=False),
        lambda: bn_act(image(2, 16, 8), norm(16), keep_mask=True),
        lambda: bn_act(image(2, 16, 8), norm(16), shortcut=image(2, 16, 8)),
        lambda: bn_act(image(2, 16, 8), norm(16), shortcut=image(2, 8, 8)),
        lambda: bn_act(image(2, 16, 8), norm(16), shortcut=image(2, 16, 16), shortcut_stride=2),
        lambda: bn_act(image(2, 16, 8), norm(16), shortcut=image(2, 16, 8), shortcut_norm=norm(16)),
    ],
)
def test_what_looks_different_is_planned_for_again(plans, other):
    with runtime.capture_launches("sm_90"):
        bn_act(image(2, 16, 8), norm(16))
        other()
    assert len(plans) == 2


def test_each_chip_has_its_own_plan(plans):
    for chip in ("sm_90", "sm_80", "sm_90"):
        with runtime.capture_launches(chip):
            bn_act(image(2, 16, 8), norm(16))
    assert len(plans) == 2


def test_operands_are_checked_whatever_was_prepared():
    bad = {
        "norm.stats: dtype": lambda: bn_act(image(2, 16, 8), norm(16)._replace(stats=torch.empty(2, 16).half())),
        "y: strides": lambda: bn_act(torch.empty(2, 16, 8, 8, dtype=torch.bfloat16, device=META), norm(16)),
        "norm.weight: on cpu": lambda: bn_act(image(2, 16, 8), norm(16)._replace(weight=torch.empty(16))),
        "shortcut_stride: 0": lambda: bn_act(image(2, 16, 8), norm(16), shortcut=image(2, 16, 8), shortcut_stride=0),
    }
    with runtime.capture_launches("sm_90"):
        bn_act(image(2, 16, 8), norm(16))
        bn_act(image(2, 16, 8), norm(16), shortcut=image(2, 16, 8))
        for message, call in bad.items():
            for _ in range(2):
                with pytest.raises(KernelError, match=f"^{message}"):
                    call()
    with pytest.raises(KernelError, match="^y: on meta, where kernels do not run"):
        bn_act(image(2, 16, 8), norm(16))


def test_momentum_is_each_call_s_own():
    mean = torch.zeros(16, device=META)
    with runtime.capture_launches("sm_90") as launches:
        for momentum in (0.5, 0.25):
            bn_stats(image(2, 16, 8), running=Running(mean, mean, momentum))
        with pytest.raises(KernelError, match=r"^running.momentum: 2 is not in \[0, 1\]; nearest is 1"):
            bn_stats(image(2, 16, 8), running=Running(mean, mean, 2))
    assert [launch.arguments["momentum"] for launch in launches] == [0.5, 0.25]


def test_what_is_prepared_is_bounded(plans, monkeypatch):
    monkeypatch.setattr(prepared, "MOST", 4)
    with runtime.capture_launches("sm_90"):
        for n in (*range(1, 7), 6, 5, 4, 3, 1):
            bn_act(image(n, 16, 8), norm(16))
    assert plans == [64 * n for n in (*range(1, 7), 1)]


class Function:
    """In place of a kernel: notes on which device it is launched."""

    arg_names = ("x_ptr", "other_ptr", "out_ptr", "M")

    def __init__(self):
        self.launches = []
        self.fn = lambda x_ptr, other_ptr, out_ptr, M: None

    def __getitem__(self, grid):
        def run(**arguments):
            self.launches.append((torch.cuda.current_device(), grid, arguments["M"]))

        return run


def plan(function, **other):
    arguments = {"operands": ("x_ptr", "other_ptr"), "outputs": {"out_ptr": Made((4,), torch.float32)}}
    arguments |= {"constants": {"M": 4}, "options": {}, "device": CPU}
    return Prepared("kernel", function, (3,), **arguments | other)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"constants": {}}, "M"),
        ({"constants": {"M": 4, "N": 4}}, "N"),
        ({"operands": ("x_ptr", "x_ptr")}, "other_ptr"),
        ({"constants": {"M": 4, "out_ptr": None}}, "out_ptr"),
    ],
)
def test_every_parameter_is_given_once(wrong, name):
    with pytest.raises(ValueError, match=f"^kernel: {name} is given twice, or not at all"):
        plan(Function(), **wrong)


@pytest.fixture
def gpus(monkeypatch):
    """Four GPUs that are not there, of which the first is the current one; entering another is noted."""
    if torch.cuda.is_available():
        pytest.skip("beside a GPU that is there, torch lets no others be feigned")
    current, entered = [0], []

    @contextlib.contextmanager
    def device(index):
        entered.append(index)
        current.append(index)
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    return entered


def on(index):
    return torch.device("cuda", index)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_launch_goes_to_its_operands_device(gpus, monkeypatch):
    function = Function()
    function.arg_names = tuple(module.bn_act_kernel.arg_names)
    monkeypatch.setattr(module, "bn_act_kernel", function)
    with FakeTensorMode():
        for index in (0, 1, 1, 3, 0):  # some of them are prepared already
            z, _ = bn_act(image(2, 16, 8, device=on(index)), norm(16, on(index)))
            assert z.device == on(index)
    assert function.launches == [(index, (1, 1), 128) for index in (0, 1, 1, 3, 0)]
    assert gpus == [1, 1, 3], "the current device is entered"


def test_counters_are_a_stream_s_and_a_device_s_own(gpus, monkeypatch):
    stream, capturing = [5], [False]
    monkeypatch.setattr(runtime, "_stream", lambda index: stream[0])
    monkeypatch.setattr(runtime, "_counters", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing[0])
    with FakeTensorMode():
        first, again = runtime.counters(3, on(0)), runtime.counters(5, on(0))
        stream[0] = 6
        other, device = runtime.counters(3, on(0)), runtime.counters(3, on(1))
        capturing[0] = True
        graph, graph_again = runtime.counters(3, on(0)), runtime.counters(3, on(0))
        unseen = runtime.counters(3, on(2))
    assert first is again and graph is graph_again and len(unseen) == 3
    assert len({id(counters) for counters in (first, other, device, graph)}) == 4
    assert device.device == on(1) and all(len(one) >= 5 and one.dtype == torch.int32 for one in (first, other, graph))


def test_operands_on_two_devices_are_refused(gpus):
    function, found = Function(), []

    @prepared.prepared
    def prepare(operands):
        found.append(operands)
        return plan(function, device=operands[0].device)

    with FakeTensorMode():
        x, other = torch.empty(4, device=on(1)), torch.empty(4, device=on(0))
        for _ in range(2):  # nothing is kept of the first
            with pytest.raises(KernelError) as caught:
                prepare((x, other)).launch((x, other))
    assert str(caught.value) == "kernel: other on cuda:0 beside cuda:1; nearest is other.to('cuda:1')"
    assert not function.launches and len(found) == 2


@pytest.mark.parametrize("call", [bn_act, conv_dgrad])
def test_ops_name_what_is_on_another_device(gpus, call):
    weight = torch.empty((16, 1, 1, 16), dtype=torch.bfloat16, device=META).permute(0, 3, 1, 2)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        pytest.raises(KernelError, match="on cuda:0 beside cuda:1; nearest"),
    ):
        second = norm(16, on(0)) if call is bn_act else torch.empty_like(weight, device=on(0))
        call(image(2, 16, 8, device=on(1)), second)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `launched_directly` prints."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("launched_directly.py"))],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bn_act", "misaligned", "bn_stats", "conv1x1", "conv_dgrad"])
def test_a_prepared_launch_gives_the_kernel_what_triton_would(told, name):
    first, then, again = (told[turn][name] for turn in ("first", "then", "again"))
    # Triton was asked once; from then on what it compiled is launched, with addresses in place of tensors.
    assert first["tensors"] > 0 and then["tensors"] == again["tensors"] == 0
    for found in (first, then, again):
        for parameter, address in found["expected"].items():
            # A pointer that is not used is no argument of the code.
            assert (found["arguments"][parameter] or None) == address, parameter
        constants = {key: value for key, value in found["arguments"].items() if not key.endswith("_ptr")}
        assert constants == {key: value for key, value in first["arguments"].items() if not key.endswith("_ptr")}
        assert all(found[key] == first[key] for key in ("kernel", "grid", "stream", "aligned"))
    assert len(first["grid"]) == 3 and first["stream"] == 70


@pytest.mark.slow
def test_an_address_that_is_not_a_multiple_of_16_has_a_kernel_of_its_own(told):
    for turn in ("first", "then", "again"):
        aligned, other = told[turn]["bn_act"]["aligned"], told[turn]["misaligned"]["aligned"]
        assert {"y_ptr", "shortcut_ptr", "z_ptr"} <= set(aligned)
        assert set(aligned) - set(other) == {"y_ptr", "shortcut_ptr"}
    # Each kernel was compiled once.
    assert sorted(told["compiled"]) == sorted(
        ["bn_act_kernel", "bn_act_kernel", "bn_stats_kernel", "conv_kernel", "conv_dgrad_kernel"]
    )


@pytest.mark.slow
def test_prepared_launches_are_recorded_captured_hooked_and_follow_the_stream(told):
    assert told["ledger"] == ["bn_act"] and told["recorded"]["grid"] == told["first"]["bn_act"]["grid"]
    assert told["captured"] == 0
    assert told["hooked"] == ["bn_act_kernel"]
    assert told["other stream"] == 71


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bn_act", "conv1x1", "conv_dgrad"])
def test_a_prepared_call_takes_the_host_under_half_of_what_an_unprepared_one_does(told, name):
    ready, unready = told["us"][name]
    assert ready < unready / 2, f"{ready} us against {unready} us"
