"""Experiments on Slurm: the same words complete a sweep, and no configuration is submitted under two names."""

import pickle
from pathlib import Path

import pytest
from slurm_stub import Slurm

from launch.sweep import manifest

pytestmark = pytest.mark.usefixtures("checkout")


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name, shortcuts in (("mine", "none,A"), ("other", "A,B")):
        words = f"dataset=digits depth=8,20 steps=2 shortcut={shortcuts}"
        (folder / f"{name}.yaml").write_text(f"shows: {name}\nsource: none\npaper:\n  - {words}\n")
    monkeypatch.setenv("RESNET_BENCH_EXPERIMENTS", str(folder))


def submitted(slurm: Slurm) -> list[tuple[int, str, str | None, str | None]]:
    found = []
    for path in manifest.find([str(slurm.results)])[::-1]:
        for cell in manifest.read(path).cells:
            for one in cell.submissions:
                config = pickle.loads((Path(one.log) / "job.pkl").read_bytes()).function.config
                found.append((config.depth, config.shortcut, config.experiment, config.scale))
    return found


def test_jobs_know_the_experiment_and_the_same_words_complete_it(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    out, err = submit("experiment=mine depth=8")
    assert err == "launch: experiment=mine scale=paper, 2 runs: mine (none)\n" and "2 configurations" in out
    out, err = submit("experiment=mine")
    assert "2 configurations" in out and err.count("it is not submitted again") == 2
    first, second = [manifest.read(path) for path in manifest.find([str(slurm.results)])[::-1]]
    assert "experiment=mine" in first.words and "depth=8" in first.words and "depth=8" not in second.words
    assert submitted(slurm) == [(depth, shortcut, "mine", "paper") for depth in (8, 20) for shortcut in ("none", "A")]
    out, err = submit("experiment=mine")
    assert out == "" and err.count("it is not submitted again") == 4


def test_what_two_experiments_share_is_submitted_once(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("experiment=mine")
    out, err = submit("experiment=other")
    assert "2 configurations" in out and err.count("it is not submitted again") == 2
    assert submitted(slurm)[4:] == [(8, "B", "other", "paper"), (20, "B", "other", "paper")]
    submit("experiment=other,mine", status=0)
    assert len(submitted(slurm)) == 6


def test_a_label_names_what_is_typed(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("experiment=mine,other depth=8 recipe=paper,fast")
    (sweep,) = [manifest.read(path) for path in manifest.find([str(slurm.results)])]
    assert [cell.label for cell in sweep.cells][:2] == [
        "shortcut=none recipe=paper experiment=mine", "shortcut=none recipe=fast experiment=mine",
    ]  # fmt: skip
