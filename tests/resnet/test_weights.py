"""Weights files: what goes in comes out, and whatever does not fit is said in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import resnet
from resnet import WeightsError, comparators, load_weights, save_weights, weights
from resnet.weights import _by_shapes


def small(shortcut="A", seed=0, **words):
    torch.manual_seed(seed)
    return resnet.build(**({"family": "cifar", "depth": 8, "shortcut": shortcut, "num_classes": 10} | words))


def trained(**words):
    model = small(**words)
    model(torch.randn(4, 3, 16, 16))
    return model


def equal(first, second):
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def refusal(model, path):
    """The message with which the file is refused; the model must not have changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_round_trip(tmp_path, memory_format):
    model = trained(shortcut="B").to(memory_format=memory_format)
    path = tmp_path / "new" / "w.safetensors"
    save_weights(model, path, {"run_id": "r1"})
    other = small("B", seed=1).to(memory_format=memory_format)
    metadata = load_weights(other, path)
    assert equal(model, other)
    assert other.layer1[0].conv1.weight.is_contiguous(memory_format=memory_format)
    architecture = {"family": "cifar", "depth": "8", "shortcut": "B", "stride": "v1", "num_classes": "10"}
    assert metadata == architecture | {"format": "pt", "run_id": "r1"}
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]


def test_file_is_contiguous_and_readable_by_others(tmp_path):
    model = trained().to(memory_format=torch.channels_last)
    path = tmp_path / "w.safetensors"
    save_weights(model, path)
    stored = safetensors.torch.load_file(path)
    assert set(stored) == set(model.state_dict())
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_parameters_that_are_views_of_one_buffer(tmp_path):
    model = trained()
    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    offset = 0
    for p in model.parameters():
        p.data = flat[offset : offset + p.numel()].view(p.shape)
        offset += p.numel()
    save_weights(model, tmp_path / "w.safetensors")
    other = small(seed=1)
    load_weights(other, tmp_path / "w.safetensors")
    assert equal(model, other)


def test_compiled_and_reference_share_files(tmp_path):
    model = trained()
    save_weights(model, tmp_path / "w.safetensors")
    other = small(seed=1, kernels="compile")
    load_weights(other, tmp_path / "w.safetensors")
    assert equal(model, other)


def test_published_weights_without_metadata_and_batch_counts(tmp_path):
    model = trained(shortcut="B")
    state = {n: t.contiguous() for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    other = trained(shortcut="B", seed=1)
    assert load_weights(other, tmp_path / "w.safetensors") == {}
    assert torch.equal(other.layer3[0].conv2.weight, model.layer3[0].conv2.weight)
    assert other.bn1.num_batches_tracked == 0


def test_missing_and_broken_files(tmp_path):
    assert "no such weights file" in refusal(small(), tmp_path / "none.safetensors")
    assert "no such weights file" in refusal(small(), tmp_path)
    (tmp_path / "text.safetensors").write_text("hello, these are not weights")
    assert "not a readable safetensors file" in refusal(small(), tmp_path / "text.safetensors")
    torch.save(small().state_dict(), tmp_path / "pickle.pt")
    assert "not a readable safetensors file" in refusal(small(), tmp_path / "pickle.pt")
    save_weights(small(), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "not a readable safetensors file" in refusal(small(), tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shortcut": "none"}, "weights of shortcut=A, the model has shortcut=none"),
        ({"depth": 14}, "weights of depth=8, the model has depth=14"),
        ({"num_classes": 100}, "weights of num_classes=10, the model has num_classes=100"),
    ],
)
def test_another_architecture_is_refused_by_its_metadata(tmp_path, change, said):
    save_weights(small(), tmp_path / "w.safetensors")
    assert said in refusal(small(**change), tmp_path / "w.safetensors")


def test_differing_names_and_shapes_are_listed(tmp_path):
    state = small().state_dict()
    state["head.weight"] = state.pop("fc.weight")
    state["fc.bias"] = torch.zeros(100)
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    message = refusal(small(), tmp_path / "w.safetensors")
    assert "missing fc.weight;" in message
    assert "unexpected head.weight;" in message
    assert "of another shape fc.bias [100], model [10]" in message


def test_long_lists_are_cut(tmp_path):
    safetensors.torch.save_file({"fc.bias": torch.zeros(10)}, tmp_path / "w.safetensors")
    assert "missing conv1.weight, bn1.weight, bn1.bias and 33 more" in refusal(small(), tmp_path / "w.safetensors")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(small(), path)
    before = path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.os, "replace", full)
    with pytest.raises(WeightsError, match="cannot be written: .*No space left"):
        save_weights(small(seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(small(), tmp_path / "file" / "w.safetensors")


def test_metadata_must_be_strings_and_agree_with_the_model(tmp_path):
    with pytest.raises(WeightsError, match="^metadata 'epoch': expected strings"):
        save_weights(small(), tmp_path / "w.safetensors", {"epoch": 3})
    with pytest.raises(WeightsError, match="^metadata depth=20: the model has depth=8$"):
        save_weights(small(), tmp_path / "w.safetensors", {"depth": "20"})
    save_weights(small(), tmp_path / "w.safetensors", {"depth": "8"})
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert file.metadata()["depth"] == "8"


@pytest.mark.parametrize(
    "wrap", [torch.nn.Sequential, torch.nn.DataParallel, lambda model: comparators.build("googlenet", 2)]
)
def test_a_wrapped_or_foreign_model_is_refused(tmp_path, wrap):
    model = wrap(small())
    with pytest.raises(WeightsError, match=f"expected a ResNet .*got {type(model).__name__}"):
        save_weights(model, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


NETS = [
    *(("imagenet", depth, shortcut, "v1") for depth in (18, 34) for shortcut in ("none", "A", "B", "C")),
    *(("imagenet", depth, shortcut, stride) for depth in (50, 101, 152) for shortcut in ("A", "B", "C")
      for stride in ("v1", "v1.5")),
    *(("cifar", depth, shortcut, "v1") for depth in (8, 20, 110) for shortcut in ("none", "A", "B", "C")),
    *(("one-layer", depth, shortcut, "v1") for depth in (8, 20, 110) for shortcut in ("A", "B", "C")),
]  # fmt: skip


@pytest.mark.parametrize(("family", "depth", "shortcut", "stride"), NETS)
def test_a_net_is_known_by_its_tensors(family: str, depth: int, shortcut: str, stride: str) -> None:
    with torch.device("meta"):
        net = resnet.build(family=family, depth=depth, shortcut=shortcut, stride=stride, num_classes=7)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    tells_shortcut, tells_stride = shortcut in ("B", "C"), not net.architecture.bottleneck
    words = (None if tells_shortcut else shortcut, None if tells_stride else stride)
    assert _by_shapes(Path("w"), shapes, *words) == net.architecture
    if not tells_shortcut:
        with pytest.raises(WeightsError, match="^w: has no projections and does not say more; add shortcut=A, or none"):
            _by_shapes(Path("w"), shapes, None, stride)
    if not tells_stride:
        with pytest.raises(WeightsError, match=r"^w: does not say where its bottlenecks stride; add stride=v1.5"):
            _by_shapes(Path("w"), shapes, shortcut, None)
    if tells_shortcut:
        with pytest.raises(WeightsError, match=f"^w: has projections as shortcut={shortcut}, and shortcut=A was asked"):
            _by_shapes(Path("w"), shapes, "A", stride)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda shapes: shapes.pop("fc.weight"), "no residual network's weights: expected conv1, layer1 ... and fc"),
        (lambda shapes: shapes.pop("conv1.weight"), "no residual network's weights"),
        (lambda shapes: shapes.update({"fc.weight": (3,)}), "no residual network's weights"),
        (
            lambda shapes: shapes.update({"layer3.2.conv1.weight": (256, 256, 3, 3)}),
            "2, 2, 3, 2 blocks a stage are",
        ),
        (
            lambda shapes: shapes.update({"layer1.0.conv3.weight": (64, 64, 1, 1)}),
            "2, 2, 2, 2 blocks a stage are",
        ),
    ],
)
def test_tensors_of_no_net_are_refused(change: Callable[[dict[str, tuple[int, ...]]], object], said: str) -> None:
    with torch.device("meta"):
        net = resnet.build(family="imagenet", depth=18, shortcut="B", num_classes=7)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    change(shapes)
    with pytest.raises(WeightsError, match=f"^w: {said}"):
        _by_shapes(Path("w"), shapes, None, None)


