"""Runs a generator in a thread of its own, a bounded number of items ahead of its consumer."""

import contextlib
import queue
import threading
import weakref
from collections.abc import Generator, Iterator
from typing import Any

_Items = queue.Queue[tuple[Any, BaseException | None]]


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


def _end(thread: threading.Thread, items: _Items, stop: threading.Event) -> None:
    stop.set()
    while thread.is_alive():
        with contextlib.suppress(queue.Empty):
            while True:
                items.get_nowait()
        thread.join(0.02)


class Prefetch:
    """An iterator over `source` that computes up to `depth` items before they are asked for.

    The generator runs, and is closed, in the background thread alone. Its exceptions come out of `__next__`, after
    which the iterator is exhausted. The thread ends with `close`, or with the interpreter.
    """

    def __init__(self, source: Generator[Any, None, None], depth: int, name: str) -> None:
        self._items: _Items = queue.Queue(depth)
        stop = threading.Event()
        thread = threading.Thread(target=_work, args=(source, self._items, stop), name=name, daemon=True)
        self._exhausted = False
        self._end = weakref.finalize(self, _end, thread, self._items, stop)
        thread.start()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._exhausted:
            raise StopIteration
        item, error = self._items.get()
        if error is not None:
            self._exhausted = True
            raise error
        return item

    def close(self) -> None:
        """End the thread and wait for it; items not asked for are lost."""
        self._exhausted = True
        self._end()
