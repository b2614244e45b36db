"""Networks built from a description: names, shapes, numerics, layouts and kernels."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

import resnet
from resnet.layers import BasicBlock

SHORTCUTS = ["none", "A", "B", "C"]


def small(shortcut="A", **words):
    torch.manual_seed(0)
    return resnet.build(**({"family": "cifar", "depth": 8, "shortcut": shortcut, "num_classes": 10} | words))


def images(n=4, size=16, seed=1):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def torchvision_table(depth):
    """Names and shapes of torchvision's state dict, written from its naming scheme alone."""
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    table = {}

    def bn(name, channels):
        for field in ("weight", "bias", "running_mean", "running_var"):
            table[f"{name}.{field}"] = (channels,)
        table[f"{name}.num_batches_tracked"] = ()

    def conv(name, c_out, c_in, kernel):
        table[f"{name}.weight"] = (c_out, c_in, kernel, kernel)

    conv("conv1", 64, 3, 7)
    bn("bn1", 64)
    c_in = 64
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        c_out = width if depth < 50 else 4 * width
        for index in range(count):
            at = f"layer{stage}.{index}"
            first = c_in if index == 0 else c_out
            if depth < 50:
                shapes = [(width, first, 3), (width, width, 3)]
            else:
                shapes = [(width, first, 1), (width, width, 3), (c_out, width, 1)]
            for number, (o, i, k) in enumerate(shapes, start=1):
                conv(f"{at}.conv{number}", o, i, k)
                bn(f"{at}.bn{number}", o)
            if index == 0 and (stage > 1 or depth >= 50):
                conv(f"{at}.downsample.0", c_out, c_in, 1)
                bn(f"{at}.downsample.1", c_out)
        c_in = c_out
    table["fc.weight"] = (1000, c_in)
    table["fc.bias"] = (1000,)
    return table


