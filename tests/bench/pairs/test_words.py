"""What a command line of pairs may say, and the one line that answers what it may not."""

import pytest

from bench.pairs import command
from bench.pairs.process import allocation
from results.words import ConfigError


def test_a_side_is_a_commit_words_or_both(repository) -> None:
    first, second = repository.commit(), repository.commit()
    task = command.read(
        repository.words("a=commit:HEAD~1 lr=0.1", "b=lr=0.2 precision=fp16", "seed=3", "kernels=torch")
    )
    assert task.commits == {"a": first, "b": None} and first != second
    assert task.sides["a"].words == ("depth=8", "dataset=digits", "kernels=torch", "lr=0.1")
    assert task.sides["b"].words == ("depth=8", "dataset=digits", "kernels=torch", "lr=0.2", "precision=fp16")
    assert (task.seed, task.metric, task.root, task.steps) == (3, "images_per_s", repository.results, 2)
    assert task.where.name == f"local-{task.pairs_id}" and task.where.nodes == 0
    assert not repository.results.exists()


def test_a_folder_for_temporary_files_that_was_named_is_there(repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit()
    monkeypatch.setenv("TMPDIR", "/not/here")
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(ConfigError, match="^TMPDIR=/not/here: no such folder; nearest is TMPDIR="):
        command.read(repository.words("a=commit:main"))


def test_b_is_this_checkout_unless_it_is_said(repository) -> None:
    repository.commit()
    task = command.read(repository.words("a=commit:main"))
    assert task.commits["b"] is None and task.sides["b"].words == task.sides["a"].words == ("depth=8", "dataset=digits")


def test_steps_that_do_not_count_are_no_more_than_those_that_do(repository) -> None:
    repository.commit()
    assert command.read(repository.words("a=commit:main", "steps=1", "metric=final_top1")).steps == 1
    for words in (["steps=30"], ["steps=11"], ["metric=tta_s", "steps=10"]):
        assert command.read(repository.words("a=commit:main", *words)).steps == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "a is missing: add a=commit:HEAD~1"),
        (["a=commit:mian"], "a=commit:mian: no such commit here; nearest is main "),
        (["a=lr=1", "b=commit:v0"], "b=commit:v0: no such commit here; nearest is v1 "),
        (["a=commit:--all"], "a=commit:--all: no such commit here"),
        (["a=commit:HEAD:plan.json"], "a=commit:HEAD:plan.json: no such commit here"),
        (["a=commit:"], "a=commit:: which commit?"),
        (["a=commit:main commit:v1"], "a=commit:main commit:v1: two commits"),
        (["a=commit=main"], "a=commit=main: a commit is written commit:main"),
        (["a=main"], "a=main: main is no word of a run; a commit is written commit:main"),
        (["a=comit:main"], "a=comit:main: comit:main is no word of a run; a commit is written commit:main"),
        (["a=kernels=torhc"], "a: kernels=torhc: choose from torch, compile, triton, auto (nearest: kernels=torch)"),
        (["a=lr=1", "b=kernals=torch"], "b: kernals=torch: no such key; did you mean kernels=torch?"),
        (["a=kernels=torch,triton"], "kernels: a side is one configuration, and these are 2"),
        (["a=lr=1", "kernels=torch,triton"], "kernels: 2 values; a side is one configuration"),
        (["a=seed=1"], "a=seed=1: seed is that of both sides; give seed=1 beside a= and b="),
        (["a=results=/x"], "a=results=/x: results is that of both sides"),
        (["a=nodes=2"], "a=nodes=2: nodes is that of both sides"),
        (["a=dataset=digits"], "a=dataset=digits: dataset is given for both sides too"),
        (["a=lr='1"], "a=lr='1: no closing quotation"),
        (["a=lr=1", "save=w.safetensors"], "save=w.safetensors: pairs keep no weights"),
        (["a=lr=1", "resume=w.safetensors"], "resume=w.safetensors: the runs of a pair begin from scratch"),
        (["a=lr=1", "metric=images"], "metric=images: choose from images_per_s"),
        (["a=lr=1", "nodes=2"], "nodes=2: pairs on several nodes run inside an allocation"),
        (
            ["a=lr=1", "seed=2147483641"],
            "seed=2147483641: seeds count up from it, one a pair; nearest is seed=2147483640",
        ),
        (["a=lr=1", "repeats=3"], "repeats=3: no such key"),
        (
            ["a=commit:main", "steps=10"],
            "a: steps=10: images_per_s counts after the 10 steps of the warm-up; nearest is steps=11\n",
        ),
        (["a=steps=11", "b=steps=2", "metric=step_ms_p95"], "b: steps=2: step_ms_p95 counts after the 10 steps"),
        (["a=commit:main", "steps=1", "metric=mfu"], "a: steps=1: mfu counts after"),
        (["a=commit:main", "steps=1", "metric=step_ms_p50"], "a: steps=1: step_ms_p50 counts after"),
        (["a=engine=ddp zero_stage=1"], "zero_stage=1: ZeRO is DeepSpeed's"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_starts_nothing(
    repository, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit()
    repository.git("tag", "v1")
    assert command.main(repository.words(*words)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"bench.pairs: {said}") and err.count("\n") == 1
    assert not repository.runs() and not repository.results.exists()


def test_without_a_repository_there_are_no_commits(repository, tmp_path, monkeypatch, capsys) -> None:
    # Git looks further up: a copy without .git inside another repository is not that repository.
    repository.commit()
    inner = repository.root / "inner"
    inner.mkdir()
    monkeypatch.setattr(command.checkouts, "ROOT", inner)
    assert command.main(repository.words("a=commit:HEAD")) == 2
    assert f"a=commit:HEAD: {inner} is not a git repository" in capsys.readouterr().err


def test_an_allocation_is_the_job_and_runs_of_several_nodes_go_through_srun() -> None:
    on_node = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURMD_NODENAME": "n1"}
    assert allocation(1, None, "p", {}).name == "local-p"
    one = allocation(1, None, "p", on_node)
    assert (one.name, one.nodes) == ("slurm-7", 0)
    two = allocation(2, "site", "p", on_node)
    assert (two.name, two.nodes, two.words) == ("slurm-7", 2, ("cluster=site",))
    login = allocation(1, None, "p", {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"})
    assert (login.name, login.nodes) == ("slurm-7", 1)
    with pytest.raises(ConfigError, match=r"nodes=3: this allocation \(job 7\) has 2; nearest is nodes=2"):
        allocation(3, None, "p", on_node)
    for text in ("x", "0"):
        with pytest.raises(ConfigError, match=f"^SLURM_JOB_NUM_NODES={text}: expected "):
            allocation(3, None, "p", {**on_node, "SLURM_JOB_NUM_NODES": text})
    assert allocation(1, None, "p", {"SLURM_JOB_ID": ""}).name == "local-p"
