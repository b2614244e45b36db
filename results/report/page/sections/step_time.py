"""Where a step's time goes: the wait for data and the rest, by rank; and whole steps by who computes them."""

import contextlib
import io
import statistics

from results.check.runs import Run
from results.plot import step_parts
from results.plot.run_rows import RunRows, run_ids
from results.report.page.blocks import Column, Picture, Section, Table, Words
from results.report.page.canvas import drawing, figure, quiet, shortened, stem_of
from results.report.page.evidence import RECENT, Evidence, marks_of, recent
from results.words import ConfigError, counted, printable

__all__ = ["section"]

MOST_RUNS = 6
ROW_PX, HEAD_PX = 26, 90


def section(found: Evidence) -> Section:
    """Draw the parts of the steps of the newest runs of different cells, and list the training-step benchmark."""
    made = Section("steps", "Where a step's time goes")
    with_steps = set(run_ids(found.root, ["steps"]))
    newest: dict[str, Run] = {}
    for run in reversed(found.training):
        if run.run_id in with_steps and run.completed and run.key not in newest:
            newest[run.key] = run
    for run in list(newest.values())[:MOST_RUNS]:
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                parts = step_parts.read(RunRows(found.root, run.run_id))
        except ConfigError as error:
            found.faults.append(str(error))
            continue
        found.faults += [line for line in said.getvalue().splitlines() if line not in found.faults]
        if parts is not None:
            made.blocks.append(_picture(run, parts, found.short([run.run_id])))
    if left := list(newest.values())[MOST_RUNS:]:
        made.blocks.append(Words(f"{counted(len(left), 'more cell')} with single steps not drawn: results.plot "
                                 f"draw=steps run={found.short([left[0].run_id])} draws one.", "note"))  # fmt: skip
    for of, rows in _steps(found).items():
        heads = ("kernels", "CUDA graph", "commit", "median step, ms", "images/s", "n", "runs")
        columns = [
            Column(head, right=3 <= place < 6, code=head in ("commit", "runs")) for place, head in enumerate(heads)
        ]
        made.blocks.append(
            Table(f"The training step alone, on SYNTHETIC images: {of} (bench.step)", columns,
                  sorted(rows, key=lambda row: float(row[3])),
                  note="Forward, backward and update; no data are read and no gradients exchanged. Medians of the last "
                  f"{RECENT} runs of each; images/s is over the whole time, with what lies "
                  "between steps. kernels: torch is PyTorch op by op, compile torch.compile, triton this "
                  "suite's own, auto for each convolution the faster of triton and torch.")
        )  # fmt: skip
    if not made.blocks:
        made.status = "no steps"
        made.blocks.append(Words("No run has rows of single steps."))
    return made


def _picture(run: Run, parts: step_parts.StepParts, short: str) -> Picture:
    stem = stem_of("steps", run.run_id)
    said = []
    with drawing(stem):
        drawn = figure(HEAD_PX + ROW_PX * len(parts.ranks))
        axes = drawn.add_subplot()
        step_parts.bars(axes, parts.ranks)
        for one in parts.ranks:
            wait, rest = one.parts["data_ms"].mean, one.parts["compute_ms"].mean
            said.append(
                f"{parts.label(one)}: {step_parts.ms(wait)} ms wait and {step_parts.ms(rest)} ms rest of "
                f"{step_parts.ms(one.parts['step_ms'].mean)} ms, 5% to 95% {step_parts.ms(one.parts['step_ms'].p5)} to "
                f"{step_parts.ms(one.parts['step_ms'].p95)} ms"
            )
        axes.set_yticks(range(len(parts.ranks)), [parts.label(one) for one in parts.ranks])
        axes.set_ylim(len(parts.ranks) - 0.5, -0.5)
        axes.set_xlabel("mean step, ms")
        quiet(axes, grid="x")
        drawn.legend(loc="outside upper left", ncols=2)
    text = "; ".join(said)
    note = " ".join([f"{text}.", *(f"{mark}." for mark in marks_of(run))])
    return Picture(
        stem=stem,
        title=shortened(f"Mean step: {printable(run.label)}, run {short}"),
        of=printable(run.label),
        alt=text,
        figure=drawn,
        note=note,
        runs=[run.run_id],
    )


def _steps(found: Evidence) -> dict[str, list[tuple[str, ...]]]:
    """Lines of the training-step benchmark, by network and processors."""
    cells: dict[str, list[Run]] = {}
    for run in found.runs:
        if run.parts["benchmark"] == "step":
            cells.setdefault(run.key, []).append(run)
    rows: dict[str, list[tuple[str, ...]]] = {}
    for runs in cells.values():
        of = [run for run in recent(runs) if run.row["step_ms_p50"] is not None]
        if of:
            row = of[-1].row
            net = f"ResNet-{row['depth']} {row['shortcut']} {row['stride']}"
            net += f", batch {row['batch_per_device']}, {row['precision']}"
            graph = {True: "yes", False: "no"}.get(row["cuda_graph"], "-")
            step_ms = statistics.median(run.row["step_ms_p50"] for run in of)
            rates = [run.row["images_per_s"] for run in of if run.row["images_per_s"] is not None]
            rate = f"{statistics.median(rates):,.0f}" if rates else "-"
            processors = str(of[-1].parts["processors"])
            commits = " ".join(dict.fromkeys(run.commit_label for run in of))
            rows.setdefault(f"{net}, {processors}", []).append(
                (str(row["kernels"]), graph, commits, f"{step_ms:.2f}", rate, str(len(of)),
                 found.short(run.run_id for run in of))
            )  # fmt: skip
    return rows
