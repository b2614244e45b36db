"""What of a sweep is begun again, and with what: nothing that lives, is done, or would take another's place."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import saved_run
from after_submission import Slurm, begin, caller, sweep
from submitit.core.utils import DelayedSubmission

from bench.config.grammar import WordError
from bench.training.checkpoint import compatibility
from bench.training.state import RunState
from launch import cluster as clusters
from launch.job import Job
from launch.plan import make_plan
from launch.sweep import manifest
from results.store.files import journals
from results.store.writer import RunWriter

OTHER = "20261126T010203-sweep-0a1b9999"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.delenv("RESNET_BENCH_CLUSTERS", raising=False)
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    return Slurm(tmp_path, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "rows"


@pytest.fixture
def call(store: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    return caller(store, capsys)


@pytest.fixture
def submitted(slurm: Slurm, store: Path) -> manifest.Manifest:
    """A sweep whose cells have what they run, and the copy of its code."""
    found = sweep(store, ["17_0", "17_1", "17_2", "17_3", "17_4", None])
    found.code.mkdir()
    plan = make_plan("slurm", ["depth=20", "dataset=digits", "seed=0,1,2,3,4,5", f"results={store}"])
    for place, cell in enumerate(plan.cells):
        found.logs(place).mkdir(parents=True)
        DelayedSubmission(Job(config=cell.config, run_id=f"run{place}")).dump(found.logs(place) / "job.pkl")
    begin(store, "run0", steps=40).finish("completed")
    begin(store, "run1", steps=5).finish("failed", failure_kind="oom", failure_message="x")
    begin(store, "run2", steps=5)  # dead
    slurm.queue(slurm.job("17_3", "RUNNING"), slurm.job("17_2", "NODE_FAIL"))
    slurm.accounting("17_4|CANCELLED by 0|0:0|None assigned|")
    return found


def test_retry_submits_again_what_failed_was_killed_or_cancelled(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    out, err = call("retry")
    assert out.splitlines()[0].startswith("job 901_[0-2]  3 configurations  nodes=2")
    assert err.splitlines()[:3] == [
        "launch: 1 cell completed",
        "launch: 1 cell waiting or running",
        "launch: 1 cell never submitted: the same command does it (python launch/slurm.py depth=20,21 dataset=digits)",
    ]
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 2, 2, 1, 2, 0]
    again = [cell.submissions[-1] for cell in now.cells if len(cell.submissions) == 2]
    assert [one.job_id for one in again] == ["901_0", "901_1", "901_2"]
    assert len({one.run_id for one in again} | {f"run{at}" for at in range(5)}) == 8
    for one, seed in zip(again, (1, 2, 4), strict=True):
        job = pickle.loads((Path(one.log) / "job.pkl").read_bytes()).function
        assert (job.run_id, job.config.seed, job.config.results) == (one.run_id, seed, str(store))
    script = (now.folder / now.arrays[-1].script).read_text()
    assert str(submitted.code) in script and "#SBATCH --array=0-2" in script
    assert not [path for path in journals(store) if "run2" in path.name]
    slurm.queue(*(slurm.job(one.job_id, "PENDING", "") for one in again), slurm.job("17_3", "RUNNING"))
    _, err = call("retry")
    assert "launch: 4 cells waiting or running\n" in err and "launch: nothing to submit again\n" in err
    assert len(slurm.calls("sbatch")) == 2  # a test and the array
    slurm.set("plain", "")
    assert "4 pending" not in call("status")[0] and "3 pending" in call("status")[0]


def test_retry_of_one_cell_leaves_the_others(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    out, _ = call("retry", "cell=depth=21")
    assert out.startswith("job 901  run ")
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 2, 1, 1, 1, 0]


def saving(found: manifest.Manifest, place: int, path: Path) -> manifest.Manifest:
    """The sweep whose cell at some place saves its weights."""
    cells = tuple(replace(cell, save=str(path)) if at == place else cell for at, cell in enumerate(found.cells))
    file = found.logs(place) / "job.pkl"
    job = pickle.loads(file.read_bytes()).function
    DelayedSubmission(replace(job, config=replace(job.config, save=str(path)))).dump(file)
    changed = replace(found, cells=cells)
    changed.write()
    return changed


def test_retry_leaves_a_cell_alone_that_would_take_the_place_of_another_run(  # type: ignore[no-untyped-def]
    slurm: Slurm, store: Path, call, submitted
) -> None:
    path = store / "a.safetensors"
    path.write_bytes(b"of somebody else")
    label = saving(submitted, 1, path).cells[1].label
    out, err = call("retry", status=1)
    assert f"launch: {label} is not submitted: save={path}: a file is there that no run has saved" in err
    assert "2 configurations in 1 array" in out
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 1, 2, 1, 2, 0]
    assert path.read_bytes() == b"of somebody else"


def test_retry_goes_on_from_what_the_cell_has_saved(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    path = store / "a.safetensors"
    label = saving(submitted, 1, path).cells[1].label
    job = pickle.loads((submitted.logs(1) / "job.pkl").read_bytes()).function
    state = RunState(epoch=3, step=66, elapsed_s=9.0, top1=[0.1, 0.2, 0.3])
    net = compatibility.net_of(job.config)
    saved = replace(saved_run.SAVED, run_id="run1", restart=0, chain=(), net=net, state=state)
    saved_run.save(path, saved, saved_run.untrained(depth=20))
    out, err = call("retry")
    assert f"launch: {label} goes on from epoch 3, which run run1 has saved\n" in err and "3 configurations" in out
    now = manifest.read(submitted.folder / manifest.FILE)
    again = pickle.loads((Path(now.cells[1].submissions[-1].log) / "job.pkl").read_bytes()).function
    assert (again.config.resume, again.config.save) == (str(path), str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run_id": "somebody-else"}, "run somebody-else has saved its weights there (epoch 3)"),
        ({"net": {"batch": "16"}}, "the checkpoint has batch=16 (here 32)"),
        ({"state": {"epoch": 15, "step": 330, "top1": [0.1] * 15}}, "that run was complete at epoch 15, step 330"),
    ],
)
def test_retry_goes_on_from_nothing_else(slurm: Slurm, store: Path, call, submitted, change, said: str) -> None:  # type: ignore[no-untyped-def]
    path = store / "a.safetensors"
    label = saving(submitted, 1, path).cells[1].label
    job = pickle.loads((submitted.logs(1) / "job.pkl").read_bytes()).function
    state = RunState(**{"epoch": 3, "step": 66, "elapsed_s": 9.0, "top1": [0.1, 0.2, 0.3]} | change.get("state", {}))
    net = compatibility.net_of(job.config) | change.get("net", {})
    saved = replace(saved_run.SAVED, run_id=change.get("run_id", "run1"), restart=0, chain=(), net=net, state=state)
    saved_run.save(path, saved, saved_run.untrained(depth=20))
    out, err = call("retry", status=1)
    assert f"launch: {label} is not submitted: " in err and said in err and "2 configurations in 1 array" in out


def test_retry_waits_for_a_job_that_is_to_write_to_the_same_path(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    path = store / "a.safetensors"
    found = saving(submitted, 1, path)
    cells = tuple(replace(cell, submissions=(), config_hash="another") for cell in found.cells)
    other = replace(found, sweep_id=OTHER, arrays=(), cells=cells)
    other.folder.mkdir(parents=True)
    array = manifest.Array(script="array-0.sh", cells=(1,), run_ids=("else",))
    other.begun(array).taken(array, "77").write()
    slurm.set("plain", f"77|RUNNING|{other.folder / 'array-0.sh'}\n")
    out, err = call("retry", submitted.sweep_id, status=1)
    assert f"save={path}: job 77 (RUNNING) of sweep {OTHER} is to write there" in err and "2 configurations" in out


@pytest.mark.parametrize("how", ["queued", "done"])
def test_retry_submits_nothing_that_another_sweep_has(slurm: Slurm, store: Path, call, submitted, how: str) -> None:  # type: ignore[no-untyped-def]
    """Another sweep of the same configurations: its job waits, or its run has completed."""
    cells = tuple(replace(cell, submissions=()) for cell in submitted.cells)
    other = replace(submitted, sweep_id=OTHER, arrays=(), cells=cells)
    job = pickle.loads((submitted.logs(1) / "job.pkl").read_bytes()).function
    if how == "queued":
        other.folder.mkdir(parents=True)
        array = manifest.Array(script="array-0.sh", cells=(1,), run_ids=("else",))
        other.begun(array).taken(array, "77").write()
        queued = [slurm.job("17_3", "RUNNING"), slurm.job("17_2", "NODE_FAIL")]
        slurm.queue(*queued, slurm.job("77", "PENDING", script=str(other.folder / "array-0.sh")))
        slurm.set("plain", f"77|PENDING|{other.folder / 'array-0.sh'}\n")
    else:
        hashed = job.config.config_hash()
        RunWriter(store, {"run_id": "else", "restart_count": 0, "config_hash": hashed}).finish("completed")
    out, err = call("retry", submitted.sweep_id)
    said = {"queued": f"job 77 (PENDING) of sweep {OTHER} has it, and it is not", "done": "has a completed result"}[how]
    assert said in err and "2 configurations in 1 array" in out and "rerun=true" not in err
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 1, 2, 1, 2, 0]


def test_retry_looks_at_the_images_first(slurm: Slurm, store: Path, call, submitted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def none(config) -> None:  # type: ignore[no-untyped-def]
        if config.seed == 1:
            raise WordError("data=/gone: no such folder")

    monkeypatch.setattr("launch.sweep.done.check_data", none)
    out, err = call("retry", status=1)
    label = submitted.cells[1].label
    assert f"launch: {label} is not submitted: data=/gone: no such folder\n" in err and "2 configurations" in out


def test_retry_begins_nothing_that_may_live(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    slurm.fails("squeue", "Unable to contact slurm controller")
    _, err = call("retry", status=1)
    assert "Unable to contact" in err and "nothing was submitted" in err and slurm.calls("sbatch") == []


def test_retry_says_what_slurm_refuses(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    slurm.fails("sbatch", "sbatch: error: invalid partition specified: gpu")
    _, err = call("retry", status=1)
    assert err.splitlines()[-1].endswith("invalid partition specified: gpu; nothing was submitted")
    assert manifest.read(submitted.folder / manifest.FILE) == submitted


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda sweep: sweep.code.rmdir(), "is gone, the code that"),
        (lambda sweep: (sweep.logs(1) / "job.pkl").write_bytes(b"no pickle"), "what depth=21 ran cannot be read"),
        (lambda sweep: (sweep.logs(1) / "job.pkl").unlink(), "what depth=21 ran cannot be read"),
    ],
)
def test_retry_needs_what_ran(slurm: Slurm, store: Path, call, submitted, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    damage(submitted)
    _, err = call("retry", status=2)
    assert said in err.splitlines()[-1] and slurm.calls("sbatch") == []


def test_retry_of_a_store_that_was_moved_is_refused(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    moved = store.rename(store.parent / "elsewhere")
    _, err = call("retry", f"results={moved}", status=2)
    assert "and lies in" in err and slurm.calls("sbatch") == []


def test_a_profile_that_is_gone_is_named(slurm: Slurm, store: Path, call, submitted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(clusters, "profiles", dict)
    _, err = call("retry", status=2)
    assert "cluster=default: no such profile" in err
