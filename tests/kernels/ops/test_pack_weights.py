"""All weights of a net cast and reordered in one launch."""

import pytest
import torch
from criterion import DTYPES
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import reference, runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError
from kernels.ops import pack_weights as module
from kernels.ops.pack_weights import ALIGNMENT, pack_weights


def _weights(device):
    torch.manual_seed(0)
    plain = [torch.randn(size, device=device) for size in ((64, 3, 7, 7), (24, 16, 3, 3), (32, 24, 1, 1), (1, 1, 1, 1))]
    whole = torch.randn(16, 8, 6, 6, device=device)
    return [
        *plain,
        plain[1].contiguous(memory_format=torch.channels_last),
        whole[:, ::2, 1::2, ::2],
        whole.transpose(0, 1)[:, :, :3, :3],
        torch.randn(9 * 8 * 16 + 1, device=device)[1:].view(16, 8, 3, 3),  # a view into a flat buffer, at an odd place
    ]


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stride(dtype, device):
    weights = _weights(device)
    with runtime.record_launches() as launches:
        copies = pack_weights(weights, dtype)
    assert len(launches) == 1
    for copy, expected in zip(copies, reference.pack_weights(weights, dtype), strict=True):
        assert copy.dtype == dtype and torch.equal(copy, expected)
        assert copy.permute(0, 2, 3, 1).is_contiguous()
        assert (copy.data_ptr() - copies[0].data_ptr()) % ALIGNMENT == 0


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("half", [range(8), (0, 3, 5)], ids=["all", "some"])
def test_parameters_in_the_dtype_that_they_are_packed_in(half, dtype, device):
    """As `nn.Module.half` makes them; where only some modules are converted, each dtype is read as what it is."""
    weights = [weight.to(dtype) if i in half else weight for i, weight in enumerate(_weights(device))]
    with runtime.record_launches() as launches:
        copies = pack_weights(weights, dtype)
    assert len(launches) == (2 if len(half) < 8 and dtype != torch.float32 else 1)
    for copy, expected in zip(copies, reference.pack_weights(weights, dtype), strict=True):
        assert copy.dtype == dtype and torch.equal(copy, expected)
        assert copy.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.interpreted
def test_a_parameter_that_was_converted_in_its_place_is_read_as_what_it_is(device, made):
    """The table knows addresses: another dtype at the same one is another table."""
    memory = torch.arange(64.0, device=device)  # whose halves are finite, too
    single, half = memory.view(8, 8, 1, 1), memory.view(torch.float16)[:64].view(8, 8, 1, 1)
    assert single.data_ptr() == half.data_ptr()
    for weight in (single, half, single):
        assert torch.equal(pack_weights([weight], torch.float16)[0], weight.half())
    assert len(made) == 2


@pytest.fixture
def made(monkeypatch):
    """The lists of weights whose tables were made, as many numbers as weights."""
    found, pack = [], module._pack

    def count(weights, *rest):
        found.append(len(weights))
        return pack(weights, *rest)

    monkeypatch.setattr(module, "_pack", count)
    monkeypatch.setattr(module, "_packings", {})
    return found


@pytest.mark.interpreted
def test_changed_parameters_are_read_again(device, made):
    weights = _weights(device)
    pack_weights(weights, torch.float16)
    weights[0].add_(1)
    copies = pack_weights(weights, torch.float16)
    assert torch.equal(copies[0], weights[0].half()) and len(made) == 1
    weights[1] = weights[1].clone()
    assert torch.equal(pack_weights(weights, torch.float16)[1], weights[1].half()) and len(made) == 2
    pack_weights(weights, torch.float32)
    pack_weights(weights[:1], torch.float16)
    assert len(made) == 4


@pytest.mark.interpreted
def test_tables_are_bounded_and_the_oldest_go(device, made, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    lists = [[torch.full((8, 8, 1, 1), float(i), device=device)] * (i + 1) for i in range(5)]
    for i in (0, 1, 2, 0, 3, 0, 1, 0, 4, 0):  # 0 is used again and again, so that it stays
        assert pack_weights(lists[i], torch.float16)[i].unique().tolist() == [i]
        assert len(module._packings) <= 3
    assert made == [1, 2, 3, 4, 2, 5]


def test_tables_that_a_graph_reads_stay(made, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    meta = torch.device("meta")
    lists = [[torch.empty(8, 8, 1, 1, device=meta)] * (i + 1) for i in range(5)]
    with runtime.capture_launches("sm_90"):
        for i, weights in enumerate(lists):
            pack_weights(weights, torch.float16)
            next(reversed(module._packings.values())).captured = i < 3
        assert [len(packing.copies) for packing in module._packings.values()] == [1, 2, 3, 4, 5]
        pack_weights(lists[3], torch.float16)
        pack_weights(lists[0], torch.float16)
        pack_weights([*lists[4], lists[4][0]], torch.float16)
    assert [len(packing.copies) for packing in module._packings.values()] == [2, 3, 4, 1, 6]


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("capturing", [False, True])
def test_a_graph_s_tables_are_known_and_a_stream_s_are_freed_behind_it(made, monkeypatch, capturing):
    held = []
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: held.append((tensor.dtype, stream)))
    with FakeTensorMode(), runtime.capture_launches("sm_90"):
        pack_weights([torch.empty(8, 8, 1, 1, device="cuda:0")], torch.float16)
    (packing,) = module._packings.values()
    assert packing.captured == capturing
    assert held == ([] if capturing else [(torch.int64, "stream"), (torch.int32, "stream")])


def test_of_nothing():
    assert pack_weights([], torch.float16) == []


def test_bad_operands_raise_before_anything_is_allocated(device, monkeypatch):
    monkeypatch.setattr(runtime, "empty", lambda *_: pytest.fail("allocated"))
    good = torch.randn(8, 8, 1, 1, device=device)
    for weights, dtype, message in (
        ([good, good.half()], torch.float32, r"weights\[1\]: dtype torch.float16 is not torch.float32; nearest"),
        (
            [good, good.half(), good.bfloat16()],
            torch.float16,
            r"weights\[2\]: dtype torch.bfloat16 .*packed in; nearest",
        ),
        ([good.double()], torch.bfloat16, r"weights\[0\]: dtype torch.float64 .*nearest is torch.float32$"),
        ([good[0]], torch.float16, r"weights\[0\]: shape"),
        ([good[:0]], torch.float16, r"weights\[0\]: shape"),
        ([good], torch.float64, "dtype: torch.float64"),
        ([good, torch.empty(8, 8, 1, 1, device="meta")], torch.float16, r"weights\[1\]: on meta"),
    ):
        with pytest.raises(KernelError, match=message):
            pack_weights(weights, dtype)


@pytest.mark.parametrize("chip", CHIPS)
def test_captured_on_meta_tensors(chip):
    with runtime.capture_launches(chip) as launches:
        (copy,) = pack_weights([torch.empty(64, 64, 3, 3, device="meta")], torch.bfloat16)
    assert copy.shape == (64, 64, 3, 3) and copy.is_contiguous(memory_format=torch.channels_last)
    (launch,) = launches
    assert launch.kernel == "pack_weights" and set(launch.arguments) == set(launch.function.arg_names)
