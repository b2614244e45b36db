"""Ahead-of-time compilation that is told to stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_aot_ends_at_a_signal_with_its_compilers(number, tmp_path: Path) -> None:
    """As Ctrl-C does, to the whole group; SIGTERM to the command alone."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = ["per=all", "chips=sm_90", "ops=conv1x1", f"to={tmp_path / 'aot.parquet'}", "jobs=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kernels.aot", *words],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path / "cache")},  # so that there is something to compile
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        compilers: list[psutil.Process] = []
        deadline = time.monotonic() + 120
        while not compilers and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            compilers = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=60)
        assert compilers and (process.returncode, err) == (128 + number, "")
        assert not psutil.wait_procs(compilers, timeout=20)[1]
        assert not (tmp_path / "aot.parquet").exists()
    finally:
        process.kill()
