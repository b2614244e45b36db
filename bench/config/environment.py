"""The environment variables by which a process knows its job and which of its ranks it is, written and read.

A launcher sets what is common to a job before its processes start; each process then adds who it is. Torch, gloo, NCCL,
OpenMP and DeepSpeed read most of the variables themselves; nothing here imports torch.
"""

import contextlib
import os
import re
import shlex
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bench.config.paths import ROOT
from results.words import ConfigError

PORT_MAX = 65535
THREADS_MAX = 4096  # more than any machine has
LOOPBACK = "127.0.0.1"
# The id of the run that a process is a rank of, where it is not to be made from the Slurm job, of which it is one of
# several runs.
RUN_ID_VARIABLE = "RESNET_BENCH_RUN_ID"
# Of a rank that shares its task, or this machine, with its siblings: the cores that are its own.
CORES_VARIABLE = "RESNET_BENCH_CORES"
HOSTS_VARIABLE = "RESNET_BENCH_HOSTS"
# The file in which rank 0 notes for the batch script how the run ended, see `launch.batch.shell.guard`.
END_VARIABLE = "RESNET_BENCH_END_FILE"


class VariableError(ConfigError):
    """An environment variable is missing or wrong; the message is one line that names it and says what sets it."""


class ShellExpression(str):
    """Text that bash evaluates in the job, since what it stands for is not known before."""


