"""What the documentation says of results, files and commands is so."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.grammar import values
from bench.evaluation.verdict import MARGIN, SILENT
from launch.plan import LaunchKeys
from launch.sweep import command as sweep_command
from launch.sweep import verbs
from launch.sweep.status import STATES
from results.identity import benchmark_of
from results.store.files import read_rows
from results.store.schema import FAILURE_KINDS
from results.words import RECORD_ROOT

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULT = re.compile(
    r"\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) s \| ([\d.]+) \| `(\w{8})` \|"
)


def stored(run: str) -> tuple[dict, dict]:
    """The row of `runs` and that of `system` of a kept run, by the end of its id."""
    (row,) = [row for row in read_rows(RECORD_ROOT, "runs")[0] if row["run_id"].endswith(run)]
    (system,) = [one for one in read_rows(RECORD_ROOT, "system")[0] if one["run_id"] == row["run_id"]]
    return row, system


def test_the_table_of_results_is_that_of_the_kept_rows() -> None:
    lines = RESULT.findall((ROOT / "README.md").read_text())
    kept = [
        row for row in read_rows(RECORD_ROOT, "runs")[0]
        if benchmark_of(row) == "training" and row["experiment"] is None  # of the paper: in docs/paper.md
    ]  # fmt: skip
    assert {run for *_, run in lines} == {row["run_id"][-8:] for row in kept}
    for net, data, machine, images_per_s, target, seconds, top1, run in lines:
        row, system = stored(run)
        figures = (row["images_per_s"], row["target_top1"], row["tta_s"], row["final_top1"])
        assert (images_per_s, target, seconds, top1) == tuple(
            text.format(value) for text, value in zip(("{:,.0f}", "{:.2f}", "{:.1f}", "{:.4f}"), figures, strict=True)
        ), run
        plain = f"plain net of {row['depth']} layers"
        assert net == (plain if row["shortcut"] == "none" else f"ResNet-{row['depth']}, shortcut {row['shortcut']}")
        assert data == row["sample"]
        assert machine.startswith(f"{system['cpu_cores']} cores of ") and system["gpu_count"] == 0
        words = machine.replace("2 cores of an ", "").split()
        assert all(word in system["cpu_model"] for word in words), (machine, system["cpu_model"])
        assert (row["status"], row["world_size"], row["precision"]) == ("completed", 2, "bf16")


def test_the_errors_of_reduced_experiments_are_those_of_the_kept_rows() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    said = re.findall(r"(plain|ResNet)-(\d+)\s([\d.]+)%\sand\s([\d.]+)%", text)
    rows = [row for row in read_rows(RECORD_ROOT, "runs")[0] if row["scale"] == "small"]
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in sorted(rows, key=lambda row: row["run_start"]):  # of a seed the first run counts
        assert (row["scale"], row["sample"], row["epochs"]) == ("small", "cifar10-jpeg", 8)
        epochs = read_rows(RECORD_ROOT, "epochs", [row["run_id"]])[0]
        last = max(epochs, key=lambda epoch: epoch["epoch"])
        net = ("plain" if row["shortcut"] == "none" else "ResNet", str(row["depth"]))
        errors = tuple(f"{100 * (1 - value):.1f}" for value in (last["train_top1"], row["final_top1"]))
        found.setdefault(net, errors)
    assert {(kind, depth): errors for kind, depth, *errors in said} == {net: list(each) for net, each in found.items()}
    assert len(found) == 4 and len(rows) == 6


def test_the_whole_run_of_the_paper_s_recipe_is_as_it_is_kept() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    row, _ = stored("2ec02a48")
    epochs = read_rows(RECORD_ROOT, "epochs", [row["run_id"]])[0]
    last = max(epochs, key=lambda epoch: epoch["epoch"])
    said = re.search(r"run `2ec02a48`,.*? ([\d.]+)% test error and ([\d.]+)% training error", text, re.DOTALL)
    assert said and said.groups() == tuple(f"{100 * (1 - one):.2f}" for one in (row["final_top1"], last["train_top1"]))
    assert (row["status"], row["recipe"], row["steps_completed"], row["mixed"]) == ("completed", "paper", 64_000, None)
    assert len(row["lineage"].split()) == 2  # interrupted twice
    hours, minutes = divmod(round(row["active_s"] / 60), 60)
    assert f"{hours} h {minutes} min of training" in " ".join(text.split())


def test_mean_responses_are_those_of_the_kept_rows() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    said = re.findall(r"(plain|ResNet)-(\d+)\s(\d\.\d{3})", text)
    rows = [row for row in read_rows(RECORD_ROOT, "lesions")[0] if row["kind"] == "response"]
    small = {row["run_id"] for row in read_rows(RECORD_ROOT, "runs")[0] if row["scale"] == "small"}
    assert len(said) == 4
    for kind, depth, mean in said:
        mine = [
            row["value"] for row in rows
            if (row["depth"], row["shortcut"]) == (int(depth), "none" if kind == "plain" else "A")
            and row["trained_by"].rpartition(".")[0] in small
        ]  # fmt: skip
        assert len(mine) == int(depth) - 2 and mean == f"{sum(mine) / len(mine):.3f}"


def test_the_plain_nets_second_runs_are_as_they_are_kept() -> None:
    text = " ".join((ROOT / "docs" / "paper.md").read_text().split())
    again = re.search(r"ran once more, .*? with ([\d.]+)% and ([\d.]+)% test error", text)
    assert again
    for run, error in zip(("aacd1577", "ff011b0d"), again.groups(), strict=True):
        assert error == f"{100 * (1 - stored(run)[0]['final_top1']):.1f}"


def test_what_is_said_of_blocks_is_in_the_kept_rows() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    lines = re.findall(
        r"\| `(\w{8})` \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([\d.]+) \| (\d+) of (\d+) \| (\w+) \|", text
    )
    rows = read_rows(RECORD_ROOT, "lesions")[0]
    assert len(lines) == 3
    for run, *said in lines:
        mine = [row for row in rows if (row["trained_by"] or "").rpartition(".")[0].endswith(run)]
        kinds = {
            kind: [row for row in mine if row["kind"] == kind] for kind in ("whole", "lesion", "ratio", "truncation")
        }
        (whole,) = kinds["whole"]
        costs, ratios = [row["cost"] for row in kinds["lesion"]], [row["value"] for row in kinds["ratio"]]
        free = [row for row in kinds["truncation"] if row["high"] <= MARGIN]
        assert said[:4] == [f"{one:.3f}" for one in (whole["top1"], min(costs), max(costs), min(ratios))]
        assert said[4:6] == [str(len(free)), str(len(kinds["truncation"]))] and whole["images"] == 1000
        # Of no tail all blocks are empty, which alone refutes that these are not needed.
        assert said[6] == "refuted" and min(ratios) >= SILENT


def test_what_ends_a_run_has_the_kinds_of_the_schema() -> None:
    lines = re.findall(r"^\| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "figures.md").read_text(), re.M)
    assert [line for line in lines if line[0] in FAILURE_KINDS] == list(FAILURE_KINDS.items())
    words = re.findall(r"`failure_kind` is `(\w+)`", "\n".join(page.read_text() for page in PAGES))
    assert words and set(words) <= set(FAILURE_KINDS)


def test_quoted_epochs_are_those_of_the_kept_run() -> None:
    """The lines that the README shows of a run, against its rows."""
    row, _ = stored("2a8fc747")
    epochs = {one["epoch"]: one for one in read_rows(RECORD_ROOT, "epochs")[0] if one["run_id"] == row["run_id"]}
    quoted = re.findall(
        r"epoch (\d+)/15 .*?loss ([\d.]+)  top-1 ([\d.]+)%  ([\d.]+) s", (ROOT / "README.md").read_text()
    )
    assert len(quoted) == 2
    for epoch, loss, top1, seconds in quoted:
        one = epochs[int(epoch)]
        assert (loss, top1, seconds) == (f"{one['loss']:.3f}", f"{one['top1']:.2%}"[:-1], f"{one['elapsed_s']:.1f}")


def examples() -> dict[str, list[str]]:
    """The commands that the README shows with their output, shortened: by command, its lines but for the dots."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"(?:^    .*\n)+", (ROOT / "README.md").read_text(), flags=re.M):
        command, *lines = block.removesuffix("\n").splitlines()
        if command.startswith("    $ "):
            found[command.removeprefix("    $ ")] = [line[4:] for line in lines if line.strip() != "..."]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in examples() if "launch/local.py" not in command])
