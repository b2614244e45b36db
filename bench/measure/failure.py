"""What ended a run, in the words of the results tables."""

import json
import re
from dataclasses import asdict, dataclass

from results.store.schema import FAILURE_KINDS
from results.words import ConfigError

OWN = ("bench", "kernels", "launch", "resnet", "results")  # packages whose errors say in one line what happened

NAMELESS = "another rank is gone"  # which, `bench.training.causes` finds out
SAVED = "; saved after step "  # in what a stopped run says, before the step and where it goes on


class Diverged(ArithmeticError):
    """The training loss is not finite."""


class Stopped(BaseException):
    """A signal asked the run to end: not an error of the run, so no `except Exception` may swallow it.

    Args:
        message: who or what stopped it, in one line.
        kind: one of `results.store.schema.FAILURE_KINDS`.
    """

    def __init__(self, message: str, kind: str = "interrupted") -> None:
        super().__init__(message)
        self.kind = kind


class RankLost(RuntimeError):
    """Another rank of the run is gone or no longer answers."""


@dataclass(frozen=True)
class Failure:
    """Why a run ended.

    Attributes:
        status: "failed", or "killed" where somebody ended it.
        kind: one of `results.store.schema.FAILURE_KINDS`.
        message: one line.
        rank: the rank that saw it first.
    """

    status: str
    kind: str
    message: str
    rank: int

    def __post_init__(self) -> None:
        assert self.kind in FAILURE_KINDS, self.kind

    def __str__(self) -> str:
        return f"{self.status} ({self.kind}, rank {self.rank}): {self.message}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Failure":
        return cls(**json.loads(text))


def one_line(error: BaseException) -> str:
    """The first line that says something, led by the type where the text alone would not say what happened."""
    # A file's name may be no text at all: what cannot be encoded is shown escaped.
    whole = str(error).encode("utf-8", "backslashreplace").decode()
    if type(error).__module__.partition(".")[0] in OWN:
        return " ".join(whole.split())
    text = next((line.strip() for line in whole.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def classify(error: BaseException, rank: int) -> Failure:
    """Name the failure behind an exception that ended a rank."""
    if isinstance(error, Stopped):
        return Failure("killed", error.kind, one_line(error), rank)
    if isinstance(error, KeyboardInterrupt):
        return Failure("killed", "interrupted", f"rank {rank} was stopped by SIGINT, as Ctrl-C sends it", rank)
    from resnet.data import death_of_worker

    error = death_of_worker(error) or error
    kind, message = _kind(error), one_line(error)
    if kind == "rank_lost" and not isinstance(error, RankLost):
        # Collectives lead with a source file and end with advice: what happened is in between.
        message = f"{NAMELESS}: " + re.sub(r"\[\S+:\d+\]\s*", "", message).partition(". This is")[0]
    return Failure("failed", kind, message, rank)


def _kind(error: BaseException) -> str:
    """The kind that an error's class says; of errors of torch, whose classes say little, what their text does."""
    import torch

    from resnet import WeightsError
    from resnet.data import DataError
    from results.store.journal import JournalError
    from results.store.writer import StoreError

    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ConfigError | WeightsError):
        # A file that cannot be written is the disk's doing, whatever class it reached us in.
        return "storage" if isinstance(error.__cause__, OSError) else "config"
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, RankLost):
        return "rank_lost"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return "oom"
    if any(word in text for word in ("closed by peer", "connection reset", "broken pipe", "remote process exited")):
        return "rank_lost"
    if isinstance(error, TimeoutError) or "timed out" in text or "timeout" in text:
        return "timeout"
    if isinstance(error, ConnectionError | torch.distributed.DistNetworkError):
        return "network"
    if isinstance(error, StoreError | JournalError) or (isinstance(error, OSError) and error.errno is not None):
        return "storage"
    return "unknown"
