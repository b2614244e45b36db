"""The command: bad words, what it does without a device, and times on one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.config.grammar import WordError
from bench.measure import device_rates
from bench.micro import measure
from bench.micro.command import main
from bench.micro.plan import plan
from kernels.choose.timer import CudaDevice, DeviceTimer
from results.store.files import read_rows

ROOT = Path(__file__).resolve().parents[3]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench.micro", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["op=conv1x2"], ["op=conv1x2", "nearest: op=conv1x1"]),
        (["backend=cuda"], ["backend=cuda", "choose from triton"]),
        (["dept=50"], ["did you mean depth=50"]),
        (["depth=51"], ["depth=51", "nearest is 50"]),
        (["run=x", "precision=bf16,fp16"], ["run=x", "swept"]),
        (
            ["op=conv1x1", "cut=64x64x64/w4/s4"],
            ["cut=64x64x64/w4/s4: the key is now tile_config", "nearest is tile_config="],
        ),
        (["run=x", "op=conv1x1", "tile_config=64x64x64/w4/s4,64x64x64/w8/s4"], ["run=x", "swept"]),
        (["op=conv1x1", "tile_config=64x64x65/w4/s4"], ["tile_config=64x64x65/w4/s4", "nearest is 64x64x64/w4/s4"]),
        (
            ["op=conv1x1", "tile_config=64x64x64/w4/s4", "backend=eager,compile"],
            ["tile_config=64x64x64/w4/s4", "backend=eager,compile"],
        ),
        (["run="], ["run=", "an id"]),
        (["op=conv1x1,stem", "tile_config=64x64x64/w4/s4"], ["stem is no convolution", "nearest is op=conv1x1"]),
    ],
)
def test_a_bad_word_is_one_line_and_exit_status_2(words, said, capsys) -> None:
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and all(part in line for part in said)
    with pytest.raises(ValueError) as caught:
        plan(words)
    assert isinstance(caught.value, WordError) or "depth" in str(caught.value)


@pytest.mark.interpreted
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_device_nothing_is_timed_and_nothing_written(first, tmp_path: Path) -> None:
    done = command("op=bn_stats,conv1x1", "depth=50", f"results={tmp_path / 'v1'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No CUDA device here: nothing was timed and nothing written" in done.stdout
    assert "1 of 1" in done.stdout and "3 of 3" in done.stdout and "floor ms" in done.stdout
    assert not (tmp_path / "v1").exists()
    for call in (device_rates.copy_peak, lambda: device_rates.matrix_peak(torch.bfloat16)):
        with pytest.raises(device_rates.NoDevice, match="nothing is timed"):
            call()
    with pytest.raises(device_rates.NoDevice):
        measure.measure(first("bn_stats"), ("eager",), torch.device("cpu"), precision="bf16", rounds=2, repeats=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="times on a CUDA device; there is none here")
def test_times_on_a_device(tmp_path: Path) -> None:
    x = torch.randn(1 << 22, device="cuda")
    timer = DeviceTimer(CudaDevice(device_rates.require_device()))
    samples = timer.interleaved({"a": x.clone, "b": x.sum}, rounds=3, repeats=2, cold=True)
    assert {name: len(values) for name, values in samples.items()} == {"a": 6, "b": 6}
    assert all(us > 0 for values in samples.values() for us in values)
    words = ["op=bn_act,conv1x1", "backend=triton,eager", "depth=50", "batch=8", "image_size=64", "rounds=2"]
    assert main([*words, f"results={tmp_path}"]) == 0
    rows, _ = read_rows(tmp_path, "kernels")
    assert rows and {row["status"] for row in rows} == {"ok"} and all(row["samples_us"] for row in rows)