def test_metadata_tells_the_net_and_a_word_may_not_contradict_it(tmp_path: Path) -> None:
    net = resnet.build(family="cifar", depth=8, shortcut="none", num_classes=4)
    path = tmp_path / "w.safetensors"
    resnet.save_weights(net, path, {"note": "x"})
    found, metadata = resnet.architecture_of(path)
    assert found == net.architecture and metadata["note"] == "x"
    assert resnet.architecture_of(path, shortcut="none", stride="v1")[0] == found
    with pytest.raises(WeightsError, match=f"^{path}: weights of shortcut=none, and shortcut=A was asked for"):
        resnet.architecture_of(path, shortcut="A")
    save_file({"a": torch.zeros(1)}, path, {"family": "cifar", "depth": "9", "shortcut": "A", "stride": "v1"})
    with pytest.raises(WeightsError, match=f"^{path}: its metadata has a family but no num_classes"):
        resnet.architecture_of(path)
    words = {"family": "cifar", "depth": "9", "shortcut": "A", "stride": "v1", "num_classes": "3"}
    save_file({"a": torch.zeros(1)}, path, words)
    with pytest.raises(WeightsError, match=f"^{path}: its metadata: depth=9: family=cifar has depths 6n"):
        resnet.architecture_of(path)
    net = resnet.build(family="cifar", depth=8, shortcut="B", num_classes=4)
    for key, text, said in (
        ("depth", "eight", "depth=eight: expected a whole number"),
        ("depth", "60000002", "depth=60000002, and its tensors depth=8"),
        ("num_classes", "999999999", "num_classes=999999999, and its tensors num_classes=4"),
        ("shortcut", "C", "shortcut=C, and its tensors shortcut=B"),
        ("shortcut", "A", "shortcut=A, and its tensors shortcut=B"),
    ):
        told = {"family": "cifar", "depth": "8", "shortcut": "B", "stride": "v1", "num_classes": "4"} | {key: text}
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path, told)
        with pytest.raises(WeightsError, match=f"^{path}: its metadata(:| has) {said}"):
            resnet.architecture_of(path)
    whole = {name: value.contiguous().int() for name, value in net.state_dict().items()}
    save_file(whole, path)
    with pytest.raises(WeightsError, match=r"conv1.weight has values of torch.int32; expected a floating dtype$"):
        resnet.load_weights(net, path)
    path.write_bytes(b"x")
    with pytest.raises(WeightsError, match=f"^{path}: not a readable safetensors file"):
        resnet.architecture_of(path)
    with pytest.raises(WeightsError, match="no such weights file"):
        resnet.architecture_of(tmp_path / "none")
