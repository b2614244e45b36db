"""The nightly script of the documentation, run as it stands there but for its commands."""

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "results.md").read_text()
SCRIPT = textwrap.dedent(re.search(r"(?:^    .*\n)*    cd (?:.*\n    )*exit \$status\n", PAGE, re.M)[0])
# In place of this Python: notes which command it is, and ends as told.
FAKE = """#!/bin/sh
case "$*" in
launch/*) echo "$*" >> launched; exit {launch} ;;
"-m results.check "*) echo check >> said; exit {check} ;;
"-m results.baseline accept "*) echo accept >> said; exit {accept} ;;
esac
exit 99
"""


def nightly(folder: Path, *, launch: int = 0, check: int = 0, accept: int = 0) -> subprocess.CompletedProcess[str]:
    program = folder / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE.format(launch=launch, check=check, accept=accept))
    program.chmod(0o755)
    script = SCRIPT.replace("/path/of/the/checkout", str(folder))
    return subprocess.run(["bash", "-e"], input=script, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("launch", [0, 1, 2])
@pytest.mark.parametrize("check", [0, 1, 3])
@pytest.mark.parametrize("accept", [0, 2])
def test_it_ends_as_the_check_does_whatever_else_fails(tmp_path: Path, launch: int, check: int, accept: int) -> None:
    done = nightly(tmp_path, launch=launch, check=check, accept=accept)
    assert done.returncode == check
    assert (tmp_path / "said").read_text() == "check\naccept\n"
    said = f"nightly.sh: the launch ended with status {launch}\n" if launch else ""
    assert done.stderr == said


def test_its_launch_has_a_seed_of_the_day(tmp_path: Path) -> None:
    nightly(tmp_path)
    assert re.fullmatch(r"launch/local.py .* repeats=3 seed=[1-9]\d{0,2}0\n", (tmp_path / "launched").read_text())


def test_without_its_checkout_nothing_starts(tmp_path: Path) -> None:
    done = subprocess.run(["bash", "-e"], input=SCRIPT, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())


def test_a_line_of_a_crontab_escapes_what_cron_would_take_for_a_newline() -> None:
    lines = re.findall(r"^    (\d+ \d+ \* \* \* .*)$", PAGE, re.M)
    submits, checks = lines
    assert "launch/slurm.py" in submits and " rerun=true" in submits and "nightly.sh" in checks
    for line in lines:
        assert not re.search(r"(?<!\\)%", line), line
