"""The default loader: NVIDIA DALI decodes, on the GPU where there is one, else on the CPU."""

import collections
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnet.data.batch import Batch, Split
from resnet.data.errors import DataError
from resnet.data.images.augment import Augmentation, Placement, draws, place, windows
from resnet.data.images.colour import Colour
from resnet.data.images.encoded import check, decode, encode_ppm, read_file
from resnet.data.images.resample import resize
from resnet.data.loaders import dali_graph
from resnet.data.loaders.buffer_pool import BufferPool
from resnet.data.loaders.epoch_stream import StreamLoader, requests
from resnet.data.loaders.patience import Signs
from resnet.data.loaders.prefetch import Prefetch
from resnet.data.loaders.sampler import Rows, Sampler

# Decoded batches that wait to be finished, and finished ones that wait for the consumer.
_DECODED = 1
_READY = 2
# In the messages of DALI, CUDA and C++ where there is no memory left.
_NO_MEMORY = ("out of memory", "bad_alloc", "memory allocation", "cannot allocate")


@dataclasses.dataclass(slots=True)
class _Sent:
    """A batch that is inside the pipeline: its rows, its random parts, and what was fed for it, by input."""

    rows: Rows
    placement: Placement
    inputs: dict[str, Any]


class DaliLoader(StreamLoader):
    """Reads files in Python, hands them to DALI, and the result to torch (see `Loader`).

    A thread of this loader's own reads ahead: it takes the next rows, reads and checks their files (several at a time,
    for the sake of network file systems), gives DALI the bytes and windows, and takes what it has decoded. On a CPU a
    second thread resizes and normalizes that, and the consumer finds its batch ready; on a GPU, where DALI has resized
    it, the consumer normalizes it on its own stream.

    Args:
        split: What to read.
        sampler: In which order.
        augmentation: With which changes.
        colour: How to normalize.
        threads: DALI's threads, and those that read and finish; more than a batch has images would have nothing to do,
            and are not started.
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
        self._threads = min(threads, sampler.batch)
        self._device = torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device
        size = augmentation.image_size
        self._signs = Signs("dali")
        self._buffers = BufferPool((sampler.batch, size, size, 3))
        # Built ahead of the first epoch, because a GPU's decoder takes a while to start.
        self._spare: dali_graph.Graph | None = self._build()

    def _build(self) -> dali_graph.Graph:
        try:
            return dali_graph.build(
                self._split, self._augmentation, batch=self._sampler.batch, threads=self._threads, device=self._device
            )
        except RuntimeError as error:
            raise _named(error) from None

    def _describe(self) -> str:
        return f"loader=dali: {self._signs.describe()}"

    def close(self) -> None:
        """End the reading thread and free the pipeline."""
        super().close()
        self._spare = None

    def _open(self, first_epoch: int, first: int) -> Generator[Batch, None, None]:
        on_cpu = self._device.type == "cpu"
        look = self._signs.look
        prefetch = Prefetch(self._produce(first_epoch, first), _DECODED, "dali-decode", None if on_cpu else look)
        if on_cpu:
            prefetch = Prefetch(self._finish(prefetch), _READY, "dali-finish", look)
        reading: collections.deque[tuple[Any, torch.cuda.Event]] = collections.deque()
        try:
            for sent, output in prefetch:
                labels = torch.from_numpy(self._split.labels[sent.rows.indices])
                valid = None if sent.rows.valid is None else torch.from_numpy(sent.rows.valid)
                if on_cpu:
                    images = output
                else:
                    labels = labels.pin_memory().to(self._device, non_blocking=True)
                    valid = None if valid is None else valid.pin_memory().to(self._device, non_blocking=True)
                    images = self._colour(torch.from_dlpack(output.as_tensor()), sent.placement)
                    # DALI may use the pixels' memory again as soon as they are let go, but the kernels that read
                    # them have only been queued: they are kept until those have run.
                    event = torch.cuda.Event()
                    event.record()
                    reading.append((output, event))
                    while reading and reading[0][1].query():
                        reading.popleft()
                yield Batch(images, labels, valid)
        finally:
            prefetch.close()
            for _, event in reading:
                event.synchronize()

    def _produce(self, first_epoch: int, first: int) -> Generator[tuple[_Sent, Any], None, None]:
        """Yield batches as DALI leaves them; runs in a thread of its own, the only one that touches the pipeline."""
        graph, self._spare = self._spare or self._build(), None
        try:
            yield from self._run(graph, first_epoch, first)
        except RuntimeError as error:
            raise _named(error) from None
        finally:
            graph.pipeline = None

    def _run(self, graph: dali_graph.Graph, first_epoch: int, first: int) -> Generator[tuple[_Sent, Any], None, None]:
        todo = requests(self._sampler, first_epoch, self._epochs, first)
        inside: collections.deque[_Sent] = collections.deque()
        with ThreadPoolExecutor(self._threads, "dali-reader") as pool:
            for epoch, rows in itertools.islice(todo, dali_graph.DEPTH):
                inside.append(self._send(graph, pool, epoch, rows))
            # The first call runs the pipeline to its full depth, whether there is that much to do or not.
            for _ in range(dali_graph.DEPTH - len(inside)):
                graph.feed(inside[-1].inputs)
            graph.schedule()
            while inside:
                try:
                    output = graph.take()
                except RuntimeError as error:
                    raise self._blame(inside, error) from None
                self._signs.moved()
                done = inside.popleft()
                # Before anything else is done with this one, so that DALI always has something to do.
                for epoch, rows in itertools.islice(todo, 1):
                    inside.append(self._send(graph, pool, epoch, rows))
                    graph.schedule()
                yield done, output

    def _send(self, graph: dali_graph.Graph, pool: ThreadPoolExecutor, epoch: int, rows: Rows) -> _Sent:
        """Read a batch's files and feed them with their windows, shifts and flips."""
        u = draws(self._sampler.seed, epoch, rows.positions)
        placement = place(self._augmentation, u)
        inputs: dict[str, Any] = {"shift": placement.shifts, "flip": placement.flips.astype(np.int32)}
        if self._split.images is not None:
            inputs["source"] = self._split.images[rows.indices]
            sizes = np.tile(self._split.images.shape[1:3], (len(u), 1))
        else:
            parts = np.array_split(rows.indices, self._threads)
            files = [file for part in pool.map(self._read, parts) for file in part]
            inputs["source"] = [file[0] for file in files]
            sizes = np.array([file[1:] for file in files])
        if self._augmentation.geometry == "window":
            boxes = windows(self._augmentation, u, sizes)
            inputs["window_start"], inputs["window_shape"] = boxes[:, :2].copy(), boxes[:, 2:].copy()
        graph.feed(inputs)
        return _Sent(rows, placement, inputs)

    def _read(self, indices: np.ndarray) -> list[tuple[np.ndarray, int, int]]:
        """Read and check files: encoded bytes as uint8 [length], height and width of each."""
        assert self._split.paths is not None
        size = self._augmentation.image_size
        as_it_is = self._augmentation.geometry == "shift" and size == dali_graph.SMALL_SIZE
        files = []
        for index in indices:
            path = self._split.paths[index]
            self._signs.begin(path)
            content, height, width = check(path, read_file(path))
            if as_it_is and (height, width) != (size, size):
                image = decode(path, content).resize((size, size), Image.Resampling.BILINEAR)
                content, height, width = encode_ppm(image), size, size
            files.append((np.frombuffer(content, np.uint8), height, width))
        self._signs.moved()
        return files

    def _finish(self, decoded: Prefetch) -> Generator[tuple[_Sent, torch.Tensor], None, None]:
        """Resize and mirror what is ragged, and normalize; for a CPU, in a thread beside the one that decodes."""
        cuts = np.linspace(0, self._sampler.batch, self._threads + 1).astype(int).tolist()
        parts = [slice(*cut) for cut in itertools.pairwise(cuts)]
        with ThreadPoolExecutor(self._threads, "dali-finish") as pool, contextlib.closing(decoded):
            for sent, output in decoded:
                images = self._buffers.take()
                fill = functools.partial(self._fill, images, output, sent.placement)
                for _ in pool.map(fill, parts):
                    self._signs.moved()
                yield sent, torch.from_numpy(images).permute(0, 3, 1, 2)

    def _fill(self, images: np.ndarray, output: Any, placement: Placement, rows: slice) -> None:
        """Finish some rows of a batch into `images`, float32 [N, S, S, 3]."""
        if self._augmentation.geometry == "window":
            size = self._augmentation.image_size
            resized = torch.empty(rows.stop - rows.start, size, size, 3, dtype=torch.uint8)
            for i, flip in enumerate(placement.flips[rows].tolist()):
                resize(np.asarray(output[rows.start + i]), resized[i], flip)
            pixels = resized.numpy()
        else:
            pixels = np.asarray(output.as_tensor())[rows]
        self._colour.fill(images[rows], pixels, placement.part(rows))

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
            if not dali_graph.decodes(content):
                return DataError(f"{path}: damaged image (DALI cannot decode it)")
        return error


def _named(error: RuntimeError) -> Exception:
    """What DALI, or a thread that could not be started, says, in one line that names the loader."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = f"loader=dali: {lines[0] if lines else type(error).__name__}"
    return (MemoryError if any(word in str(error).lower() for word in _NO_MEMORY) else DataError)(message)