def test_shown_output_is_what_a_command_prints(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == ".venv/bin/python" and len(examples()) == 3
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = [line.strip() for line in done.stdout.splitlines()]
    assert examples()[command] and not [line for line in examples()[command] if line.strip() not in printed]


def test_shown_lines_of_a_run_are_those_of_its_row() -> None:
    row, _ = stored("2a8fc747")
    (shown,) = [lines for command, lines in examples().items() if "launch/local.py" in command]
    name = f"resnet{row['depth']}{row['shortcut']}-{row['dataset']}"
    assert shown[0] == f"[2/3] {name} seed={row['seed']}"
    assert shown[1] == (
        f"{name}: {row['parameters']:,} parameters, {row['world_size']} ranks (CPU), {row['sample']}, {row['engine']}, "
        f"{row['kernels']}, {row['precision']}, batch {row['global_batch']}"
    )
    assert all(f"/{row['epochs']}  " in line for line in shown[2:])
    assert f"target {row['target_top1']:.2%} reached" in shown[-1] and f"epoch {row['epochs_to_target']}/" in shown[-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_modules_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text() if page.name != "CHANGELOG.md" else ""  # which names what was
    for module in re.findall(r"python -m ([a-z_.]+)", text):
        assert module == "pytest" or importlib.util.find_spec(module), f"{page.name}: {module}"
    for path in re.findall(r"(?<![\w/.])((?:bench|kernels|resnet|launch|tests|examples)/[\w/.]+\.\w+)", text):
        assert "NAME" in path or (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_page_says_first_for_whom_it_is(page: Path) -> None:
    title, _, first, *_ = page.read_text().splitlines()
    assert title.startswith("# ") and first.startswith("For whoever ")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_shown_words_of_the_launcher_can_be_typed(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"(?:^    |&& )[^\n]*?launch/(slurm|local)\.py ([^#>&|;\n]+)", text, re.M)
    assert lines or page.name not in ("README.md", "slurm.md")
    for program, line in lines:
        words = shlex.split(re.sub(r"\$\([^)]*\)", "0", line).rstrip(" \\"))  # a number that the shell fills in
        if "VERB" in words or "KEY=VALUE" in words:
            continue
        verb = verbs.first(words)
        if program == "slurm" and verb:
            assert verb in verbs.VERBS, f"{page.name}: {line}"
            given = values([word for word in words if "=" in word], sweep_command.Keys)
            assert set(given) <= set(sweep_command.MEANT[verb]), f"{page.name}: {line}"
        else:
            assert not verb and values(words, LaunchKeys), f"{page.name}: {line}"


def test_each_command_about_a_sweep_and_each_of_its_states_is_on_the_page() -> None:
    page = (ROOT / "docs" / "slurm.md").read_text()
    assert {verb for verb in verbs.VERBS if f"launch/slurm.py {verb}" in page} == set(verbs.VERBS)
    named = re.findall(r"^ +\| ([a-z, ]+) \| .+ \| .+ \|$", page, re.M)
    assert {state for cell in named[1:] for state in cell.split(", ")} == set(STATES)