@dataclass(frozen=True, kw_only=True)
class JobEnvironment:
    """What is common to all processes of a job.

    Attributes:
        address: MASTER_ADDR, the host of rank 0, where the ranks meet.
        port: MASTER_PORT, TCP.
        threads: OMP_NUM_THREADS, those of a rank's computation; None leaves them to the rank.
        cores: RESNET_BENCH_CORES, those that a rank may keep busy in all; None leaves them to the rank.
        python_path: PYTHONPATH, the folders that Python imports from first.
        accelerator: DS_ACCELERATOR, DeepSpeed's, such as "cpu"; None leaves it to DeepSpeed.
        interface: NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, the network to talk over; None leaves it to them.

    Raises:
        VariableError: a number that cannot be.
    """

    address: str
    port: int | ShellExpression
    threads: int | None
    cores: int | None = None
    python_path: tuple[str, ...] = (str(ROOT),)
    accelerator: str | None = None
    interface: str | None = None

    SET_BY = "the launcher sets it: launch/local.py, or the batch script of launch/slurm.py"

    def __post_init__(self) -> None:
        if not isinstance(self.port, ShellExpression):
            _check("MASTER_PORT", self.port, self.SET_BY, 1, PORT_MAX)
        if self.threads is not None:
            _check("OMP_NUM_THREADS", self.threads, self.SET_BY, 1, THREADS_MAX)
        if self.cores is not None:
            _check(CORES_VARIABLE, self.cores, self.SET_BY, 1, THREADS_MAX)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "JobEnvironment":
        """Read what `to_env` wrote. A missing or empty OMP_NUM_THREADS is None.

        Raises:
            VariableError: MASTER_ADDR or MASTER_PORT is missing, or a number cannot be.
        """
        return cls(
            address=_text(environ, "MASTER_ADDR", cls.SET_BY),
            port=_number(environ, "MASTER_PORT", cls.SET_BY),
            threads=threads_from(environ),
            cores=_number(environ, CORES_VARIABLE, cls.SET_BY) if environ.get(CORES_VARIABLE) else None,
            python_path=_folders(environ),
            accelerator=environ.get("DS_ACCELERATOR") or None,
            interface=environ.get("GLOO_SOCKET_IFNAME") or None,
        )

    def to_env(self) -> dict[str, str]:
        """The variables by name.

        Raises:
            TypeError: one is a shell expression.
        """
        variables = self._variables()
        for name, value in variables.items():
            if isinstance(value, ShellExpression):
                raise TypeError(f"{name}: {value!r} is for bash to evaluate in the job; only to_shell can write it")
        return variables

    def to_shell(self) -> list[str]:
        """A line of bash for each variable. What PYTHONPATH holds in the job stays, behind our own folders."""
        lines = []
        for name, value in self._variables().items():
            text = value if isinstance(value, ShellExpression) else shlex.quote(value)
            more = "${PYTHONPATH:+:$PYTHONPATH}" if name == "PYTHONPATH" else ""
            lines.append(f"export {name}={text}{more}")
        return lines

    def rendezvous(self) -> tuple[str, int]:
        """Address and port where the ranks meet, as values.

        Raises:
            TypeError: one is a shell expression.
        """
        variables = self.to_env()
        return variables["MASTER_ADDR"], int(variables["MASTER_PORT"])

    def _variables(self) -> dict[str, str]:
        variables: dict[str, str | None] = {
            "PYTHONPATH": os.pathsep.join(self.python_path) or None,
            "PYTHONSAFEPATH": "1",  # the working directory is no place to import from
            "OMP_NUM_THREADS": None if self.threads is None else str(self.threads),
            CORES_VARIABLE: None if self.cores is None else str(self.cores),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": self.port if isinstance(self.port, ShellExpression) else str(self.port),
            "NCCL_SOCKET_IFNAME": self.interface,
            "GLOO_SOCKET_IFNAME": self.interface,
            "DS_ACCELERATOR": self.accelerator,
        }
        return {name: value for name, value in variables.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class RankEnvironment:
    """Which rank of a job a process is.

    Attributes:
        rank: RANK, among all of the job.
        world_size: WORLD_SIZE, ranks of the job.
        local_rank: LOCAL_RANK, among those of its node.
        local_world_size: LOCAL_WORLD_SIZE, ranks of its node.
        hosts: RESNET_BENCH_HOSTS, names of the job's nodes in the order of their ranks; none where nobody said.

    Raises:
        VariableError: a number that cannot be.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    hosts: tuple[str, ...] = ()

    SET_BY = "launch.job sets it in every rank, from submitit's or Slurm's variables"

    def __post_init__(self) -> None:
        _check("WORLD_SIZE", self.world_size, self.SET_BY, 1)
        _check("LOCAL_WORLD_SIZE", self.local_world_size, self.SET_BY, 1, self.world_size, "WORLD_SIZE")
        _check("RANK", self.rank, self.SET_BY, 0, self.world_size - 1, "WORLD_SIZE - 1")
        _check("LOCAL_RANK", self.local_rank, self.SET_BY, 0, self.local_world_size - 1, "LOCAL_WORLD_SIZE - 1")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "RankEnvironment":
        """Read what `to_env` wrote.

        Raises:
            VariableError: a variable is missing, or a number cannot be.
        """
        return cls(
            rank=_number(environ, "RANK", cls.SET_BY),
            world_size=_number(environ, "WORLD_SIZE", cls.SET_BY),
            local_rank=_number(environ, "LOCAL_RANK", cls.SET_BY),
            local_world_size=_number(environ, "LOCAL_WORLD_SIZE", cls.SET_BY),
            hosts=tuple(filter(None, environ.get(HOSTS_VARIABLE, "").split(","))),
        )

    def to_env(self) -> dict[str, str]:
        """The variables by name."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            **({HOSTS_VARIABLE: ",".join(self.hosts)} if self.hosts else {}),
        }

    @property
    def node(self) -> int:
        """The number of this rank's node."""
        return self.rank // self.local_world_size

    @property
    def nodes(self) -> int:
        """How many nodes the job has."""
        return -(-self.world_size // self.local_world_size)

    def host(self, rank: int | None = None) -> str:
        """The name of a rank's node, or of this one's; empty where it is not known."""
        if rank is None:
            return socket.gethostname()
        node = rank // self.local_world_size
        return self.hosts[node] if node < len(self.hosts) else ""

    def named(self, rank: int) -> str:
        """A rank and where it runs, as a message has it: "rank 3 (n2)"."""
        return f"rank {rank}{f' ({host})' if (host := self.host(rank)) else ''}"

    def named_node(self, node: int) -> str:
        """The ranks of a node and its name: "ranks 8-15 (n2)"."""
        first = node * self.local_world_size
        last = min(first + self.local_world_size, self.world_size) - 1
        host = f" ({found})" if (found := self.host(first)) else ""
        return f"ranks {first}-{last}{host}" if last > first else self.named(first)


@contextlib.contextmanager
def without(names: Collection[str]) -> Iterator[None]:
    """Leave some variables out of this process' environment, for what is started in the `with` block."""
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def threads_from(environ: Mapping[str, str]) -> int | None:
    """What OMP_NUM_THREADS says; None where it is missing or empty.

    Raises:
        VariableError: it is not a whole number from 1 to `THREADS_MAX`; one line with the nearest that is.
    """
    text = environ.get("OMP_NUM_THREADS")
    if not text:
        return None
    # OpenMP takes a list, one number a level of nesting; there is one level here.
    first = re.match(r"[\s+]*0*([1-9][0-9]{0,4})", text)
    nearest = min(int(first[1]), THREADS_MAX) if first else 1
    if not re.fullmatch(f"0*{nearest}", text):
        raise VariableError(
            f"OMP_NUM_THREADS={text}: expected a whole number from 1 to {THREADS_MAX} (nearest: {nearest}); "
            "unset it, and the launcher sets it"
        )
    return nearest


def checkout_first(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The folders of PYTHONPATH behind the checkout, whose packages have namesakes elsewhere."""
    return (str(ROOT), *_folders(environ))


def _folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    # Without the test an empty variable would be one empty entry, which Python takes for the working directory.
    return tuple(environ["PYTHONPATH"].split(os.pathsep)) if environ.get("PYTHONPATH") else ()


def _text(environ: Mapping[str, str], name: str, set_by: str) -> str:
    value = environ.get(name)
    if not value:
        raise VariableError(f"{name} is missing from the environment; {set_by}")
    return value


def _number(environ: Mapping[str, str], name: str, set_by: str) -> int:
    text = _text(environ, name, set_by)
    if not re.fullmatch(r"-?[0-9]{1,18}", text):  # Python refuses to read thousands of digits
        raise VariableError(f"{name}={text}: expected a whole number; {set_by}")
    return int(text)


def _check(name: str, value: int, set_by: str, least: int, most: int | None = None, most_is: str = "") -> None:
    """See that a number is in its range."""
    if value >= least and (most is None or value <= most):
        return
    above = "" if most is None else f" and at most {f'{most_is} = ' if most_is else ''}{most}"
    nearest = least if most is None or value < least else most
    raise VariableError(f"{name}={value}: expected at least {least}{above} (nearest: {nearest}); {set_by}")
