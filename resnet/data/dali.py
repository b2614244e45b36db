"""The default loader: NVIDIA DALI decodes, crops, resizes and mirrors, on the GPU where there is one, else on the CPU."""

import collections
import dataclasses
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import nvidia.dali as dali
import torch
from nvidia.dali import fn, types

from .ahead import Ahead
from .augment import Augmentation, Placement, draws, place, windows
from .colour import Colour
from .encoded import check, decode, read_file
from .errors import DataError
from .sampler import Rows, Sampler
from .split import Batch, Split
from .stream import StreamLoader, requests

# Batches inside DALI's pipeline and finished ones waiting behind it.
_PIPELINE_DEPTH = 2
_READY_DEPTH = 2


def _pipeline(split: Split, augmentation: Augmentation, batch: int, threads: int, device: torch.device) -> dali.Pipeline:
    """Build the pipeline: encoded bytes (or pixels), window or shift and flip in; uint8 [N, S, S, 3] out.

    Normalization is not DALI's: `resnet.data.colour` does it for every loader, on a CPU four times as fast.
    """
    size = augmentation.image_size
    gpu = device.type == "cuda"
    # With dynamic execution every output owns its memory, so that torch can hold it without a copy.
    pipeline = dali.Pipeline(
        batch_size=batch,
        num_threads=threads,
        device_id=device.index if gpu else None,
        prefetch_queue_depth=_PIPELINE_DEPTH,
        exec_dynamic=True,
    )
    with pipeline:
        flip = fn.external_source(name="flip", dtype=types.INT32, ndim=0)
        window: dict[str, Any] = {}
        if augmentation.geometry == "window":
            corner = fn.external_source(name="corner", dtype=types.INT32, ndim=1)
            extent = fn.external_source(name="extent", dtype=types.INT32, ndim=1)
            window = {"start": corner, "shape": extent, "axis_names": "HW"}
        if split.images is not None:
            images = fn.external_source(name="source", dtype=types.UINT8, ndim=3, layout="HWC")
            if gpu:
                images = images.gpu()
            if window:
                images = fn.slice(images, **window)
            resized = bool(window) or split.images.shape[1:3] != (size, size)
        else:
            source = fn.external_source(name="source", dtype=types.UINT8, ndim=1)
            # Orientation tags are ignored, as by everyone who trains on ImageNet.
            options = {"device": "mixed" if gpu else "cpu", "output_type": types.RGB, "adjust_orientation": False}
            if gpu:
                options["jpeg_fancy_upsampling"] = True
            if window:
                images = fn.decoders.image_slice(source, **window, **options)
            else:
                images = fn.decoders.image(source, **options)
            # Small images are checked to be S x S as they are read, and resized there if they are not.
            resized = bool(window)
        if resized:
            mirror = {"mirror": flip} if augmentation.flips and window else {}
            images = fn.resize_crop_mirror(images, size=(size, size), crop=(size, size), **mirror)
        if augmentation.pad:
            shift = fn.external_source(name="shift", dtype=types.INT32, ndim=1)
            images = fn.slice(
                images, start=shift, shape=(size, size), axis_names="HW", out_of_bounds_policy="pad", fill_values=0
            )
        if augmentation.flips and not window:
            images = fn.flip(images, horizontal=flip)
        pipeline.set_outputs(images)
    pipeline.build()
    return pipeline