@pytest.mark.parametrize(("depth", "entries"), [(18, 122), (34, 218), (50, 320), (101, 626), (152, 932)])
def test_imagenet_names_and_shapes_are_torchvisions(depth, entries):
    with torch.device("meta"):
        model = resnet.build(family="imagenet", depth=depth, shortcut="B", num_classes=1000)
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert len(state) == entries
    assert state == torchvision_table(depth)
    assert len(list(model.parameters())) == entries - 3 * sum(name.endswith("running_mean") for name in state)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_cifar_names(shortcut):
    names = set(small(shortcut).state_dict())
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3", "fc"}
    projected = {name.split(".downsample")[0] for name in names if "downsample" in name}
    expected = {"none": set(), "A": set(), "B": {"layer2.0", "layer3.0"}, "C": {"layer1.0", "layer2.0", "layer3.0"}}
    assert projected == expected[shortcut]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "depth", "stride", "shortcut"),
    [("cifar", 8, "v1", shortcut) for shortcut in SHORTCUTS]
    + [("one-layer", 8, "v1", shortcut) for shortcut in SHORTCUTS if shortcut != "none"]
    + [("imagenet", 18, "v1", "A"), ("imagenet", 50, "v1", "A"), ("imagenet", 50, "v1.5", "B")],
)
def test_forward_and_backward_reach_every_parameter(family, depth, stride, shortcut):
    model = small(shortcut, family=family, depth=depth, stride=stride)
    out = model(images(2, 33 if family == "imagenet" else 16))
    assert out.shape == (2, 10)
    F.cross_entropy(out, torch.tensor([1, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_one_layer_blocks_have_the_layers_of_the_cifar_net_and_a_shortcut_around_each(shortcut):
    one, two = (small(shortcut, family=family, depth=20) for family in ("one-layer", "cifar"))
    branches = [
        [layer.conv.weight.shape for block in net.residual_blocks() for layer in block.branch_layers()]
        for net in (one, two)
    ]
    assert branches[0] == branches[1] and len(branches[0]) == 18
    assert [len(stage) for stage in one.stages()] == [6, 6, 6]
    if shortcut != "C":  # which projects around every block, of which there are twice as many
        assert resnet.count(one, 32) == resnet.count(two, 32)
    # y = W1 x + x, before the ReLU.
    block, x = one.eval().layer1[1], torch.randn(2, 16, 8, 8).relu()
    with torch.no_grad():
        for module in (block.conv1, block.bn1):
            module.weight.normal_()
        added = F.conv2d(x, block.conv1.weight, padding=1)
        added = added / (1 + block.bn1.eps) ** 0.5 * block.bn1.weight[:, None, None] + block.bn1.bias[:, None, None]
        skip = x if shortcut != "C" else block.downsample(x)
        torch.testing.assert_close(block(x), (added + skip).relu(), rtol=1e-5, atol=1e-5)


def test_stages_shrink_the_image_as_in_table_1():
    with torch.device("meta"):
        model = resnet.build(family="imagenet", depth=50, shortcut="B", num_classes=10).eval()
        x = model.stem(torch.empty(1, 3, 224, 224))
        shapes = [tuple(x.shape[1:])]
        for stage in model.stages():
            x = stage(x)
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


@pytest.mark.slow
def test_v1_and_v15_share_weights_and_differ_in_result():
    v1 = small("B", family="imagenet", depth=50).eval()
    v15 = small("B", family="imagenet", depth=50, stride="v1.5").eval()
    v15.load_state_dict(v1.state_dict())
    x = images(1, 64)
    with torch.no_grad():
        assert not torch.allclose(v1(x), v15(x))


def test_plain_net_has_option_as_parameters_and_another_result():
    plain, residual = small("none").eval(), small("A").eval()
    plain.load_state_dict(residual.state_dict())
    with torch.no_grad():
        assert not torch.allclose(plain(images()), residual(images()))


def test_same_seed_gives_the_same_network():
    first, second = small().state_dict(), small().state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(("depth", "family"), [(8, "cifar"), (50, "imagenet")])
def test_zero_init_makes_every_block_with_an_identity_the_identity(depth, family):
    model = small("A", family=family, depth=depth, zero_init_residual=True)
    for block in model.residual_blocks():
        assert not block.last_bn().weight.any()
        assert (block.bn1.weight == 1).all()
    block = model.layer1[0] if family == "cifar" else model.layer1[1]
    x = torch.rand(2, block.conv1.in_channels, 8, 8)
    assert torch.equal(block(x), x)


def test_gammas_start_at_one_otherwise():
    assert all((block.last_bn().weight == 1).all() for block in small().residual_blocks())


def test_zero_init_of_a_plain_net_is_refused():
    with pytest.raises(ValueError, match="^zero_init_residual=True: a plain net .*nearest is False$"):
        small("none", zero_init_residual=True)


def test_wrong_words_reach_the_user_through_build():
    with pytest.raises(ValueError, match="^depth=21: .*nearest is 20"):
        small(depth=21)
    with pytest.raises(ValueError, match="^kernels=tritn: .*nearest is triton"):
        small(kernels="tritn")


def test_bn_is_the_papers():
    bns = [m for m in small("C").modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(bns) == 10
    assert all(bn.eps == 1e-5 for bn in bns)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_channels_last_stays_so_through_every_block(shortcut):
    model = small(shortcut).to(memory_format=torch.channels_last)
    layouts = []
    for block in model.residual_blocks():
        block.register_forward_hook(
            lambda module, inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
        )
    reference = small(shortcut)(images())
    out = model(images().to(memory_format=torch.channels_last))
    assert layouts == [True] * 3
    assert torch.allclose(out, reference, atol=1e-5)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_autocast_computes_in_bf16_and_keeps_bn_in_fp32(shortcut):
    model = small(shortcut).to(memory_format=torch.channels_last)
    dtypes = set()
    for block in model.residual_blocks():
        block.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images())
    out.float().sum().backward()
    assert dtypes == {torch.bfloat16} and out.dtype == torch.bfloat16
    assert all(t.dtype == torch.float32 for n, t in model.state_dict().items() if not n.endswith("tracked"))
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert torch.allclose(out.float(), small(shortcut)(images()), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_compiled_net_is_one_graph_with_the_same_names_loss_and_gradients(shortcut, monkeypatch):
    compile_in_place = torch.nn.Module.compile
    # The default backend needs a C++ compiler and minutes; this one captures the same graph.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **k: compile_in_place(self, backend="aot_eager", **k))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = small(shortcut), small(shortcut, kernels="compile")
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for model in (plain, compiled):
        F.cross_entropy(model(images()), torch.arange(4)).backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for (name, ours), theirs in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4), name
    assert torch.equal(compiled.bn1.num_batches_tracked, torch.tensor(1))


def test_a_compiled_net_is_copied_and_pickled_as_the_reference():
    model = small(kernels="compile")
    assert model._compiled_call_impl is not None
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other._compiled_call_impl is None
        assert torch.equal(other.eval()(images()), other.forward(images()))


def test_a_blocks_forward_can_be_replaced_as_a_unit():
    class Doubled(BasicBlock):
        def forward(self, x):
            return 2 * super().forward(x)

    model, other = small("B").eval(), small("B").eval()
    for block in other.residual_blocks():
        block.__class__ = Doubled
    assert list(other.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        block = model.layer2[0]
        x = torch.randn(2, 16, 8, 8)
        assert torch.equal(other.layer2[0](x), 2 * block(x))


@pytest.mark.slow
def test_the_deepest_net_runs():
    with torch.device("meta"):
        model = resnet.build(family="cifar", depth=1202, shortcut="A", num_classes=10).eval()
        assert model(torch.empty(1, 3, 32, 32)).shape == (1, 10)
    assert len(model.residual_blocks()) == 600


@pytest.mark.slow
def test_a_small_net_learns():
    model, x = small("A"), images(16, 8)
    y = torch.arange(16) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
