"""Times one net, op by op, and writes rows as it goes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.measure import device_rates, gpu_rows, machine
from bench.micro.cases import cases
from bench.micro.measure import Peaks, case_table, measure, new_table, rows_of
from bench.micro.plan import Plan
from kernels.dtypes import PRECISIONS
from results.store.files import read_rows, table_files

CHUNK = 6  # cases between two files of rows


def run_plan(plan: Plan, device: torch.device, console: Console) -> str:
    """Time one net and precision; returns the run's id."""
    keys, step = plan.keys, plan.step
    run_id = keys.run or gpu_rows.new_run_id(step, "micro")
    if table_files(Path(keys.results), "runs", [run_id]):
        console.print(f"run {run_id} is complete already")
        return run_id
    started = datetime.now(UTC)
    month = started.strftime("%Y-%m")
    system = machine.describe(device)
    gpu_rows.write_system(keys.results, run_id, month, system)
    done = {
        (row["op"], row["shape"], row["dtype"], row["backend"])
        for row in read_rows(keys.results, "kernels", [run_id])[0]
    }
    tile_config = f", tile config {plan.tile_config}" if plan.tile_config else ""
    console.print(f"run {run_id}: {step.name()}{tile_config}; {machine.gpu_name(device)}; {device_rates.clocks()}")
    peaks = Peaks(device_rates.copy_peak(), device_rates.matrix_peak(PRECISIONS[keys.precision].torch_dtype))
    console.print(
        f"peaks measured: copy {peaks.copy_bytes_per_s / 1e12:.2f} TB/s, "
        f"{keys.precision} matrix {peaks.matrix_flops_per_s / 1e12:.0f} TFLOP/s"
    )
    for op in plan.ops:
        table = new_table(op)
        pending: list[dict[str, Any]] = []
        found = cases(step, (op,))
        for number, case in enumerate(found, 1):
            missing = [one for one in plan.backends if (op, case.name, keys.precision, one) not in done]
            if missing:
                with torch.no_grad():
                    results = measure(
                        case, missing, device,
                        precision=keys.precision, rounds=keys.rounds, repeats=keys.repeats, seed=keys.seed,
                        tile_config=plan.tile_config,
                    )  # fmt: skip
                pending += rows_of(case, keys.precision, results, peaks)
                for line in case_table(case, keys.precision, results, peaks):
                    table.add_row(*line)
                torch.cuda.empty_cache()
            if pending and (number % CHUNK == 0 or number == len(found)):
                gpu_rows.write_kernels(keys.results, run_id, month, pending)
                pending = []
        if table.row_count:
            console.print(table)
    row = gpu_rows.run_row(step, plan.config(), run_id, "micro", "all") | {"init_start": started}
    writer = gpu_rows.open_run(keys.results, row, device)
    reason = "single kernels were timed, not training"
    writer.finish("completed", run_stop=datetime.now(UTC), null_reasons=reasons_without(reason, "run_stop"))
    console.print(f"run {run_id} is complete; {device_rates.clocks()}")
    return run_id


def reasons_without(reason: str, *present: str) -> dict[str, str]:
    """A reason for every figure but those that have a value."""
    return gpu_rows.reasons(dict.fromkeys(present, 0), reason)
