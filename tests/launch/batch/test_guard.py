"""The shell function by which a script runs srun: srun's status and signals go through it, and it ends what hangs."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bench.config.environment import END_VARIABLE
from launch.batch import shell

COMMANDS = {"scancel": '#!/bin/bash\necho "$@" >> "$LOGS/scancelled"\n'}


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    folder = tmp_path / "commands"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


SETUP = "set -eu"  # as a site's setup lines may have it


def start(tmp_path: Path, path: str, command: str, monkeypatch: pytest.MonkeyPatch) -> "subprocess.Popen[str]":
    monkeypatch.setattr(shell, "LEAVE_S", 1)
    logs = tmp_path / "logs"
    logs.mkdir(exist_ok=True)
    (tmp_path / "srun").write_text(f"#!/bin/bash\n{command}\n")
    (tmp_path / "srun").chmod(0o755)
    script = "\n".join([SETUP, *shell.guard(), f"{shell.GUARDED} {tmp_path}/srun --wait=60"])
    environment = {"PATH": path, "LOGS": str(logs), "SLURM_JOB_ID": "7"}
    return subprocess.Popen(
        ["bash", "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_status_is_that_of_srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, status in (("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)):
        process = start(tmp_path, os.environ["PATH"], f'[ "$*" = --wait=60 ] && {command}', monkeypatch)
        process.communicate(timeout=20)
        assert process.returncode == status


@pytest.mark.parametrize(
    ("said", "status"), [("0 7.0", 0), ("1 7.0", 1), ("", 1)], ids=["completed", "failed", "disk full"]
)
def test_srun_that_outlives_its_run_is_ended(
    tmp_path: Path, commands: Path, said: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{commands}:{os.environ['PATH']}"
    line = f'echo -n "{said}" > "${END_VARIABLE}"; echo $$; exec > /dev/null; exec sleep 100'
    began = time.monotonic()
    process = start(tmp_path, path, line, monkeypatch)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began > 1 and process.returncode == status
    assert "the run has ended and srun has not" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(out), 0)
    assert (tmp_path / "logs" / "scancelled").read_text() == f"--signal=KILL {'7.0' if said else 'none'}\n"
    assert os.listdir(tmp_path / "logs") == ["scancelled"]  # nothing of it for the next start of this job


def test_it_works_where_there_is_no_scancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f'echo "1 7.0" > "${END_VARIABLE}"; exec sleep 100 > /dev/null 2>&1'
    process = start(tmp_path, str(plain(tmp_path)), line, monkeypatch)
    process.communicate(timeout=20)
    assert process.returncode == 1


def plain(tmp_path: Path) -> Path:
    """A folder with the few commands that the script itself calls."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for name in ("bash", "rm", "sleep"):
        found = next(Path(place) / name for place in ("/usr/bin", "/bin") if (Path(place) / name).exists())
        (folder / name).symlink_to(found)
    return folder


def test_the_end_of_an_earlier_start_of_the_job_is_not_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / ".ended-7.0").write_text("1 7.0\n")
    process = start(tmp_path, os.environ["PATH"], "sleep 2.5", monkeypatch)
    assert "has ended" not in process.communicate(timeout=20)[1] and process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_reaches_the_script_alone_reaches_srun_once(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = signal.Signals(number).name.removeprefix("SIG")
    line = f"trap 'echo got {name}' {name}; echo ready; for i in $(seq 8); do sleep 0.1; done; exit 3"
    process = start(tmp_path, os.environ["PATH"], line, monkeypatch)
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert out == f"got {name}\n" and process.returncode == 3
