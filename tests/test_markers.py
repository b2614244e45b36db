"""A test without the marker for what it does fails, and a Triton that cannot interpret is said once, not per test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.interpreter import fault

ROOT = Path(__file__).resolve().parents[1]

PLANTED = r"""
import subprocess, sys
import conftest, pytest, torch, triton
import torch.distributed as dist
import triton.language as tl

@triton.jit
def one_kernel(x_ptr):
    tl.store(x_ptr, 1.0)

def interprets():
    x = torch.zeros(1)
    try:
        one_kernel[(1,)](x)
    except Exception:
        pass
    return x.item()

def group():
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    dist.destroy_process_group()

def rank():
    import os
    subprocess.run([sys.executable, "-c", ""], env={**os.environ, "WORLD_SIZE": "2"}, check=True)

def test_kernel(): interprets()
def test_group(): group()
def test_rank(): rank()
def test_nothing(): pass
def test_child():
    conftest.CORE_S = 0.4
    subprocess.run([sys.executable, "-S", "-c", "import time\nwhile time.process_time() < 1: pass"])

@pytest.mark.interpreted
def test_marked_kernel(): assert interprets() == 1.0
@pytest.mark.ranks
def test_marked_group(): group()
@pytest.mark.ranks
def test_marked_rank(): rank()
@pytest.mark.slow
def test_marked_child(): test_child()
"""


def outcomes(folder: Path, module: str, *words: str) -> tuple[dict[str, str], str]:
    """What becomes of the tests of a module under our conftest, as {name: PASSED, FAILED or ERROR}, and the output."""
    (folder / "test_planted.py").write_text(module)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "-rA"]
    command += ["-p", "conftest", "-p", "no:cacheprovider", "-p", "no:xdist", *words, str(folder / "test_planted.py")]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    lines = [line for line in done.stdout.partition("short test summary")[2].splitlines() if "::" in line]
    found = {line.split()[1].rpartition("::")[2]: line.split()[0] for line in lines}
    return found, done.stdout + done.stderr


@pytest.mark.ranks
@pytest.mark.interpreted
@pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="there is a GPU, on which kernels run")
def test_what_is_not_marked_fails(tmp_path: Path) -> None:
    found, output = outcomes(tmp_path, PLANTED)
    expected = {"test_kernel": "FAILED", "test_group": "FAILED", "test_rank": "FAILED", "test_child": "ERROR"}
    expected |= {name: "PASSED" for name in ("test_nothing", "test_marked_kernel", "test_marked_group")}
    assert found == expected | {"test_marked_rank": "PASSED", "test_marked_child": "PASSED"}, output
    for said in ("@pytest.mark.interpreted", "@pytest.mark.ranks", "none of ranks, interpreted, slurm, slow, soak"):
        assert said in output


MANY = """
import numpy, pytest

@pytest.mark.interpreted
@pytest.mark.parametrize("case", range(50))
def test_kernel(case): pass
def test_other(): pass
"""


@pytest.mark.slow
@pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="there is a GPU, on which kernels run")
def test_a_triton_that_cannot_interpret_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("import triton, numpy\ntriton.__version__, numpy.__version__ = '3.8.0', '2.4.6'\n")
    path = f"--import-mode=importlib -p old -o pythonpath={tmp_path}".split()
    found, output = outcomes(tmp_path, MANY, *path)
    assert found == {"interpreter": "FAILED", "test_other": "PASSED"}, output
    assert output.count("Triton 3.8.0 interprets no kernel beside NumPy 2.4.6: install numpy<2.4, or triton>=3.9") <= 2
    assert outcomes(tmp_path, MANY, *path, "-k", "other")[0] == {"test_other": "PASSED"}


@pytest.mark.parametrize(
    ("triton", "numpy", "works"),
    [
        ("3.8.0", "2.4.0", False),
        ("3.8.9+git12345", "2.10.1", False),
        ("3.6.0", "3.0.0rc1", False),
        ("3.8.0", "2.3.5", True),
        ("3.8.0", "1.26.4", True),
        ("3.9.0", "2.4.6", True),
        ("3.10.0", "2.10.0", True),
        ("4.0.0", "3.0.0", True),
    ],
)
def test_old_triton_needs_old_numpy(triton: str, numpy: str, works: bool) -> None:
    reason = fault(triton, numpy)
    assert (reason is None) == works
    if reason is not None:
        assert triton in reason and numpy in reason and "\n" not in reason


def test_a_version_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="version 'unknown'"):
        fault("unknown", "2.4.0")
