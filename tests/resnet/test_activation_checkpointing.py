"""Activation checkpointing keeps less and changes no number: outputs, gradients and running statistics, to the bit."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import resnet
from resnet import ResNet
from resnet.layers import running_statistics_kept

NETS = [("cifar", 20, "A"), ("cifar", 14, "none"), ("one-layer", 14, "C"), ("imagenet", 50, "B")]


def net(on: bool, family: str = "cifar", depth: int = 20, shortcut: str = "A") -> ResNet:
    torch.manual_seed(0)
    return resnet.build(
        family=family, depth=depth, shortcut=shortcut, num_classes=10, activation_checkpointing=on
    )  # fmt: skip


def images(size: int = 32) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))


def step(model: ResNet, x: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        scores = model(x)
    scores.float().logsumexp(1).mean().backward()
    return scores.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "depth", "shortcut"), NETS)
def test_no_number_changes(family: str, depth: int, shortcut: str, dtype: torch.dtype) -> None:
    plain, checkpointed = (net(on, family, depth, shortcut) for on in (False, True))
    for _ in range(2):  # gradients add up, statistics move on
        assert torch.equal(step(plain, images(), dtype), step(checkpointed, images(), dtype))
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad), name
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(one, other), name
    counts = [module.num_batches_tracked for module in checkpointed.modules() if isinstance(module, nn.BatchNorm2d)]
    assert counts and all(count == 2 for count in counts)


def kept_bytes(model: ResNet) -> int:
    """Bytes of what a forward pass keeps for the backward pass, each tensor once, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(images())
    return sum(seen.values())


def test_less_is_kept_the_deeper_the_net() -> None:
    shares = []
    for depth in (20, 110):
        plain, checkpointed = kept_bytes(net(False, depth=depth)), kept_bytes(net(True, depth=depth))
        shares.append(checkpointed / plain)
    assert shares[1] < shares[0] < 0.5 and shares[1] < 0.15


@pytest.mark.parametrize(("depth", "sizes"), [(8, [2, 1]), (20, [3, 3, 3]), (110, [8] * 6 + [6])])
def test_segments_are_about_the_root_of_the_blocks(
    depth: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many are held at a time in the backward pass as there are inputs of segments: the least in all."""
    seen: list[int] = []

    def checkpoint(run: Callable[..., Tensor], blocks: Sequence[nn.Module], x: Tensor, **words: object) -> Tensor:
        seen.append(len(blocks))
        return run(blocks, x)

    monkeypatch.setattr("resnet.activation_checkpointing.checkpoint", checkpoint)
    net(True, depth=depth)(images())
    assert seen == sizes


@pytest.mark.parametrize(("training", "calls"), [(True, 2), (False, 1)])
def test_blocks_run_twice_where_a_backward_pass_follows(training: bool, calls: int) -> None:
    model = net(True)
    ran = dict.fromkeys((block.name for block in model.residual_blocks()), 0)

    def count(block: nn.Module, *rest: object) -> None:
        ran[str(block.name)] += 1

    for block in model.residual_blocks():
        block.register_forward_pre_hook(count)  # the last layer of a segment need not end again
    if training:
        step(model, images(), torch.float32)
    else:
        with torch.no_grad():
            model.eval()(images())
    assert set(ran.values()) == {calls}


def test_statistics_are_kept_also_where_the_pass_fails() -> None:
    model = net(False, depth=8)
    before = {name: value.clone() for name, value in model.named_buffers()}
    with pytest.raises(ZeroDivisionError), running_statistics_kept([model]):
        model(images())
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model(images())
    assert not torch.equal(model.bn1.running_mean, before["bn1.running_mean"])  # type: ignore[arg-type]
    assert model.bn1.num_batches_tracked == 1 and model.bn1.momentum == 0.1


@pytest.mark.parametrize("kernels", ["compile", "triton", "auto"])
def test_what_decides_itself_what_is_kept_is_refused(kernels: str) -> None:
    with pytest.raises(ValueError, match=f"^activation_checkpointing=true: kernels={kernels} .*kernels=torch$"):
        resnet.build(
            family="cifar", depth=8, shortcut="A", num_classes=10, kernels=kernels, activation_checkpointing=True
        )  # fmt: skip
