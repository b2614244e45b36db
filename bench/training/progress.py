"""What a person sees while a run goes: a live line on a terminal, plain lines elsewhere."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.config.run_config import RunConfig

VARIABLE = "RESNET_BENCH_PROGRESS"


class Emitter:
    """Rank 0's side: events to the file that `RESNET_BENCH_PROGRESS` names, else a display on stdout."""

    def __init__(self, config: RunConfig) -> None:
        path = os.environ.get(VARIABLE)
        self._file: TextIO | None = None
        self._display = None if path else Display(config, sys.stdout)
        if path:
            try:
                self._file = open(path, "a", buffering=1)  # noqa: SIM115 (closed by close)
            except OSError as error:
                self._give_up(error)

    def emit(self, event: str, **fields: Any) -> None:
        """Send one event. What cannot be shown ends the showing, never the run."""
        try:
            if self._file:
                self._file.write(json.dumps({"event": event, **fields}) + "\n")
            elif self._display:
                self._display.feed({"event": event, **fields})
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        with contextlib.suppress(OSError):
            print(f"progress is no longer shown: {error}", file=sys.stderr, flush=True)
        self.close()

    def close(self) -> None:
        """End the display or the file; more than once does no harm."""
        file, display, self._file, self._display = self._file, self._display, None, None
        with contextlib.suppress(OSError):  # what it still holds is not to be written either
            if file:
                file.close()
            if display:
                display.close()


class Follower:
    """The launcher's side: whole events as they appear in a file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_events(self) -> Iterator[dict[str, Any]]:
        """Events since the last call; a line still being written stays for the next."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # not there yet, or a disk that does not answer: there is nothing to show
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # torn by a full disk
                continue
            yield event


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to who writes: Rich would end the process."""
        raise


class Display:
    """Renders a run's events on a stream.

    Args:
        config: the run's configuration.
        stream: where to; a terminal gets one line that changes, anything else a line an epoch.
    """

    def __init__(self, config: RunConfig, stream: TextIO) -> None:
        self._config = config
        self._terminal = stream.isatty()
        self._console = _Console(file=stream, highlight=False, soft_wrap=not self._terminal)
        self._live: Live | None = None
        self._start: dict[str, Any] = {}
        self._epoch: dict[str, Any] = {}
        self._said_at = time.monotonic()

    def feed(self, event: dict[str, Any]) -> None:
        """Show one event of `Emitter.emit`."""
        kind = event["event"]
        if kind == "start":
            self._start = event
            self._console.print(f"{self._config.name()}: {event['about']}", markup=False)
        elif kind == "note":
            self._console.print(event["text"], markup=False)
        elif kind == "choices":
            layers = event["layers"].values()
            fused = sum((layer["forward"], layer["dgrad"]) != ("torch", "torch") for layer in layers)
            convolutions = f"in training fused kernels compute {fused} of {len(layers)} convolutions, cuDNN the others"
            self._console.print(f"{event['table']}kernels={self._config.kernels}: {convolutions}", markup=False)
        elif kind == "step":
            self._step(event)
        elif kind == "epoch":
            self._epoch = event
            self._console.print(self._epoch_line(event), markup=False)
        elif kind == "end":
            self.close()

    def close(self) -> None:
        """Take the live line away."""
        if self._live:
            self._live.stop()
            self._live = None

    def _step(self, event: dict[str, Any]) -> None:
        line = self._step_line(event)
        if self._terminal:
            if self._live is None:
                self._live = Live(console=self._console, transient=True, auto_refresh=False)
                self._live.start()
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif time.monotonic() - self._said_at > 30:  # a log of a long epoch is not silent either
            self._said_at = time.monotonic()
            self._console.print(line, markup=False)

    def _step_line(self, event: dict[str, Any]) -> str:
        done = event["step"] / max(self._start["steps"], 1)
        bar = "█" * round(16 * done) + "░" * (16 - round(16 * done))
        top1 = self._epoch.get("top1")
        return "  ".join(
            [
                f"epoch {event['epoch']}/{self._start['epochs']} {bar}",
                f"{event['images_per_s']:,.0f} images/s",
                f"loss {event['loss']:.3f}",
                f"top-1 {top1:.2%}" if top1 is not None else "top-1 -",
                f"{clock(event['left_s'])} left",
            ]
        )

    def _epoch_line(self, event: dict[str, Any]) -> str:
        self._said_at = time.monotonic()
        rate, top1 = event["images_per_s"], event["top1"]
        parts = [
            f"epoch {event['epoch']}/{self._start['epochs']}",
            f"{rate:,.0f} images/s" if rate is not None else "-",
            f"loss {event['loss']:.3f}",
            f"top-1 {top1:.2%}" if top1 is not None else "no evaluation",
            f"{event['elapsed_s']:.1f} s",
            f"{clock(event['left_s'])} left",
        ]
        if event["reached"]:
            parts.append(f"target {self._start['target']:.2%} reached")
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
