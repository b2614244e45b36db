"""Commands to be copied."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from judging import accept
from made_up import NEW, recent, spread

import results
from results.check.command import main
from results.check.output import as_arrow, as_junit, as_rows, as_table, commands
from results.check.verdict import Finding, Verdict

ROOT = Path(results.__file__).parents[1]


@pytest.mark.parametrize("root", ["/a/plain", "/with blank/and  two", "/it's", "/a=b,c;d", "/new\nline", "/ü"])
def test_commands_are_whole_words_whatever_the_store_is_called(root: str) -> None:
    words = ["-m", "bench.pairs", "a=commit:aaaa", "data=/some where", f"results={root}"]
    one = Finding(
        cell="net", key="k", verdict=Verdict.INCONCLUSIVE, why="", confirm_with=shlex.join(["python", *words]),
        candidates=["1", "2 3"],
    )  # fmt: skip
    pairs, again = commands([one, one], "'/my python'")
    assert shlex.split(pairs) == ["/my python", *words]
    assert shlex.split(again) == ["/my python", "-m", "results.check", "candidate=1,2 3", f"results={root}"]


def test_each_commit_that_is_suspected_against_has_its_pairs_and_the_check_comes_after_all() -> None:
    def finding(key: str, a: str, metric: str, **columns: str) -> Finding:
        words = f"python -m bench.pairs a=commit:{a} b=commit:n lr=1 metric={metric} results=/r"
        facts = {"cell": key, "key": key, "verdict": Verdict.INCONCLUSIVE, "why": "", **columns}
        return Finding(**{"confirm_with": words, "candidates": [f"run of {key}"], **facts})  # type: ignore[arg-type]

    found = [
        finding("k", "new", "images_per_s"), finding("k", "new", "tta_s"),
        finding("k", "old", "tta_s", against="pinned"), finding("k", "new", "p50", kernel="bn"),
        finding("other", "old", "tta_s"), finding("none", "x", "y", confirm_with=""),
    ]  # fmt: skip
    assert commands(found, "py") == [
        "py -m bench.pairs a=commit:new b=commit:n lr=1 metric=images_per_s results=/r",
        "py -m bench.pairs a=commit:old b=commit:n lr=1 metric=tta_s results=/r",
        "py -m results.check 'candidate=run of k' results=/r",
        "py -m bench.pairs a=commit:new b=commit:n lr=1 metric=p50 results=/r",
        "py -m results.check 'candidate=run of k' results=/r",
        "py -m bench.pairs a=commit:old b=commit:n lr=1 metric=tta_s results=/r",
        "py -m results.check 'candidate=run of other' results=/r",
    ]


@pytest.mark.parametrize("name", [b"odd\xff dir", b"it's \\ \xff\xfe"])
def test_a_command_with_other_bytes_than_text_can_be_copied_into_bash(name: bytes) -> None:
    words = ["-m", "bench.pairs", f"results={os.fsdecode(name)}"]
    one = made("a", "accepted", confirm_with=shlex.join(["python", *words]))
    line = commands([one], "printf")[0].replace("printf", "printf '%s\\n'")
    assert subprocess.run(["bash", "-c", line.encode()], capture_output=True).stdout.splitlines() == [
        b"-m", b"bench.pairs", b"results=" + name
    ]  # fmt: skip
    assert as_arrow([one])["confirm_with"].to_pylist() == [one.confirm_with.encode(errors="backslashreplace").decode()]


def test_a_table_shows_what_a_row_holds_and_does_not_obey_it() -> None:
    (row,) = table([made("a", "accepted", cell="net[/x]", why="\x1b[31m [b]two\nlines[/b]")])
    assert row[1] == "net[/x]" and row[3] == r"\x1b[31m [b]two lines[/b]"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            PermissionError(13, "Permission denied", "/x/journal"),
            "results.check: [Errno 13] Permission denied: '/x/journal'\n",
        ),
        (RuntimeError("ours"), "Traceback"),
    ],
)
def test_what_fails_before_a_verdict_is_no_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception, said: str
) -> None:
    def fails(*_: object) -> None:
        raise fault

    for name in ("judge", "gather"):
        monkeypatch.setattr(f"results.check.command.{name}", fails)
        assert main([f"results={tmp_path}"]) == 2
        assert capsys.readouterr().err.startswith(said)


@pytest.mark.slow
def test_a_verdict_does_not_need_the_folder_in_which_it_is_asked_for(tmp_path: Path) -> None:
    store = recent(tmp_path / "store")
    accept(store, [store.run(rate) for rate in spread(10)])
    for rate in spread(3):
        store.run(rate, git_commit=NEW)
    (tmp_path / "gone").mkdir()
    line = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && {sys.executable} -m results.check results={store.root}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0 and "1 cell: 1 pass" in done.stdout, done.stderr


def table(findings: list[Finding], details: bool = False) -> list[list[str]]:
    """The cells of a table, row by row."""
    return [
        [str(cell) for cell in row]
        for row in zip(*(one.cells for one in as_table(findings, details).columns), strict=True)
    ]


def made(metric: str, against: str, verdict: Verdict = Verdict.INCONCLUSIVE, **columns: object) -> Finding:
    facts = {"cell": "net", "key": "k", "why": "w", "candidates": ["1"], "baseline": ["2"], **columns}
    return Finding(metric=metric, against=against, verdict=verdict, **facts)  # type: ignore[arg-type]


def test_what_is_accepted_and_pinned_alike_is_said_once() -> None:
    both = [made("a", against, p=0.1) for against in ("accepted", "pinned")]
    assert [row[2] for row in table(both)] == ["a\nagainst accepted and pinned"]
    other = [both[0], made("a", "pinned", p=0.1, baseline=["3"])]
    assert [row[2] for row in table(other)] == ["a", "a\nagainst pinned"]
    passing = [made(name, one, Verdict.PASS, why="", p=0.1) for one in ("accepted", "pinned") for name in ("a", "b")]
    assert [row[2] for row in table(passing)] == ["a\nagainst accepted and pinned", "b (accepted and pinned)"]
    assert len(as_rows(both)) == 2 and as_junit(both).count("<testcase") == 2


def test_one_reason_of_all_metrics_is_said_once() -> None:
    few = [made(name, "accepted", why="1 run", candidate_median=1.0) for name in "abc"]
    assert table(few) == [["inconclusive", "net", "a, b, c", "1 run"]]
    assert [row[2] for row in table(few, True)] == ["a", "b", "c"]
    twice = [*few, *(made(name, "pinned", why="1 run", candidate_median=1.0) for name in "abc")]
    assert [row[2] for row in table(twice)] == ["a, b, c\nagainst accepted and pinned"]
    tested = [made(name, "accepted", p=0.01) for name in "ab"]
    assert [row[2] for row in table(tested)] == ["a", "b"]
    assert [row[2] for row in table([*few[:2], made("c", "accepted", why="2 runs")])] == ["a, b", "c"]


def test_the_most_serious_comes_first_within_a_cell_too() -> None:
    order = [Verdict.INCONCLUSIVE, Verdict.REGRESSION, Verdict.PASS, Verdict.NOT_COMPARABLE]
    cells = [made(str(one), "accepted", one, key=key, p=0.1) for key in ("k", "l") for one in order]
    said = ["regression", "not comparable", "inconclusive", "pass"]
    assert [row[0] for row in table(cells)] == said * 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "json"])
def test_a_full_disk_behind_stdout_is_named_as_that(tmp_path: Path, form: str) -> None:
    store = recent(tmp_path / "store")
    accept(store, [store.run(rate) for rate in spread(10)])
    for rate in spread(3):
        store.run(rate, git_commit=NEW)
    words = [sys.executable, "-m", "results.check", f"results={store.root}", f"format={form}"]
    assert main([*words[3:], f"to={tmp_path / 'passes'}"] if form != "table" else words[3:]) == 0
    with open("/dev/full", "w") as full:
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(
            words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered
        )
    assert done.returncode == 2
    said = "results.check: [Errno 28] No space left on device: 'stdout'; it went on to its end, only what was printed "
    assert done.stderr.splitlines()[-1] == f"{said}is lost"
