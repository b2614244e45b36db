"""Ctrl-C while a command is still being imported ends it without a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.paths import ROOT

COMMANDS = [
    "launch/local.py depth=20 dataset=digits",
    "launch/slurm.py depth=20 dataset=digits",
    "-m bench.check_data data=/",
    "-m bench.step depth=50",
    "-m results.report",
    "-m results.check",
]


def importing(line: str, tmp_path: Path, handler: signal.Handlers) -> subprocess.Popen[str]:
    """A command that waits in the middle of an import."""
    (tmp_path / "hydra").mkdir()
    (tmp_path / "hydra" / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, *line.split()],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    assert process.stdout and process.stdout.readline() == "importing\n"
    return process


@pytest.mark.parametrize("line", COMMANDS)
def test_an_import_is_interrupted_without_a_word(tmp_path: Path, line: str) -> None:
    with importing(line, tmp_path, signal.SIG_DFL) as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_what_ignores_the_signal_still_does(tmp_path: Path) -> None:
    with importing(COMMANDS[2], tmp_path, signal.SIG_IGN) as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()


def test_a_package_that_a_program_imports_leaves_its_signals() -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import bench, results
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
