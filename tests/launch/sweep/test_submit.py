"""A sweep on Slurm: checked whole, each configuration once, whatever comes in between."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_stub import WORDS, Slurm

from bench.config.paths import ROOT
from launch.batch.shell import GUARDED
from launch.cli import main
from launch.sweep import manifest
from launch.sweep.manifest import Manifest
from results.store.writer import RunWriter

pytestmark = pytest.mark.usefixtures("checkout")


def sweeps(slurm: Slurm) -> list[Manifest]:
    return [manifest.read(path) for path in manifest.find([str(slurm.results)])]


def ran(slurm: Slurm) -> list[tuple[str, str]]:
    """Job and configuration of all that was handed over, as submitit would find it."""
    found = []
    for sweep in sweeps(slurm):
        for cell in sweep.cells:
            for one in cell.submissions:
                job = pickle.loads((Path(one.log) / "job.pkl").read_bytes()).function
                assert (job.run_id, job.config.config_hash()) == (one.run_id, cell.config_hash)
                found.append((one.job_id, f"{job.config.depth}{job.config.shortcut}-{job.config.nodes}"))
    return found


def test_a_sweep_is_an_array_for_each_number_of_nodes(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    out, err = submit("depth=20,32,44 shortcut=A,B,C nodes=1,2")
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "job 101_[0-8]  9 configurations  nodes=1 ranks_per_node=1"
    assert lines[1] == "job 102_[0-8]  9 configurations  nodes=2 ranks_per_node=1"
    (sweep,) = sweeps(slurm)
    assert lines[2] == f"sweep {sweep.sweep_id}: 18 configurations in 2 arrays"
    assert lines[3].startswith(f"code {sweep.folder}/code, a copy of commit ")
    assert lines[4] == f"logs {sweep.folder}/logs"
    inside = Path(sys.executable).is_relative_to(Path.cwd())
    python = os.path.relpath(sys.executable) if inside else sys.executable  # what can be typed here
    assert lines[5].startswith(f"next {python} launch/slurm.py status {sweep.sweep_id} results={slurm.results}  (or ")
    assert slurm.ids() == [f"{job}_{task}" for job in (101, 102) for task in range(9)]
    assert len({what for _, what in ran(slurm)}) == len(ran(slurm)) == 18
    assert [call.split()[1] for call in slurm.calls()[:2]] == ["--test-only"] * 2  # once each, before all else
    assert len(slurm.calls()) == 4
    assert (sweep.cluster, sweep.synthetic, sweep.dirty, len(sweep.commit)) == ("small", False, False, 40)
    assert sweep.words[0] == "dataset=digits"
    cell = sweep.cells[5]
    assert (cell.label, cell.name, cell.nodes) == ("depth=20 shortcut=C nodes=2", "resnet20C-digits", 2)
    assert cell.submissions[0].job_id == "102_2"
    assert cell.submissions[0].log == f"{sweep.folder}/logs/005-depth=20-shortcut=C-nodes=2"


def test_a_script_leads_each_task_to_its_own_folder(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20,32")
    (sweep,) = sweeps(slurm)
    script = (sweep.folder / "array-0.sh").read_text()
    assert "#SBATCH --array=0-1%2\n" in script and "#SBATCH --job-name=digits-1x1\n" in script
    assert f"#SBATCH --output={sweep.folder}/array-0/%a/%x-%A_%a.out\n" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    # What stands between Slurm's variables and the ranks, as a task of the array runs it.
    lines = [line for line in script.splitlines() if re.match("LOGS|mkdir|cat|ln|export PYTHONPATH", line)]
    variables = {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "1", "PATH": os.environ["PATH"]}
    show = ["bash", "-ec", "\n".join([*lines, "echo $PYTHONPATH"])]
    said = subprocess.run(show, env=variables, capture_output=True, text=True, check=True).stdout.splitlines()
    logs = sweep.logs(1)
    assert said == [f"depth=32, of sweep {sweep.sweep_id}, run {sweep.cells[1].submissions[0].run_id}", str(sweep.code)]
    assert pickle.loads((logs / "9_1_submitted.pkl").read_bytes()).function.config.depth == 32


@pytest.mark.parametrize(("words", "kept"), [("depth=20,32", ["9", "1"]), ("depth=20", ["", ""])])
def test_a_task_keeps_its_number_and_a_job_has_none(slurm: Slurm, submit, words: str, kept: list[str]) -> None:  # type: ignore[no-untyped-def]
    submit(words)
    (sweep,) = sweeps(slurm)
    script = (sweep.folder / "array-0.sh").read_text()
    line = next(line for line in script.splitlines() if line.startswith("  unset "))
    show = ["bash", "-c", f'{line}; printf "%s\\n" "$SLURM_ARRAY_JOB_ID" "$SLURM_ARRAY_TASK_ID"']
    variables = {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "1", "PATH": os.environ["PATH"]}
    assert subprocess.run(show, env=variables, capture_output=True, text=True, check=True).stdout.splitlines() == kept


def test_one_configuration_is_a_plain_job(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    out, _ = submit("depth=20")
    (sweep,) = sweeps(slurm)
    run_id = sweep.cells[0].submissions[0].run_id
    assert out.splitlines()[0] == f"job 101  run {run_id}  nodes=1 ranks_per_node=1"
    assert slurm.ids() == ["101"] and sweep.cells[0].label == "resnet20A-digits"
    script = (sweep.folder / "array-0.sh").read_text()
    assert "--array" not in script and "--job-name=resnet20A-digits\n" in script
    lines = [line for line in script.splitlines() if re.match("LOGS|ln", line)]
    subprocess.run(["bash", "-ec", "\n".join(lines)], env={"SLURM_JOB_ID": "9", "PATH": os.environ["PATH"]}, check=True)
    assert (sweep.logs(0) / "9_submitted.pkl").resolve() == sweep.logs(0) / "job.pkl"


def test_a_job_is_asked_for_as_a_printed_script_asks_for_it(slurm: Slurm, submit, capsys) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20 nodes=2")
    (sweep,) = sweeps(slurm)
    printed, _ = submit("depth=20 nodes=2 mode=print")
    given = (sweep.folder / "array-0.sh").read_text()
    lines = [[line for line in text.splitlines() if line.startswith("#SBATCH")] for text in (printed, given)]
    differ = [(a, b) for a, b in zip(*lines, strict=True) if a != b]
    assert differ == [("#SBATCH --output=%x-%j.out", f"#SBATCH --output={sweep.logs(0)}/%x-%j.out")]
    start = given.partition(f"\n{GUARDED} ")[2].partition(" -u -m submitit.core._submit")[0]
    assert start and start == printed.partition(f"\n{GUARDED} ")[2].partition(" -m launch.job")[0]
    assert f"export PYTHONPATH={sweep.code}$" in given and f"export PYTHONPATH={ROOT}$" in printed


@pytest.mark.parametrize(("most", "sizes"), [(5, [5, 4]), (4, [4, 4, 1]), (1, [1] * 9), (0, [1] * 9), (9, [9])])
def test_arrays_are_no_larger_than_the_cluster_takes(slurm: Slurm, submit, most: int, sizes: list[int]) -> None:  # type: ignore[no-untyped-def]
    slurm.set("most", most)
    submit("depth=20,32,44 shortcut=A,B,C")
    (sweep,) = sweeps(slurm)
    assert [len(array.cells) for array in sweep.arrays] == sizes
    assert len({what for _, what in ran(slurm)}) == len(ran(slurm)) == 9


def test_one_that_can_never_run_keeps_all_from_being_submitted(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    out, err = submit("depth=20 nodes=1,9,2", status=1)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("launch: nodes=9 ranks_per_node=1: allocation failure: too many nodes; nearest is nodes=4; ")
    assert not slurm.queue() and not sweeps(slurm) and not slurm.calls("sbatch /")


@pytest.mark.parametrize("over", [False, True])
def test_the_same_command_submits_nothing_again(slurm: Slurm, submit, over: bool) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20,32 nodes=1,2")
    (sweep,) = sweeps(slurm)
    if over:
        slurm.ends()
        for cell in sweep.cells:
            job = pickle.loads((sweep.logs(sweep.cells.index(cell)) / "job.pkl").read_bytes()).function
            row = {"run_id": job.run_id, "config_hash": cell.config_hash, "config_json": job.config.to_json()}
            RunWriter(slurm.results, row).finish("completed")
    before = slurm.queue()
    out, err = submit("depth=20,32 nodes=1,2")
    assert out == "" and slurm.queue() == before and len(sweeps(slurm)) == 1
    if over:
        assert err.count("has a completed result") == 4
    else:
        of = f"of sweep {sweeps(slurm)[0].sweep_id} has it, and it is not submitted again"
        assert f"launch: depth=32 nodes=2: job 102_1 (PENDING) {of}" in err
        assert err.count(" has it, and") == 4 and "rerun=true" in err
    out, _ = submit("depth=20,32,44 nodes=1,2")
    assert len(slurm.queue()) == len(before) + 2 and "2 configurations in 2 jobs" in out
    out, _ = submit("depth=20,32 nodes=1,2 rerun=true")
    assert "4 configurations in 2 arrays" in out


def test_what_has_ended_without_a_result_is_submitted_again(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20,32")
    slurm.ends()
    assert "2 configurations in 1 array" in submit("depth=20,32")[0]


def test_a_number_that_another_slurm_gave_is_not_taken_for_its_job(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20")
    slurm.set("queue", "101|RUNNING|/home/somebody/else.sh")
    assert "1 configuration in 1 job" in submit("depth=20")[0]


def test_other_weights_or_images_are_another_configuration(slurm: Slurm, submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20")
    assert "1 configuration in 1 job" in submit(f"depth=20 save={tmp_path}/a.safetensors")[0]
    assert submit(f"depth=20 save={tmp_path}/a.safetensors")[0] == ""
    assert submit("depth=20")[0] == ""


def test_what_is_completing_has_run_and_keeps_nobody_waiting(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20,32")
    slurm.set("queue", "\n".join(slurm.queue()).replace("101_0|PENDING", "101_0|COMPLETING"))
    out, err = submit("depth=20,32")
    assert "1 configuration in 1 job" in out and err.count("has it, and") == 1 and "depth=32: job 101_1" in err


def test_two_commands_do_not_save_to_one_path(slurm: Slurm, submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    submit(f"depth=20 save={tmp_path}/a.safetensors")
    out, err = submit(f"depth=32 save={tmp_path}/a.safetensors", status=2)
    job = f"job 101 (PENDING) of sweep {sweeps(slurm)[0].sweep_id}"
    assert out == "" and err.startswith(
        f"launch: save={tmp_path}/a.safetensors: {job} is to write there; save elsewhere"
    )
    submit(f"depth=32 save={tmp_path}/b.safetensors")
    slurm.ends()
    submit(f"depth=44 save={tmp_path}/a.safetensors")


def test_no_job_is_submitted_over_the_weights_of_a_run_that_has_ended(slurm: Slurm, submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = f"depth=20 save={tmp_path}/a.safetensors"
    submit(words)
    (tmp_path / "a.safetensors").write_bytes(b"what the job has saved by now")
    assert "has it, and" in submit(words)[1]  # it lives: nothing is refused, and nothing submitted
    slurm.ends()
    taken = f"launch: save={tmp_path}/a.safetensors: a file is there"
    for again in (words, f"{words} mode=test", f"{words} rerun=true"):
        out, err = submit(again, status=2)
        assert out == "" and err.startswith(taken) and err.endswith(f"save={tmp_path}/a-2.safetensors is free\n")
    assert len(sweeps(slurm)) == 1
    assert "1 configuration in 1 job" in submit(f"depth=20 save={tmp_path}/a-2.safetensors")[0]


def test_a_limit_in_the_middle_leaves_the_rest_to_the_same_command(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    slurm.set("limit", 3)
    out, err = submit("depth=20,32,44,56,110", status=1)
    assert [len(array.cells) for array in sweeps(slurm)[0].arrays] == [2, 1] and len(slurm.queue()) == 3
    assert "3 configurations in 1 array and 1 job" in out
    assert "2 of 5 configurations remain; the same command submits them, once Slurm takes more" in err
    out, err = submit("depth=20,32,44,56,110", status=1)  # nothing is free yet
    assert out == "" and "job submit limit); 2 of 2 configurations remain" in err.splitlines()[-1]
    slurm.ends()
    slurm.set("limit", 5)
    (sweep,) = sweeps(slurm)
    for place in range(3):
        job = pickle.loads((sweep.logs(place) / "job.pkl").read_bytes()).function
        row = {"run_id": job.run_id, "config_hash": job.config.config_hash(), "config_json": job.config.to_json()}
        RunWriter(slurm.results, row).finish("completed")
    assert "2 configurations in 1 array" in submit("depth=20,32,44,56,110")[0]
    (sweep,) = sweeps(slurm)  # the same one: its code has not changed
    assert [len(cell.submissions) for cell in sweep.cells] == [1] * 5
    assert len({what for _, what in ran(slurm)}) == len(ran(slurm)) == 5


def test_what_is_left_runs_the_code_of_its_own_submission(slurm: Slurm, submit, checkout: Path) -> None:  # type: ignore[no-untyped-def]
    slurm.set("limit", 1)
    submit("depth=20,32", status=1)
    slurm.unset("limit")
    (checkout / "bench" / "run.py").write_text("second")
    submit("depth=20,32")
    second, first = sweeps(slurm)
    assert [len(cell.submissions) for cell in first.cells] == [1, 0] and len(second.cells) == 1
    assert [(one.code / "bench" / "run.py").read_text() for one in (first, second)] == ["first", "second"]
    assert (first.dirty, second.dirty) == (False, True) and first.snapshot != second.snapshot


def test_a_refusal_of_all_leaves_nothing(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    slurm.set("limit", 0)
    out, err = submit("depth=20,32", status=1)
    assert out == "" and "2 of 2 configurations remain" in err and err.count("\n") == 1
    assert os.listdir(slurm.results / "jobs") == [".lock"]
    slurm.unset("limit")
    slurm.set("said", "sbatch: error: invalid partition specified: gpu")
    for mode in ("submit", "test"):
        out, err = submit(f"depth=20 mode={mode}", status=1)
        assert out == "" and err.count("\n") == 1
        assert err.startswith("launch: resnet20A-digits nodes=1 ranks_per_node=1: sbatch: error: invalid partition ")


@pytest.mark.parametrize("queued", [True, False])
def test_a_death_after_sbatch_submits_nothing_twice(  # type: ignore[no-untyped-def]
    slurm: Slurm, submit, monkeypatch: pytest.MonkeyPatch, queued: bool
) -> None:
    def die(*_: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "taken", die)
        with pytest.raises(SystemExit):
            submit("depth=20,32,44")
    (sweep,) = sweeps(slurm)
    assert not any(cell.submissions for cell in sweep.cells) and sweep.arrays[0].job_id == ""
    if queued:
        out, err = submit("depth=20,32,44")
        assert out == "" and err.count("(PENDING) of sweep ") == 3 and len(slurm.queue()) == 3
        (sweep,) = sweeps(slurm)
        assert [cell.submissions[0].job_id for cell in sweep.cells] == ["101_0", "101_1", "101_2"]
    else:  # sbatch itself did not live either
        slurm.ends()
        assert "3 configurations in 1 array" in submit("depth=20,32,44")[0]
        (sweep,) = sweeps(slurm)
        assert [array.job_id for array in sweep.arrays] == ["102"]
        assert [len(cell.submissions) for cell in sweep.cells] == [1] * 3


def test_a_job_that_is_over_before_it_was_written_down_is_known_by_its_log(  # type: ignore[no-untyped-def]
    slurm: Slurm, submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "taken", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            submit("depth=20,32")
    (sweep,) = sweeps(slurm)
    slurm.ends()
    (sweep.logs(1) / "digits-1x1-101_1.out").touch()
    submit("depth=20,32")
    known = sweeps(slurm)[-1]
    assert [cell.submissions[0].job_id for cell in known.cells] == ["101_0", "101_1"]


def test_what_sbatch_does_not_know_is_found_out_later(slurm: Slurm, submit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sbatch = tmp_path / "commands" / "sbatch"
    whole = sbatch.read_text()
    sbatch.write_text(whole.replace('echo "Submitted', 'echo "sbatch: error: Socket timed out" >&2; exit 1; echo "'))
    out, err = submit("depth=20,32,44", status=1)
    assert out == "" and "the same command finds out" in err and len(slurm.queue()) == 3
    sbatch.write_text(whole)
    out, err = submit("depth=20,32,44")
    assert out == "" and err.count("(PENDING) of sweep ") == 3 and len(slurm.queue()) == 3


def test_the_shell_that_submits_is_left_out(slurm: Slurm, submit, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SBATCH_PARTITION", "SQUEUE_STATES", "RANK"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    submit("depth=20")
    names = [line.partition("=")[0] for line in (slurm.folder / "environment").read_text().splitlines()]
    assert [name for name in names if name.startswith(("SLURM", "SBATCH", "SQUEUE", "RANK"))] == ["SLURM_CONF"]


def test_synthetic_images_that_nobody_asked_for_are_named(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ranks_per_node=1", "cluster=small", f"results={slurm.results}"]
    assert main("slurm", ["depth=50", *words]) == 0
    out, err = capsys.readouterr()
    assert "images are SYNTHETIC" in out and "synthetic images" in err
    (sweep,) = sweeps(slurm)
    assert sweep.synthetic and sweep.cells[0].name == "resnet50B-imagenet-synthetic"
    assert "--job-name=resnet50B-imagenet-synthetic\n" in (sweep.folder / "array-0.sh").read_text()
    assert main("slurm", ["depth=18,34", "loader=synthetic", *words]) == 0
    assert "SYNTHETIC" not in capsys.readouterr().out and not sweeps(slurm)[0].synthetic  # they were asked for
    assert "--job-name=imagenet-synthetic-1x1\n" in (sweeps(slurm)[0].folder / "array-0.sh").read_text()


@pytest.mark.parametrize("name", ["a b", "it's", '"', "$HOME", "100%", "`x`", "é#;&"])
def test_odd_folders_hold_a_sweep(slurm: Slurm, submit, name: str) -> None:  # type: ignore[no-untyped-def]
    slurm.results = slurm.results / name
    assert main("slurm", [*WORDS.split(), "depth=20,32", f"results='{slurm.results}'".replace("it's", "it\\'s")]) == 0
    (sweep,) = sweeps(slurm)
    script = (sweep.folder / "array-0.sh").read_text()
    lines = [line for line in script.splitlines() if re.match("LOGS|cat", line)]
    show = ["bash", "-ec", "\n".join([*lines, 'printf %s "${LOGS//%/%%}"'])]
    variables = {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "1", "PATH": os.environ["PATH"]}
    said = subprocess.run(show, env=variables, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        f"depth=32, of sweep {sweep.sweep_id}, run {sweep.cells[1].submissions[0].run_id}",
        f"{sweep.folder}/array-0/1".replace("%", "%%"),
    ]
    assert str(sweep.folder).replace("%", "%%").partition("'")[0] in script.partition("--output=")[2]


@pytest.mark.parametrize("name", ["a\\b", "a:b", "a%jb", "%A"])
def test_folders_that_somebody_on_the_way_misreads_are_refused(slurm: Slurm, submit, name: str, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main("slurm", [*WORDS.split(), "depth=20", f"results='{slurm.results}/{name}'"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "rename it" in err and not slurm.results.exists()


def test_a_sweep_has_one_store_and_one_profile(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["results=a,b"], ["cluster=small,default"]):
        assert main("slurm", ["depth=20", "dataset=digits", *words]) == 2
        assert "one value for all configurations, not a sweep" in capsys.readouterr().err


def test_a_manifest_that_cannot_be_read_is_named(slurm: Slurm, submit) -> None:  # type: ignore[no-untyped-def]
    submit("depth=20")
    (path,) = manifest.find([str(slurm.results)])
    path.write_text("{")
    out, err = submit("depth=20", status=2)
    assert out == "" and str(path) in err and err.count("\n") == 1


def test_the_newest_sweep_comes_first_also_of_those_of_one_second(slurm: Slurm) -> None:
    names = ["20261127T010203-sweep-ffffffff", "20261127T010204-sweep-bbbbbbbb", "20261127T010204-sweep-aaaaaaaa"]
    for place, name in enumerate(names):
        created = f"2026-11-27T01:02:0{3 + (place > 0)}.00000{place}+00:00"
        words = {"cluster": "small", "results": str(slurm.results), "commit": "", "dirty": None, "snapshot": ""}
        Manifest(sweep_id=name, created=created, words=(), synthetic=False, cells=(), **words).write()  # type: ignore[arg-type]
    assert [path.parent.name for path in manifest.find([str(slurm.results)])] == names[::-1]
