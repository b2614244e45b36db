"""Builds a net, loads weights into it from a safetensors file, and classifies an image of random pixels.

    .venv/bin/python examples/load_weights.py WEIGHTS.safetensors

A run with save=WEIGHTS.safetensors writes such a file (launch/local.py depth=20 dataset=digits save=...); which net it
is of stands in its metadata. Real images must be prepared as in training; random pixels only show the shapes.
"""

import sys

import torch
from safetensors import SafetensorError, safe_open

import resnet

path = sys.argv[1] if len(sys.argv) > 1 else sys.exit(f"usage: python {sys.argv[0]} WEIGHTS.safetensors")
try:
    with safe_open(path, framework="pt") as file:
        saved = file.metadata() or {}
except (OSError, SafetensorError) as error:
    sys.exit(f"{path}: not a readable safetensors file: {error}")
if "family" not in saved:  # such as torchvision's published weights: build the net by hand then, as below
    sys.exit(f"{path}: its metadata does not say which net it is of")

model = resnet.build(
    family=saved["family"],
    depth=int(saved["depth"]),
    shortcut=saved["shortcut"],
    stride=saved["stride"],
    num_classes=int(saved["num_classes"]),
)
resnet.load_weights(model, path)  # raises a WeightsError, in one line, where the file does not fit the net
model.eval()

side = 32 if saved["family"] == "cifar" else 224
torch.manual_seed(0)
images = torch.rand(1, 3, side, side)  # a batch of one: N x C x H x W
with torch.inference_mode():
    probabilities = model(images).softmax(dim=1)[0]
best = int(probabilities.argmax())
print(f"ResNet-{saved['depth']} of {path}: class {best} of {len(probabilities)}, probability {probabilities[best]:.4f}")
