"""The default loader: NVIDIA DALI decodes, crops, resizes and mirrors, on the GPU where there is one, else on the CPU."""

import collections
import dataclasses
import itertools
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import nvidia.dali as dali
import torch
from nvidia.dali import fn, types
from PIL import Image

from .ahead import Ahead
from .augment import Augmentation, Placement, draws, place, windows
from .colour import Colour
from .encoded import check, decode, encode_ppm, read_file
from .errors import DataError
from .sampler import Rows, Sampler
from .split import Batch, Split
from .stream import StreamLoader, requests

# Batches inside DALI's pipeline, and finished ones that wait behind it.
_PIPELINE_DEPTH = 2
_READY_DEPTH = 2
# Side of the small datasets' images, which then need no resizing.
_SMALL_SIZE = 32


def _resizes(augmentation: Augmentation) -> bool:
    return augmentation.geometry == "window" or augmentation.image_size != _SMALL_SIZE


def _pipeline(split: Split, augmentation: Augmentation, batch: int, threads: int, device: torch.device) -> dali.Pipeline:
    """Build the pipeline: encoded bytes (or pixels), window or shift and flip in; uint8 [N, S, S, 3] out.

    The inputs are named source, window_start, window_shape, shift and flip; those that the policy does without are
    not there. Normalization is not DALI's: `resnet.data.colour` does it for every loader, on a CPU in a quarter of
    the time.
    """
    size = augmentation.image_size
    gpu = device.type == "cuda"
    # Dynamic execution: every output owns its memory, so that torch can hold it without a copy.
    pipeline = dali.Pipeline(
        batch_size=batch,
        num_threads=threads,
        device_id=device.index if gpu else None,
        prefetch_queue_depth=_PIPELINE_DEPTH,
        exec_dynamic=True,
    )
    with pipeline:
        window: dict[str, Any] = {}
        mirror: dict[str, Any] = {}
        if augmentation.geometry == "window":
            start = fn.external_source(name="window_start", dtype=types.INT32, ndim=1)
            shape = fn.external_source(name="window_shape", dtype=types.INT32, ndim=1)
            window = {"start": start, "shape": shape, "axis_names": "HW"}
        if augmentation.flips:
            mirror = {"mirror": fn.external_source(name="flip", dtype=types.INT32, ndim=0)}
        if split.images is not None:
            images = fn.external_source(name="source", dtype=types.UINT8, ndim=3, layout="HWC")
            images = images.gpu() if gpu else images
            images = fn.slice(images, **window) if window else images
        else:
            source = fn.external_source(name="source", dtype=types.UINT8, ndim=1)
            # Orientation tags are ignored, as everyone does who trains on ImageNet.
            options = {"output_type": types.RGB, "adjust_orientation": False, "device": "mixed" if gpu else "cpu"}
            if gpu:
                options["jpeg_fancy_upsampling"] = True
            if window:
                images = fn.decoders.image_slice(source, **window, **options)
            else:
                images = fn.decoders.image(source, **options)
        if window and not gpu:
            # `_finish` resizes and mirrors.
            pipeline.set_outputs(images)
            return _built(pipeline)
        if _resizes(augmentation):
            fused = mirror if window else {}
            images = fn.resize_crop_mirror(images, size=(size, size), crop=(size, size), **fused)
        if augmentation.pad:
            shift = fn.external_source(name="shift", dtype=types.INT32, ndim=1)
            border = {"out_of_bounds_policy": "pad", "fill_values": 0}
            images = fn.slice(images, start=shift, shape=(size, size), axis_names="HW", **border)
        if mirror and not window:
            images = fn.flip(images, horizontal=mirror["mirror"])
        pipeline.set_outputs(images)
    pipeline.build()
    return pipeline


@dataclasses.dataclass(slots=True)
class _Sent:
    """A batch that is inside the pipeline: its rows, its random parts, and what was fed for it, by input."""

    rows: Rows
    placement: Placement
    inputs: dict[str, Any]


