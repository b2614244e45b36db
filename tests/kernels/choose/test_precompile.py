"""What is compiled ahead of measuring is what the launcher looks for, and measuring goes on without it."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from kernels.choose import decide, precompile
from kernels.choose.sites import ConvSite

ROOT = Path(__file__).resolve().parents[3]
SITE = ConvSite(3, 1, 16, 16, 2, 8, 8, "bfloat16", "inner")
WORKER = "kernels.choose.precompile_worker"


@pytest.mark.slow
def test_the_launcher_finds_every_kernel_of_a_link_in_the_cache(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("precompiled.py")), json.dumps(dataclasses.asdict(SITE))],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # bn_act, bn_stats and the reduce around torch's candidates, and ours: forward twice, dgrad twice, inference.
    assert len(found["hits"]) == found["count"] >= 8
    assert all(found["hits"])
    assert found["other"] and not any(found["other"]), "another GPU's kernels are not those"
    assert not found["cuda"]


@pytest.mark.slow
def test_links_that_do_not_compile_are_left_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"^kernels\.choose\.precompile: .*no ConvSite"):
        monkeypatch.setattr(precompile, "asdict", lambda site: {})
        precompile.precompile([SITE], "sm_90", ("cuda", 90, 32), jobs=1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that are announced; the device counts as a GPU."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(decide, "running_target", lambda: ("cuda", 90, 32))
    return []


def test_compiling_ahead_is_announced(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(decide, "precompile", lambda *words: asked.append(words) or 1234)
    decide._compile_ahead([SITE], torch.device("cpu"), told.append)
    decide._compile_ahead([], torch.device("cpu"), told.append)
    assert asked == [([SITE], "sm_90", ("cuda", 90, 32))]
    assert told[0] == "kernels: compiling the candidates of 1 kind of layer"
    assert told[1].startswith("kernels: 1,234 compiled in ") and len(told) == 2


def test_a_failure_ahead_is_said_and_measuring_goes_on(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> int:
        raise RuntimeError("kernels.choose.precompile: no space\nleft")

    monkeypatch.setattr(decide, "precompile", fail)
    decide._compile_ahead([SITE], torch.device("cpu"), told.append)
    assert told[1:] == ["kernels: compiled one by one as they are measured: kernels.choose.precompile: no space left"]


@pytest.mark.slow
def test_what_compiles_ends_with_the_one_that_waits_for_it() -> None:
    """The middle process is killed, as one that runs out of memory is: nobody waits for its workers, which end too."""
    psutil = pytest.importorskip("psutil")
    many = [dataclasses.replace(SITE, c_in=512, c_out=512, n=n, h=64, w=64) for n in (32, 33)]
    with ThreadPoolExecutor() as thread, tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", cache)
        waiting = thread.submit(precompile.precompile, many, "sm_90", ("cuda", 90, 32), 2)
        middle = workers = None
        deadline = time.monotonic() + 60
        while not workers and time.monotonic() < deadline:
            time.sleep(0.05)
            middle = next(
                (one for one in psutil.Process().children() if WORKER in one.cmdline()),
                None,
            )
            workers = middle.children() if middle else None
        assert middle and workers and not waiting.done()
        middle.kill()
        with pytest.raises(RuntimeError, match=r"^kernels\.choose\.precompile: exit status -9"):
            waiting.result(timeout=10)
        assert not psutil.wait_procs(workers, timeout=5)[1]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(RuntimeError, match=r"^kernels\.choose\.precompile: NotADirectoryError: .*file/cache"):
        precompile.precompile([SITE], "sm_90", ("cuda", 90, 32), jobs=2)
