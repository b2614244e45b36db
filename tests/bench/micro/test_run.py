"""A run over the ops of a net: which cases are measured, which files are written, and that it goes on."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from bench.measure import device_rates
from bench.micro import run
from bench.micro.cases import cases
from bench.micro.plan import plan
from results.export import export
from results.store.files import read_rows, table_files

CPU = torch.device("cpu")


def test_a_run_goes_on_where_it_was_cut_off(results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that is made up: which cases are measured, which files are written, and when a run is complete."""
    measured: list[str] = []

    def measure(case, backends, device, **_):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(case.name)
        return {backend: results["triton"] for backend in backends}

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(run, "CHUNK", 2)
    for peak in ("copy_peak", "matrix_peak"):
        monkeypatch.setattr(device_rates, peak, lambda *_: 1e12)
    (one,) = plan(["depth=20", "op=bn_act", "backend=triton", f"results={tmp_path}", "run=r"])
    wanted = [case.name for case in cases(one.step, ("bn_act",))]
    console = Console(file=(tmp_path / "log").open("w"), width=150)
    with pytest.raises(KeyboardInterrupt):
        run.run_plan(one, CPU, console)
    assert measured == wanted[:3] and not table_files(tmp_path, "runs")
    assert len(read_rows(tmp_path, "kernels")[0]) == 4 and len(read_rows(tmp_path, "system")[0]) == 1
    measured.clear()
    monkeypatch.setattr(run, "measure", lambda case, backends, device, **_: measured.append(case.name) or results)
    assert run.run_plan(one, CPU, console) == "r"
    assert measured == wanted[2:]
    (row,), _ = read_rows(tmp_path, "runs")
    assert (row["status"], row["benchmark"], row["engine"]) == ("completed", "micro", None)
    assert (row["kernels"], row["images_per_s"]) == ("all", None) and row["comparability_key"]
    assert row["null_reasons"]["images_per_s"] and row["system_id"] == read_rows(tmp_path, "system")[0][0]["system_id"]
    measured.clear()
    run.run_plan(one, CPU, console)
    assert not measured
    assert len(export(tmp_path, ["r"], tmp_path / "record")) == 2 + len(table_files(tmp_path, "kernels"))
