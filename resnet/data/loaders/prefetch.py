"""Runs a generator in a thread of its own, a bounded number of items ahead of its consumer."""

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

from resnet.data.errors import DataError
from resnet.data.loaders.patience import LOOK_S

_Items = queue.Queue[tuple[Any, BaseException | None]]
_Look = Callable[[float], None]


def _work(source: Generator[Any, None, None], items: _Items, stop: threading.Event) -> None:
    try:
        for item in source:
            items.put((item, None))
            if stop.is_set():
                break
        else:
            items.put((None, StopIteration()))
    except BaseException as error:
        # Whatever it is, the consumer must wake up and raise it.
        items.put((None, error))
    finally:
        source.close()


def _end(thread: threading.Thread, items: _Items, stop: threading.Event, look: _Look | None) -> None:
    stop.set()
    began_s = time.monotonic()
    while thread.is_alive():
        with contextlib.suppress(queue.Empty):
            while True:
                items.get_nowait()
        thread.join(0.02)
        if look and time.monotonic() - began_s > LOOK_S:
            look(began_s)


class Prefetch:
    """An iterator over `source` that computes up to `depth` items before they are asked for.

    The generator runs, and is closed, in the background thread alone. Its exceptions come out of `__next__`, after
    which the iterator is exhausted. The thread ends with `close`, or with the interpreter.

    Args:
        source: What computes the items.
        depth: How many may wait.
        name: Of the thread.
        look: Called now and then while the consumer waits, with when that began (of `time.monotonic`). Where it raises,
            the thread hangs: it is left to itself, since nothing can end it.

    Raises:
        DataError: The system has no thread left.
    """

    def __init__(self, source: Generator[Any, None, None], depth: int, name: str, look: _Look | None = None) -> None:
        self._items: _Items = queue.Queue(depth)
        self._look = look
        stop = threading.Event()
        thread = threading.Thread(target=_work, args=(source, self._items, stop), name=name, daemon=True)
        self._exhausted = False
        try:
            thread.start()
        except RuntimeError as error:
            raise DataError(f"loader thread {name}: {error}; does `ulimit -u` or the container limit them?") from None
        self._end = weakref.finalize(self, _end, thread, self._items, stop, look)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._exhausted:
            raise StopIteration
        item, error = self._get()
        if error is not None:
            self._exhausted = True
            raise error
        return item

    def _get(self) -> tuple[Any, BaseException | None]:
        if self._look is None:
            return self._items.get()
        began_s = time.monotonic()
        while True:
            try:
                return self._items.get(timeout=LOOK_S)
            except queue.Empty:
                try:
                    self._look(began_s)
                except DataError:
                    self._exhausted = True
                    self._end.detach()
                    raise

    def close(self) -> None:
        """End the thread and wait for it; items not asked for are lost.

        Raises:
            DataError: It hangs; see `look`.
        """
        self._exhausted = True
        self._end()
