"""Starts the ranks of a comparison on this machine, each a process that takes commands on stdin."""

import os
import socket
import subprocess
import sys
from types import TracebackType
from typing import Self

from bench.config.environment import LOOPBACK, JobEnvironment, RankEnvironment, checkout_first
from bench.config.slurm import cores_here, of_a_task


def rank_environment(rank: int, size: int, port: int, threads: int) -> dict[str, str]:
    """The environment of one of `size` ranks on this machine, as `bench.training.process_group` reads it.

    Args:
        threads: cores of the rank, all of which compute.
    """
    job = JobEnvironment(
        address=LOOPBACK, port=port, threads=threads, cores=threads, python_path=checkout_first(os.environ)
    )
    place = RankEnvironment(rank=rank, world_size=size, local_rank=rank, local_world_size=size)
    left_out = of_a_task(os.environ)
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    return inherited | job.to_env() | place.to_env()


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return sock.getsockname()[1]


class Ranks:
    """Processes `python -m MODULE WORD...`, one a rank, ended with the `with` block.

    Args:
        module: what each rank runs.
        words: its command line.
        size: how many.
    """

    def __init__(self, module: str, words: list[str], size: int) -> None:
        port = free_port()
        threads = max(1, cores_here(os.environ) // size)
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", module, *words],
                env=rank_environment(rank, size, port, threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                text=True,
            )
            for rank in range(size)
        ]

    def ask(self, command: str) -> str:
        """Send one line to every rank and return the line that rank 0 answers with.

        Raises:
            RuntimeError: a rank has ended.
        """
        for rank, process in enumerate(self.processes):
            assert process.stdin
            try:
                process.stdin.write(command + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise RuntimeError(f"rank {rank} has ended before {command!r}; its reason is above") from None
        output = self.processes[0].stdout
        assert output
        # Libraries print too; answers are marked.
        for line in output:
            if line.startswith("ANSWER "):
                return line.removeprefix("ANSWER ").strip()
        raise RuntimeError(f"rank 0 has ended during {command!r}; its reason is above")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(timeout=1 if kind else 30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answer(text: str) -> None:
    """On rank 0: answer the command that was just carried out."""
    print(f"ANSWER {text}", flush=True)
