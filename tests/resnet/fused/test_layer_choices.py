"""What computes each layer, as rows have it: every mode and tile config counts, and the order of layers does not."""

import json
from dataclasses import replace

import pytest

from kernels.choose.choice import TORCH, Choice
from kernels.operands import TileConfig
from resnet.fused.layer_choices import LayerChoices


def config(m: int) -> TileConfig:
    return TileConfig((("BLOCK_M", m), ("BLOCK_N", 64), ("BLOCK_K", 32)), 4, 3)


PROLOGUE = Choice("prologue", "triton", "triton", config(32), config(64), config(128))
TRITON = Choice("triton", "torch", "torch", config(32))
TABLE = {"conv1": TORCH, "layer1.0.conv1": TRITON, "layer1.0.conv2": PROLOGUE}


def test_a_layer_is_an_object_of_modes_and_tile_configs() -> None:
    assert json.loads(LayerChoices.of(TABLE).to_json()) == {
        "conv1": {
            "forward": "torch", "dgrad": "torch", "inference": "torch",
            "config": {"forward": None, "dgrad": None, "inference": None},
        },
        "layer1.0.conv1": {
            "forward": "triton", "dgrad": "torch", "inference": "torch",
            "config": {"forward": "32x64x32/w4/s3", "dgrad": None, "inference": None},
        },
        "layer1.0.conv2": {
            "forward": "prologue", "dgrad": "triton", "inference": "triton",
            "config": {"forward": "32x64x32/w4/s3", "dgrad": "64x64x32/w4/s3", "inference": "128x64x32/w4/s3"},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        replace(PROLOGUE, forward_config=config(16)),
        replace(PROLOGUE, dgrad_config=config(16)),
        replace(PROLOGUE, inference_config=config(16)),
        replace(PROLOGUE, inference_config=None),
        replace(PROLOGUE, forward_config=replace(config(32), num_warps=8)),
        replace(PROLOGUE, dgrad_config=replace(config(64), num_stages=4)),
        replace(PROLOGUE, forward="triton"),
        replace(PROLOGUE, inference="torch", inference_config=None),
        replace(PROLOGUE, forward="torch", forward_config=None),
        replace(PROLOGUE, forward="triton", dgrad="torch", dgrad_config=None),
    ],
)
def test_one_difference_in_one_layer_is_another_hash(other: Choice) -> None:
    found, changed = LayerChoices.of(TABLE), LayerChoices.of({**TABLE, "layer1.0.conv2": other})
    assert found.hash() != changed.hash() and found.to_json() != changed.to_json()


def test_a_layer_more_or_under_another_name_is_another_hash() -> None:
    moved = {**TABLE, "layer1.0.conv1": PROLOGUE, "layer1.0.conv2": TRITON}
    tables = [TABLE, moved, {**TABLE, "layer1.0.downsample.0": TORCH}, {}]
    assert len({LayerChoices.of(table).hash() for table in tables}) == len(tables)


def test_the_order_of_layers_and_of_keys_does_not_count() -> None:
    found = LayerChoices.of(TABLE)
    turned = LayerChoices.of(dict(reversed(TABLE.items())))
    layers = {name: dict(reversed(layer.items())) for name, layer in turned.layers.items()}
    for equal in (turned, LayerChoices(layers), LayerChoices(json.loads(found.to_json()))):  # type: ignore[arg-type]
        assert equal.hash() == found.hash() and equal.to_json() == found.to_json()
    assert len(found.hash()) == 16
