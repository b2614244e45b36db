"""Runs a script on real ranks of this machine and collects what each of them found."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.training.ranks import free_port, rank_environment

FOUND = "FOUND "  # begins the line of a rank's answer, since libraries print too


def found_by(script: Path, words: list[str], size: int, **environment: str) -> list[Any]:
    """What each of `size` ranks of `script WORDS` said in its line of JSON, in rank order; a rank may say nothing."""
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *words],
            env=rank_environment(rank, size, port, 1) | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        outputs = [rank.communicate(timeout=600) for rank in ranks]  # the interpreter takes minutes on a busy machine
    finally:
        for rank in ranks:
            rank.kill()
    assert all(rank.returncode == 0 for rank in ranks), outputs[0][1][-3000:] + outputs[-1][1][-3000:]
    lines = [line for out, _ in outputs for line in out.splitlines() if line.startswith(FOUND)]
    return [json.loads(line.removeprefix(FOUND)) for line in lines]
