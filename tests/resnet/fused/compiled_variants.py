"""Print how many variants of each kernel a network's passes compile over batches of several sizes; see `test_variants`.

Without the interpreter, under which there is nothing to compile, and without a GPU: tensors are on the meta device.
"""

import json
import sys

import torch
from torch import Tensor

from kernels import runtime
from kernels.aot.compile import specialize, target_of
from kernels.runtime import Launch
from resnet.model import ResNet, build

CHIP = "sm_90"
BATCHES = (256, 255, 17, 1)
NETS = {
    "ResNet-20": {"family": "cifar", "depth": 20, "shortcut": "A"},
    "ResNet-18": {"family": "imagenet", "depth": 18, "shortcut": "C"},
    "ResNet-50 v1": {"family": "imagenet", "depth": 50, "shortcut": "A", "stride": "v1"},
    "ResNet-50 v1.5": {"family": "imagenet", "depth": 50, "shortcut": "B", "stride": "v1.5"},
}


def launches(model: ResNet, images: Tensor) -> list[Launch]:
    """Those of a training step, and of a pass in evaluation."""
    with runtime.capture_launches(CHIP) as found:
        model.train()
        model(images).sum().backward()
        model.eval()
        with torch.no_grad():
            model(images)
    return found


def code(launch: Launch) -> str:
    """What a launch's code may depend on: its kernel, constexprs (with the tile config), channels and options."""
    constexprs = {param.name for param in launch.function.params if param.is_constexpr}
    own = {name: value for name, value in launch.arguments.items() if name in constexprs}
    # Channels are the strides of rows, and turns are of channels, window and tile config.
    own |= {name: launch.arguments[name] for name in ("C", "SHORTCUT_C", "SKIP_C", "TURNS") if name in launch.arguments}
    tensors = {
        name: str(value.dtype)
        for name, value in launch.arguments.items()
        if name.endswith("_ptr") and value is not None
    }
    return f"{launch.function.fn.__name__} {sorted(own.items())} {tensors} {launch.options}"


def main() -> None:
    torch.is_autocast_enabled = lambda *_: False  # which knows no meta device
    name = sys.argv[1]
    with torch.device("meta"):
        model = build(num_classes=10, kernels="triton", **NETS[name])
    model.fc.bfloat16()
    # Of 216 no layer has a multiple of 16 pixels, as layers of 224 have, whatever the batch.
    side = 32 if model.maxpool is None else 216
    variants: dict[str, set[str]] = {}
    captured: dict[int, int] = {}
    for batch in BATCHES:
        images = torch.empty(batch, 3, side, side, dtype=torch.bfloat16, device="meta")
        found = launches(model, images)
        captured[batch] = len(found)
        for launch in found:
            variants.setdefault(code(launch), set()).add(specialize(launch, target_of(CHIP)).key)
    print(json.dumps({"launches": captured, "variants": {key: len(value) for key, value in variants.items()}}))


if __name__ == "__main__":
    main()
