"""The roofline model: known ladders, counts of every net, and the command line."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.roofline import command
from bench.roofline.layers import layers
from bench.roofline.levels import CONV_ROWS, LEVELS, PLACE_ROWS
from bench.roofline.passes import ladder, passes
from resnet.architecture import Architecture

ROOT = Path(__file__).resolve().parents[3]
with (ROOT / "tests/resnet/counts.csv").open() as file:
    ROWS = [row for row in csv.DictReader(file) if row["depth"]]

H100 = {"copy_bytes_per_s": 3.0e12, "flops_per_s": 798e12}
# ResNet-50 v1.5 B, batch 256, 224 x 224, bf16, of a model made independently.
KNOWN_GB = (121, 91, 83, 78, 71, 68, 67, 63)
KNOWN_IDEAL_MS = (42.7, 32.5, 29.9, 28.4, 25.7, 24.7, 24.2, 22.7)
KNOWN_CALIBRATED_MS = (57.4, 46.1, 43.2, 41.5, 37.9, 36.5, 36.3, 33.5)


def net(depth=50, shortcut="B", stride="v1", family="imagenet"):
    classes = 1000 if family == "imagenet" else 10
    return Architecture(family=family, depth=depth, shortcut=shortcut, stride=stride, num_classes=classes)


def architecture(row):
    return Architecture(
        family=row["family"], depth=int(row["depth"]), shortcut=row["shortcut"], stride=row["stride"] or "v1",
        num_classes=int(row["num_classes"]),
    )  # fmt: skip


def total(found, *ops, layer=""):
    return sum(one.bytes for one in found if one.op in ops and one.layer.startswith(layer))


def test_the_known_ladder():
    found = ladder(net(stride="v1.5"), 256, 224, 2, **H100)
    assert [one.level for one in found] == ["eager", "compile", "a", "b", "c", "d", "e", "f"]
    assert [one.bytes / 1e9 for one in found] == pytest.approx(KNOWN_GB, rel=0.02)
    assert [one.ideal_s * 1e3 for one in found] == pytest.approx(KNOWN_IDEAL_MS, rel=0.02)
    calibrated = ladder(net(stride="v1.5"), 256, 224, 2, 0.9 * 3.0e12, 0.35 * 798e12)
    assert [one.ideal_s * 1e3 for one in calibrated] == pytest.approx(KNOWN_CALIBRATED_MS, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(list(row.values())[:4]).rstrip("-"))
def test_counts_of_every_net(row):
    described, size = architecture(row), int(row["image_size"])
    found = layers(described, size)
    assert sum(layer.multiply_adds for layer in found) == int(row["multiply_adds"])
    assert sum(layer.parameters for layer in found) == int(row["parameters"])
    assert len({layer.name for layer in found}) == len(found)
    # Forward, dgrad and wgrad take two FLOPs a multiply-add each; the first layer has no dgrad.
    flops = 2 * 3 * (3 * int(row["multiply_adds"]) - found[0].multiply_adds)
    rungs = ladder(described, 3, size, 2, **H100)
    assert {rung.flops for rung in rungs} == {flops}
    for before, after in zip(rungs, rungs[1:], strict=False):
        assert after.bytes <= before.bytes and after.ideal_s <= before.ideal_s
    assert rungs[-1].bytes < rungs[1].bytes < rungs[0].bytes


def test_module_names_are_the_models():
    torch = pytest.importorskip("torch")
    import resnet

    with torch.device("meta"):
        model = resnet.build(family="imagenet", depth=50, shortcut="B", stride="v1.5", num_classes=1000)
    convs = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)}
    found = [layer for layer in layers(net(stride="v1.5"), 224) if not layer.linear]
    assert {layer.name for layer in found} == set(convs)
    for layer in found:
        conv = convs[layer.name]
        assert (layer.c_in, layer.c_out) == (conv.in_channels, conv.out_channels)
        assert (layer.kernel, layer.stride) == (conv.kernel_size[0], conv.stride[0])


def test_bytes_go_with_the_batch_and_the_element():
    without = lambda batch, element: [  # noqa: E731
        sum(one.bytes for one in passes(net(34), batch, 224, element, level) if one.layer not in ("weights", "fc"))
        for level in LEVELS
    ]
    one, two, wide = without(64, 2), without(128, 2), without(64, 4)
    weights = sum(3 * layer.weights * 2 for layer in layers(net(34), 224) if not layer.linear)
    weights -= layers(net(34), 224)[0].weights * 2  # no dgrad of the first
    assert [b - weights for b in two] == [2 * (a - weights) for a in one]
    # Masks and indices are as wide as before, all else is twice that.
    assert all(1.9 * a < b <= 2 * a for a, b in zip(one, wide, strict=True))


def test_each_fusion_saves_the_passes_that_it_replaces():
    y = 128 * 32 * 32 * 16 * 2  # one activation of ResNet-20's first stage
    found = {level: passes(net(20, "A", family="cifar"), 128, 32, 2, level) for level in LEVELS}
    inside = "layer1.1.conv1"  # z between two convolutions of a block
    assert total(found["eager"], "bn_stats", "normalize", "relu", layer=inside) == 5 * y
    assert total(found["compile"], "bn_stats", "bn_act", layer=inside) == 3 * y
    assert total(found["compile"], "bn_backward_reduce", "bn_backward_apply", layer=inside) == 7 * y
    assert total(found["a"], "bn_act_backward_reduce", "bn_act_backward_apply", layer=inside) == 5 * y
    assert total(found["c"], "bn_act_backward_reduce", "bn_act_backward_apply", layer=inside) == 3 * y
    assert total(found["d"], "bn_stats", "bn_act", layer=inside) == 0
    assert total(found["f"], "bn_act_backward_apply", layer=inside) == 0
    after = "layer1.1.conv2"
    dgrad = {level: total(found[level], "dgrad", layer=after) for level in LEVELS}
    assert {level: dgrad[level] - dgrad["a"] for level in "cdef"} == {"c": y, "d": 2 * y, "e": y, "f": 2 * y}


def test_option_a_and_plain_nets_move_less_than_projections():
    eager, plain, padded, projected, all_projected = (
        ladder(net(50, shortcut), 8, 224, 2, **H100)[level]
        for level, shortcut in ((0, "B"), (2, "none"), (2, "A"), (2, "B"), (2, "C"))
    )
    assert plain.bytes < padded.bytes < projected.bytes < all_projected.bytes
    assert projected.bytes < eager.bytes


def test_odd_images():
    assert [layer.size_out for layer in layers(net(18), 33)][:6] == [17, 9, 9, 9, 9, 5]
    ladder(net(18), 1, 33, 2, **H100)


def test_rows_of_the_table_name_what_is_known():
    levels = list(LEVELS)
    for row in (*CONV_ROWS, *PLACE_ROWS):
        first, last = row.levels.split("-")
        assert levels.index(first) <= levels.index(last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((8, 224, 2, "g"), "level=g"), ((8, 224, 3, "a"), "element_bytes=3"), ((0, 224, 2, "a"), "batch=0"),
     ((8, 0, 2, "a"), "image_size=0")],
)  # fmt: skip
def test_steps_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}: .*nearest is"):
        passes(net(), *arguments)


def test_json(capsys):
    assert command.main(["depth=50", "stride=v1.5", "batch=256", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    shown = json.loads(line)
    assert [rung["level"] for rung in shown["ladder"]] == list(LEVELS)
    assert [rung["gb"] for rung in shown["ladder"]] == pytest.approx(KNOWN_GB, rel=0.02)
    assert [rung["ideal_ms"] for rung in shown["ladder"]] == pytest.approx(KNOWN_IDEAL_MS, rel=0.02)
    assert shown["ladder"][1]["ideal_speedup"] == shown["ladder"][1]["calibrated_speedup"] == 1
    assert shown["chip"] == {**H100, "copy_frac": 0.9, "matrix_frac": 0.35}
    assert shown["net"]["depth"] == 50 and shown["net"]["stride"] == "v1.5" and shown["net"]["precision"] == "bf16"
    assert shown["net"]["multiply_adds"] == 4089184256 and shown["measured"] is False and "passes" not in shown


def test_json_with_layers_and_another_chip(capsys):
    words = ["depth=20,32", "--json", "--layers", "level=a", "precision=fp32", "matrix_tflop_s=100", "copy_tb_s=1.5"]
    assert command.main(words) == 0
    for line, depth in zip(capsys.readouterr().out.splitlines(), (20, 32), strict=True):
        shown = json.loads(line)
        assert (shown["net"]["depth"], shown["net"]["family"], shown["net"]["batch"]) == (depth, "cifar", 128)
        assert (shown["chip"]["copy_bytes_per_s"], shown["chip"]["flops_per_s"]) == (1.5e12, 100e12)
        [rung] = [rung for rung in shown["ladder"] if rung["level"] == "a"]
        assert sum(one["bytes"] for one in shown["passes"]) == pytest.approx(rung["gb"] * 1e9)


def test_tables(capsys):
    assert command.main(["depth=34", "shortcut=none", "--layers", "level=e"]) == 0
    out = capsys.readouterr().out
    assert "plain-34 v1 (imagenet), batch 256, 224 x 224, bf16" in out and "computed and not measured" in out
    assert "layer4.2.conv2" in out and "optimizer" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "depth is missing"),
        (["dpth=50"], "dpth=50: no such key; did you mean depth=50?"),
        (["depth=51"], "depth=51: family=imagenet has depths"),
        (["depth=18", "stride=v1.5"], "stride=v1.5: "),
        (["depth=50", "copy_frac=90"], "copy_frac=90: .*nearest: copy_frac=0.9"),
        (["depth=50", "precision=fp32"], "precision=fp32: the default matrix_tflop_s=798"),
        (["depth=50", "level=c"], "level=c: .*add --layers"),
        (["depth=50", "--jsn"], "--jsn: "),
    ],
)
def test_bad_words(words, message, capsys):
    assert command.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.match(f"bench.roofline: {message}", err)


def test_it_loads_without_torch_or_the_microbenchmarks():
    heavy = {"torch", "triton", "deepspeed", "nvidia", "bench.micro"}  # which import it, and not the other way round
    code = f"import bench.roofline.command, sys; sys.exit(' '.join(sorted({heavy} & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "bench.roofline", "depth=18,34,50,101,152", "--layers"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
