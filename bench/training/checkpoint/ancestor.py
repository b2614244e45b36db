"""The attempts that a run goes on from."""

from dataclasses import dataclass

from bench.training.checkpoint.folder import NAME


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """An attempt that a run went on from.

    Attributes:
        run_id, restart: of it.
        epoch: epochs done when it was left.
    """

    run_id: str
    restart: int
    epoch: int

    @property
    def attempt(self) -> str:
        return f"{self.run_id}.{self.restart}"

    def __str__(self) -> str:
        return f"{self.attempt}@{self.epoch}"


def named(name: str) -> Ancestor | None:
    """The attempt that wrote a checkpoint of some name; None where it is no name of one."""
    found = NAME.fullmatch(name)
    return Ancestor(run_id=found[2], restart=int(found[3]), epoch=int(found[1])) if found else None