class DaliLoader(StreamLoader):
    """Reads files in Python, hands them to DALI, and the result to torch, without a copy (see `Loader`).

    A thread of this loader's own reads ahead: it takes the next rows, reads and checks their files (several at a time,
    for the sake of network file systems), gives DALI the bytes and windows, and takes the finished batch. The consumer
    finds it ready; on a CPU normalized, on a GPU it normalizes it on its own stream.

    Args:
        split: What to read.
        sampler: In which order.
        augmentation: With which changes.
        colour: How to normalize.
        threads: DALI's threads, and files read at a time.
        device: Where the batches go; a GPU decodes, too.
        epochs: Number of epochs, or None for no end.
    """

    def __init__(
        self,
        split: Split,
        sampler: Sampler,
        augmentation: Augmentation,
        colour: Colour,
        *,
        threads: int,
        device: torch.device,
        epochs: int | None = None,
    ) -> None:
        super().__init__(sampler, epochs)
        self._split = split
        self._augmentation = augmentation
        self._colour = colour
        self._threads = threads
        self._device = device

    def _open(self, first_epoch: int) -> Generator[Batch, None, None]:
        ahead = Ahead(self._produce(first_epoch), _READY_DEPTH, "dali-loader")
        try:
            for sent, output in ahead:
                labels = torch.from_numpy(self._split.labels[sent.rows.indices])
                valid = None if sent.rows.valid is None else torch.from_numpy(sent.rows.valid)
                if self._device.type == "cpu":
                    images = output
                else:
                    labels = labels.pin_memory().to(self._device, non_blocking=True)
                    valid = None if valid is None else valid.pin_memory().to(self._device, non_blocking=True)
                    # DLPack orders DALI's memory by the current stream, now and when torch lets go of it.
                    images = self._colour(torch.from_dlpack(output), sent.placement)
                yield Batch(images, labels, valid)
        finally:
            ahead.close()

    def _produce(self, first_epoch: int) -> Generator[tuple[_Sent, Any], None, None]:
        """Yield batches in order; runs in the reading thread, the only one that touches the pipeline."""
        pipeline = _pipeline(self._split, self._augmentation, self._sampler.batch, self._threads, self._device)
        todo = requests(self._sampler, first_epoch, self._epochs)
        inside: collections.deque[_Sent] = collections.deque()
        with ThreadPoolExecutor(self._threads, "dali-reader") as readers:
            for epoch, rows in itertools.islice(todo, _PIPELINE_DEPTH):
                inside.append(self._send(pipeline, readers, epoch, rows))
            # The first call runs the pipeline to its full depth, whether there is that much to do or not.
            for _ in range(_PIPELINE_DEPTH - len(inside)):
                _feed(pipeline, inside[-1].inputs)
            pipeline.schedule_run()
            while inside:
                try:
                    (output,) = pipeline.share_outputs()
                except RuntimeError as error:
                    raise self._blame(inside, error) from error
                pipeline.release_outputs()
                done = inside.popleft()
                pixels = output.as_tensor()
                if self._device.type == "cpu":
                    pixels = self._colour(torch.from_dlpack(pixels), done.placement)
                yield done, pixels
                for epoch, rows in itertools.islice(todo, 1):
                    inside.append(self._send(pipeline, readers, epoch, rows))
                    pipeline.schedule_run()

    def _send(self, pipeline: dali.Pipeline, readers: ThreadPoolExecutor, epoch: int, rows: Rows) -> _Sent:
        """Read a batch's files and feed them with their windows, shifts and flips."""
        augmentation = self._augmentation
        u = draws(self._sampler.seed, epoch, rows.positions)
        placement = place(augmentation, u)
        inputs: dict[str, Any] = {}
        if self._split.images is not None:
            inputs["source"] = self._split.images[rows.indices]
            sizes = np.tile(self._split.images.shape[1:3], (len(u), 1))
        else:
            parts = np.array_split(rows.indices, self._threads)
            read = [file for part in readers.map(self._read, parts) for file in part]
            inputs["source"] = [file[0] for file in read]
            sizes = np.array([file[1:] for file in read])
        if augmentation.geometry == "window":
            boxes = windows(augmentation, u, sizes)
            inputs["window_start"], inputs["window_shape"] = boxes[:, :2].copy(), boxes[:, 2:].copy()
        if augmentation.pad:
            inputs["shift"] = placement.shifts
        if augmentation.flips:
            inputs["flip"] = placement.flips.astype(np.int32)
        _feed(pipeline, inputs)
        return _Sent(rows, placement, inputs)

    def _read(self, indices: np.ndarray) -> list[tuple[np.ndarray, int, int]]:
        """Read and check files: encoded bytes as uint8 [length], height and width of each."""
        assert self._split.paths is not None
        size = self._augmentation.image_size
        files = []
        for index in indices:
            path = self._split.paths[index]
            content, height, width = check(path, read_file(path))
            if (height, width) != (size, size) and not _resizes(self._augmentation):
                image = decode(path, content).resize((size, size), Image.Resampling.BILINEAR)
                content, height, width = encode_ppm(image), size, size
            files.append((np.frombuffer(content, np.uint8), height, width))
        return files

    def _blame(self, inside: Iterable[_Sent], error: RuntimeError) -> Exception:
        """Find the file that DALI could not decode; its own message does not name it."""
        if self._split.paths is None:
            return error
        suspects = [
            (self._split.paths[index], content)
            for sent in inside
            for index, content in zip(sent.rows.indices, sent.inputs["source"], strict=True)
        ]
        for path, content in suspects:
            try:
                decode(path, content.tobytes())
            except DataError as found:
                return found
        for path, content in suspects:
            if not _decodes(content):
                return DataError(f"{path}: damaged image (DALI cannot decode it)")
        return error


def _decodes(content: np.ndarray) -> bool:
    """Try one encoded image alone, on the CPU."""
    pipeline = dali.Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        source = fn.external_source(name="source", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(source, output_type=types.RGB))
    pipeline.build()
    pipeline.feed_input("source", [content])
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True


def _feed(pipeline: dali.Pipeline, inputs: dict[str, Any]) -> None:
    for name, value in inputs.items():
        pipeline.feed_input(name, value)
