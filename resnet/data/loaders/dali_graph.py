"""The DALI pipeline: encoded images and their windows, shifts and flips in, pixels out."""

import dataclasses
from typing import Any

import numpy as np
import nvidia.dali as dali
import torch
from nvidia.dali import fn, types

from resnet.data.batch import Split
from resnet.data.images.augment import Augmentation

# Batches inside the pipeline at a time.
DEPTH = 2
# Side of the small datasets' images, which at that size need no resizing.
SMALL_SIZE = 32


@dataclasses.dataclass(slots=True)
class Graph:
    """A pipeline and how to use it.

    Attributes:
        pipeline: Built; its one output is uint8, [N, S, S, 3] or ragged [h, w, 3]. Whoever built it takes it out of
            here at the end: a pipeline that an exception's traceback keeps alive is destroyed at an unforeseen time,
            and if that is in a forked worker process, it brings the process down.
        inputs: Names of what must be fed for each batch: `source` and, as the policy needs them, `window_start`,
            `window_shape`, `shift` (int32 [N, 2]) and `flip` (int32 [N]).
        ragged: The output is the windows as they were cut, neither resized nor mirrored.
    """

    pipeline: dali.Pipeline | None
    inputs: frozenset[str]
    ragged: bool

    def feed(self, inputs: dict[str, Any]) -> None:
        """Feed a batch, those of its inputs that the pipeline has."""
        assert self.pipeline is not None
        for name in self.inputs:
            self.pipeline.feed_input(name, inputs[name])

    def schedule(self) -> None:
        """Run the pipeline on what was fed, without waiting."""
        assert self.pipeline is not None
        self.pipeline.schedule_run()

    def take(self) -> Any:
        """Wait for the oldest batch and return it.

        Raises:
            RuntimeError: DALI's own, without its traceback.
        """
        assert self.pipeline is not None
        try:
            (output,) = self.pipeline.share_outputs()
        except RuntimeError as error:
            failure = error.with_traceback(None)
        else:
            self.pipeline.release_outputs()
            return output
        raise failure


def build(split: Split, augmentation: Augmentation, *, batch: int, threads: int, device: torch.device) -> Graph:
    """Build the pipeline for a split.

    A GPU does everything after reading. On a CPU, windows of photographs leave DALI unresized, because
    `resnet.data.images.resample` takes an eighth of the time of DALI's resize there. Neither normalizes:
    `resnet.data.images.colour` does, for every loader.
    """
    size = augmentation.image_size
    gpu = device.type == "cuda"
    windowed = augmentation.geometry == "window"
    ragged = windowed and not gpu
    inputs = set()

    # What augmentation draws is fed, not drawn by DALI: the draws are then those of every other loader, whatever the
    # number of ranks and threads. Only what the policy uses becomes an input, since each has to be fed.
    def feed(name: str, dtype: Any, ndim: int, layout: str | None = None) -> Any:
        inputs.add(name)
        return fn.external_source(name=name, dtype=dtype, ndim=ndim, layout=layout)

    # Dynamic execution: every output owns its memory, so that torch can hold it without a copy.
    pipeline = dali.Pipeline(
        batch_size=batch,
        num_threads=threads,
        device_id=device.index if gpu else None,
        prefetch_queue_depth=DEPTH,
        exec_dynamic=True,
    )
    with pipeline:
        window: dict[str, Any] = {}
        if windowed:
            window = {
                "start": feed("window_start", types.DALIDataType.INT32, 1),
                "shape": feed("window_shape", types.DALIDataType.INT32, 1),
                "axis_names": "HW",
            }
        if split.images is not None:
            # Decoded already, as CIFAR-10's binary files are.
            images = feed("source", types.DALIDataType.UINT8, 3, "HWC")
            images = images.gpu() if gpu else images
            images = fn.slice(images, **window) if windowed else images
        else:
            # Orientation tags are ignored, as by everyone who trains on ImageNet.
            options: dict[str, Any] = {"output_type": types.DALIImageType.RGB, "adjust_orientation": False}
            if gpu:
                # Chroma as the CPU's decoder, and PIL's, interpolates it.
                options |= {"device": "mixed", "jpeg_fancy_upsampling": True}
            # Only the window is decoded: of a JPEG that saves most of the work for small windows.
            encoded = feed("source", types.DALIDataType.UINT8, 1)
            decode = fn.decoders.image_slice if windowed else fn.decoders.image
            images = decode(encoded, **window, **options)
        if not ragged:
            flip = {"mirror": feed("flip", types.DALIDataType.INT32, 0)} if augmentation.flips else {}
            if windowed or size != SMALL_SIZE:
                # In one operator with the mirror, where nothing comes between.
                fused = flip if windowed else {}
                images = fn.resize_crop_mirror(images, size=(size, size), crop=(size, size), **fused)
            if augmentation.pad:
                # Padding and cropping are one slice that reaches over the edge, where zeros are.
                shift = {"start": feed("shift", types.DALIDataType.INT32, 1), "shape": (size, size), "axis_names": "HW"}
                images = fn.slice(images, **shift, out_of_bounds_policy="pad", fill_values=0)
            if flip and not windowed:
                images = fn.flip(images, horizontal=flip["mirror"])
        pipeline.set_outputs(images)
    pipeline.build()
    return Graph(pipeline, frozenset(inputs), ragged)


def decodes(content: np.ndarray) -> bool:
    """Try to decode one image (uint8 [length]), alone and on the CPU."""
    pipeline = dali.Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        source = fn.external_source(name="source", dtype=types.DALIDataType.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(source))
    pipeline.build()
    pipeline.feed_input("source", [content])
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True
