"""Running statistics of batch normalisation of each rank, which differ between ranks until an epoch ends."""

from collections.abc import Mapping
from pathlib import Path

from bench.training.checkpoint.folder import CheckpointError, shown

__all__ = ["BUFFERS", "Tensors", "check", "statistics_of"]

BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")  # of BN: in the weights, without a momentum
Tensors = dict[str, tuple[str, tuple[int, ...]]]  # dtype, such as F32, and shape by name


def statistics_of(rank: int, name: str) -> str:
    """What a rank's own value of a buffer is called in the file of statistics."""
    return f"{rank}/{name}"


def check(
    path: Path,
    found: Tensors | None,
    weights: Mapping[str, tuple[str, tuple[int, ...]]],
    ranks: str | None,
    within: int,
) -> None:
    """See that each rank has its running statistics, in the shapes of those of the weights.

    Args:
        path: of the file.
        found: what it has; None where it is not there.
        weights: what the weights have.
        ranks: how many there were, as a checkpoint says it.
        within: optimizer steps of the epoch that has not ended.

    Raises:
        CheckpointError: one line that names the file.
    """
    if found is None:
        raise CheckpointError(
            f"{path}: the ranks' statistics are missing, though it is of {within} steps within an epoch"
        )
    size = int(ranks) if str(ranks).isdecimal() and ranks else 0
    buffers = {name: entry for name, entry in weights.items() if name.endswith(BUFFERS)}
    expected = {statistics_of(rank, name): entry for rank in range(size) for name, entry in buffers.items()}
    if odd := sorted(set(found) ^ set(expected)) or sorted(name for name in found if found[name] != expected[name]):
        raise CheckpointError(f"{path}: {shown(odd[0])} is not what {size} ranks of this network have")
