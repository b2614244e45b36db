"""Batch scripts: what they say, what submission hands to Slurm, and what is said where there is none."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.paths import ROOT
from bench.config.run_config import RunConfig
from launch import job
from launch.batch.script import script
from launch.cli import main
from launch.plan import Cell, make_plan

GOLDEN = Path(__file__).parent / "golden"

PROFILES = {
    "pyxis": """
account: vision
partition: gpu
qos: long
constraint: h100
reservation: morning
exclude: node[013,027]
gpus_per_node: 4
cpus_per_task: 12
time: "1-00:00:30"
signal_lead_s: 180
interface: ib0
setup: [module load cuda/13.0]
container: pyxis
image: registry#suite:1
mounts: ["/scratch:/scratch"]
data: {imagenet: /datasets/image net}
results: /scratch/rows
""",
    "apptainer": "container: apptainer\nimage: /images/suite.sif\npython: python3.12\nresults: /scratch/rows\n",
    "processors": "gpus_per_node: 0\ncpus_per_task: 2\nresults: /scratch/rows\n",
}
SCRIPTS = {
    "default": "depth=152 nodes=8 results=/rows",
    "pyxis": "depth=50 recipe=paper nodes=4 cluster=pyxis seed=3 save=/weights/a.safetensors",
    "apptainer": "depth=18 shortcut=none cluster=apptainer lr=0.5",
    "processors": "depth=20 dataset=digits nodes=2 ranks_per_node=1 cluster=processors",
}

# Stand-ins for Slurm's commands: each call is noted, sbatch keeps the script that it was given.
SBATCH = """#!/bin/sh
echo "$@" >> CALLS
if [ -n "$REFUSE" ]; then echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1; fi
if [ "$1" = --test-only ]; then cat > SCRIPT; echo "sbatch: Job 7 to start at noon on node1" >&2; exit 0; fi
cp "$1" SCRIPT
echo "Submitted batch job $((100 + $(wc -l < CALLS)))"
"""


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clusters").mkdir()
    for name, text in PROFILES.items():
        (tmp_path / "clusters" / f"{name}.yaml").write_text(text)
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path / "clusters"))
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with CALLS, the arguments of each sbatch, and SCRIPT, what the last one was given."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\nexit 1\n")):
        (commands / name).write_text(text.replace("CALLS", f"{tmp_path}/CALLS").replace("SCRIPT", f"{tmp_path}/SCRIPT"))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    return tmp_path


def cell(line: str) -> Cell:
    (found,) = make_plan("slurm", [*shlex.split(line), "mode=print"]).cells
    return found


def anywhere(text: str) -> str:
    return text.replace(sys.executable, "/python").replace(str(ROOT), "/checkout")


def directives(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_these(name: str) -> None:
    text = anywhere(script(cell(SCRIPTS[name])))
    assert text == (GOLDEN / f"{name}.sh").read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("more", ["", "recipe=paper ranks_per_node=4", "dataset=digits depth=20 lr=0.1 batch=16"])
def test_the_number_of_nodes_is_in_its_line_alone(more: str) -> None:
    base = more if "depth" in more else f"depth=152 {more}"
    two, eight = (script(cell(f"{base} nodes={nodes}")).splitlines() for nodes in (2, 8))
    assert [(a, b) for a, b in zip(two, eight, strict=True) if a != b] == [("#SBATCH --nodes=2", "#SBATCH --nodes=8")]


def test_a_job_composes_the_configuration_that_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the script's last words resolve to in the job is what the launcher had checked."""
    planned = cell(SCRIPTS["pyxis"])
    line = script(planned).partition("-m launch.job")[2]
    started: list[tuple[RunConfig, str]] = []
    monkeypatch.setattr(job.Job, "__call__", lambda self: started.append((self.config, self.run_id)))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")  # as the script exports it
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    job.main(shlex.split(line.replace("\\\n", " ")))
    assert started == [(planned.config, f"{planned.config.name()}-{planned.config.config_hash()[:8]}-job9")]


def test_ports_differ_between_jobs_and_between_restarts() -> None:
    line = next(line for line in script(cell("depth=50")).splitlines() if line.startswith("export MASTER_PORT"))

    def port(job_id: int, restarts: str) -> int:
        variables = {"SLURM_JOB_ID": str(job_id), **({"SLURM_RESTART_COUNT": restarts} if restarts else {})}
        shell = ["bash", "-c", f"{line}; echo $MASTER_PORT"]
        return int(subprocess.run(shell, env=variables, capture_output=True, text=True, check=True).stdout)

    ports = [port(job_id, restarts) for job_id in (1, 2, 4_000_000_000) for restarts in ("", "1", "2")]
    assert len(set(ports)) == len(ports) and all(10000 <= each < 30000 for each in ports)


def test_print_needs_no_slurm_and_keeps_notices_from_the_script(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "depth=152", "nodes=8", "mode=print"]
    done = subprocess.run(command, cwd="/", env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("#!/bin/bash\n") and "--nodes=8" in done.stdout
    assert done.stderr.count("\n") == 1 and "synthetic images" in done.stderr


def test_without_slurm_one_line_says_what_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for mode in ("submit", "test"):
        assert main("slurm", ["depth=152", "nodes=8", f"mode={mode}"]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "mode=print" in err and "local.py" in err


def test_what_slurm_refuses_is_said_in_its_words(
    slurm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSE", "1")
    assert main("slurm", ["depth=18", "loader=synthetic", "mode=test", f"results={slurm}/rows"]) == 1
    what, why = (
        "resnet18B-imagenet-synthetic nodes=1 ranks_per_node=8",
        "sbatch: error: invalid partition specified: gpu",
    )
    assert capsys.readouterr() == ("", f"launch: {what}: {why}; nothing was submitted\n")
    assert not (slurm / "rows").exists()


def test_mode_test_asks_and_submits_nothing(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("slurm", ["depth=18", "loader=synthetic", "mode=test"]) == 0
    assert capsys.readouterr().out == "resnet18B-imagenet-synthetic: sbatch: Job 7 to start at noon on node1\n"
    assert (slurm / "CALLS").read_text() == "--test-only\n"
    assert (slurm / "SCRIPT").read_text() == script(cell("depth=18 loader=synthetic"))
