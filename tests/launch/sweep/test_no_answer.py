"""A Slurm that does not answer or says something else, or a disk that is full: nothing is submitted twice."""

import errno
import shutil

import pytest
from slurm_stub import Slurm

from launch.batch import script as batch

pytestmark = pytest.mark.usefixtures("checkout")


def test_nothing_is_submitted_where_squeue_does_not_answer(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    slurm.set("broken", "")
    out, err = submit("depth=20", status=1)
    assert (out, err.count("\n")) == ("", 1) and not slurm.calls()
    assert (
        "what is queued already is not known (squeue does not answer: slurm_load_jobs error: Unable to contact" in err
    )
    assert "rerun=true submits" in err
    assert "1 configuration in 1 job" in submit("depth=20 rerun=true")[0]
    out, err = submit("depth=20,32 rerun=true", status=1)
    assert (
        out == ""
        and "how large an array may be is not known (scontrol does not answer: slurm_load_ctl_conf error)" in err
    )


@pytest.mark.parametrize("said", ["Welcome to the cluster!\n", "\303(", "{}", "slurm|is|down"])
def test_what_is_no_queue_is_not_taken_for_an_empty_one(slurm: Slurm, submit, said: str) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20")
    (slurm.folder / "queue").write_bytes(said.encode("latin-1"))
    before = len(slurm.calls())
    out, err = submit("depth=20", status=1)
    assert (out, err.count("\n"), len(slurm.calls())) == ("", 1, before)
    assert "what is queued already is not known (squeue says " in err and "which is no list of jobs" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exec sleep 60", "sbatch does not answer within 0.2 s; nothing was submitted"),
        ('[ "$1" = --test-only ] || exec sleep 60', "whether Slurm has it is not known; the same command finds out"),
        ("printf '\\303(' >&2; exit 1", "(; nothing was submitted"),
        ("printf '\\303('", "(; nothing was submitted"),
    ],
)
def test_an_sbatch_that_hangs_or_prints_rubbish_is_one_line(  # type: ignore[no-untyped-def]
    slurm: Slurm, submit, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(batch, "SBATCH_S", 0.2)
    (slurm.folder.parent / "commands" / "sbatch").write_text(f"#!/bin/sh\n{text}\n")
    out, err = submit("depth=20", status=1)
    assert (out, err.count("\n")) == ("", 1) and said in err, err


def test_a_full_disk_names_the_folder_of_the_copy_and_leaves_nothing(  # type: ignore[no-untyped-def]
    slurm: Slurm, submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", full)
        out, err = submit("depth=20", status=1)
    assert out == "" and err.startswith(f"launch: {slurm.results}/jobs/") and err.endswith("No space left on device\n")
    assert [path.name for path in (slurm.results / "jobs").iterdir()] == [".lock"]
    assert "1 configuration in 1 job" in submit("depth=20")[0]
