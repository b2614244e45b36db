"""What a step launches, found on meta tensors: every convolution once, and the least bytes of each launch."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from bench.machine_code.launches import capture, flops, least_bytes, without_memory
from bench.roofline.layers import layers
from bench.roofline.step import net
from kernels import runtime
from kernels.aot import cases
from kernels.operands import Producer
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.pack_weights import pack_weights

BF16 = torch.bfloat16


def launched(call):
    with runtime.capture_launches("sm_90") as launches:
        call()
    (one,) = launches
    return one


@pytest.mark.parametrize("depth", [20, 50])
def test_every_convolution_is_ours_or_the_library_s(depth):
    step = net(depth=depth, batch=64)
    captured = capture(step, "sm_90")
    convolutions = [layer.name for layer in layers(step.architecture, step.image_size) if not layer.linear]
    ours = {
        op: Counter(one.layer for one in captured.launches if one.kernel.startswith(kernels))
        for op, kernels in (("conv", ("conv1x1", "conv3x3")), ("dgrad", ("conv_dgrad",)))
    }
    for op in ("conv", "dgrad", "wgrad"):
        library = Counter(one.layer for one in captured.library if one.op == op and one.layer != "fc")
        expected = convolutions[1:] if op == "dgrad" else convolutions
        assert ours.get(op, Counter()) + library == Counter(expected), op
    others = Counter(one.op for one in captured.library if one.layer in ("avgpool", "fc", "weights"))
    assert others == dict.fromkeys(("average", "linear", "dgrad", "wgrad", "cast_gradient", "optimizer"), 1)
    assert {one.op for one in captured.library} <= {"conv", *others}
    statistics = Counter(
        one.layer for one in captured.launches if one.kernel == "bn_stats" or "STATISTICS" in one.arguments
    )
    assert statistics == Counter(convolutions)  # whose statistics its kernel makes, or bn_stats


def test_a_step_of_another_precision_is_in_its_dtype():
    captured = capture(replace(net(depth=8, batch=4), precision="fp16"), "gfx942")
    images = [one.arguments["y_ptr"].dtype for one in captured.launches if one.kernel == "bn_act"]
    assert images and set(images) == {torch.float16}


def test_the_least_bytes_of_a_convolution_are_its_tensors_once():
    n, c, k, size = 8, 64, 256, 14
    x, weight = cases.image(n, c, size, BF16), cases.weight(k, c, 1, BF16)
    norm, running = cases.norm(c), cases.running(k)
    one = launched(lambda: conv1x1(x, weight, prologue=norm, running=running))
    rows = n * size * size
    vectors = 4 * (4 * c + 2 * k + 2 * k)  # the norm; the statistics, and the running ones
    partials = sum(one.arguments[name].numel() * 4 for name in ("partials_ptr", "groups_ptr"))
    assert least_bytes(one) == 2 * (rows * c + c * k + rows * k) + vectors + partials
    assert flops(one) == 2 * rows * c * k
    strided = launched(lambda: conv1x1(x, weight, stride=2, running=running))
    partials = sum(strided.arguments[name].numel() * 4 for name in ("partials_ptr", "groups_ptr"))
    assert least_bytes(strided) == 2 * (rows * c // 4 + c * k + rows * k // 4) + 4 * 4 * k + partials
    assert flops(strided) == flops(one) // 4


def test_the_least_bytes_of_a_gradient_count_what_lies_behind_it():
    n, c, size = 8, 2048, 7
    y = cases.image(n, c, size, BF16)
    average = torch.empty((n, c), dtype=BF16, device="meta")[:, :, None, None].expand(y.shape)
    made = Producer(y, cases.norm(c))
    one = launched(lambda: bn_act_backward_reduce(average, made))
    partials = one.arguments["partials_ptr"].numel() * 4
    assert least_bytes(one) == 2 * (n * c + n * c * size * size) + 4 * (4 * c + 2 * c) + partials
    assert flops(one) == 0


def test_a_join_s_gradient_reads_the_bits_of_its_mask():
    n, c, k, size = 8, 256, 64, 14
    made = cases.producer(cases.image(n, c, size, BF16), "identity")
    dy, weight = cases.image(n, k, size, BF16), cases.weight(k, c, 1, BF16)
    one = launched(lambda: conv_dgrad(dy, weight, skip=made.y, producer=made))
    rows = n * size * size
    partials = sum(one.arguments[name].numel() * 4 for name in ("partials_ptr", "groups_ptr"))
    # Its skip and y are one tensor here, and are read as two; the norm's weight and bias are not read.
    assert least_bytes(one) == 2 * (rows * k + k * c + 3 * rows * c) + rows * c // 8 + 4 * (4 * c + 2 * c) + partials


@pytest.mark.parametrize(("parameters", "size"), [(torch.float32, 4), (BF16, 2)])
def test_packing_reads_once_what_it_writes(parameters, size):
    shapes = ((64, 64, 1, 1), (64, 64, 3, 3))
    weights = [torch.empty(shape, dtype=parameters, device="meta") for shape in shapes]
    one = launched(lambda: pack_weights(weights, BF16))
    tables = sum(
        one.arguments[name].numel() * one.arguments[name].element_size() for name in ("weights_ptr", "blocks_ptr")
    )
    assert least_bytes(one) == 64 * 64 * 10 * (2 + size) + tables


def test_a_launch_without_memory_is_the_same_launch():
    x, weight = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.zeros(2, 1).expand(2, 6)
    arguments = {"x_ptr": x, "w_ptr": weight, "none_ptr": None, "M": 7}
    one = without_memory(runtime.Launch("k", "layer", None, (3,), arguments, {"num_warps": 4}))
    assert (one.kernel, one.layer, one.grid, one.options) == ("k", "layer", (3,), {"num_warps": 4})
    assert one.arguments["M"] == 7 and one.arguments["none_ptr"] is None
    for name, given in (("x_ptr", x), ("w_ptr", weight)):
        kept = one.arguments[name]
        assert kept.device.type == "meta" and kept.shape == given.shape and kept.stride() == given.stride()
    assert one.arguments["w_ptr"].untyped_storage().nbytes() == 8
