"""The command: exit status, formats and words."""

import json
import os
import shlex
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_up import NEW, Store, recent, spread

from results import baseline
from results.check.command import main
from results.check.confirm import Confirmation
from results.check.output import SCHEMA, as_json, as_junit, as_rows, as_table, number, summary
from results.check.verdict import Finding, Verdict, exit_status, worst
from results.listing.terminal import show
from results.statistics import Interval

# Each test writes a file a run, and reads them for each command.
pytestmark = pytest.mark.slow


def finding(verdict: Verdict, **columns: Any) -> Finding:
    return Finding(**{"cell": "net", "key": "k", "verdict": verdict, "why": "why", "metric": "images_per_s", **columns})


WORST = finding(
    Verdict.REGRESSION, unit="images/s", against="accepted", candidate_median=95.0, baseline_median=100.0,
    worsening=0.05, higher_is_better=True, interval=Interval(0.95, 0.94, 0.96, 0.9583), p=0.00056, floor=0.02,
    visible=0.024,
    power="could have seen a drop of 2.4% or more with 95%", confirmation=Confirmation("worse", 8, 0.049),
    pairs_id="pairs-1", confirm_with="python -m bench.pairs results=/x", candidates=["1", "2", "3"],
    baseline=["4", "5"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([], 2),
        ([Verdict.PASS], 0),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], 3),
        ([Verdict.INCONCLUSIVE, Verdict.MISSING], 4),
        ([Verdict.MISSING, Verdict.NOT_COMPARABLE], 2),
        ([Verdict.NOT_COMPARABLE, Verdict.MISSING, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.REGRESSION], 1),
    ],
)
def test_the_exit_status_is_that_of_the_worst(verdicts: list[Verdict], status: int) -> None:
    assert exit_status([finding(verdict) for verdict in verdicts]) == status
    assert worst([]) is Verdict.NOT_COMPARABLE


def test_a_verdict_has_no_evidence_of_its_own() -> None:
    bare = Finding(cell="net", key="k", verdict=Verdict.PASS, why="")
    assert not (bare.improved or bare.higher_is_better or bare.absolute or bare.candidates or bare.baseline)


def test_json_has_all_the_evidence() -> None:
    said = json.loads(as_json([WORST, finding(Verdict.PASS, candidate_median=float("inf"))], ["left"]))
    assert (said["verdict"], said["exit_status"], said["left_out"]) == ("regression", 1, ["left"])
    one, other = said["findings"]
    assert set(one) == set(SCHEMA.names) and other["candidate_median"] == "inf"
    expected = {
        "comparability_key": "k", "worsening": 0.05, "ratio_low": 0.94, "ratio_high": 0.96, "ratio_level": 0.9583,
        "p": 0.00056, "floor": 0.02, "visible": 0.024, "pairs": 8, "pairs_median": 0.049, "pairs_outcome": "worse",
        "candidates": ["1", "2", "3"], "baseline": ["4", "5"], "candidate_median": 95.0, "baseline_median": 100.0,
    }  # fmt: skip
    assert {name: one[name] for name in expected} == expected


def test_junit_fails_for_everything_but_a_pass() -> None:
    root = ElementTree.fromstring(as_junit([WORST, *map(finding, Verdict)]))
    assert root.attrib == {"name": "results.check", "tests": "6", "failures": "2", "errors": "3"}
    kinds = [[child.tag for child in case] for case in root]
    assert kinds == [["failure"], ["failure"], ["error"], ["error"], ["error"], ["system-out"]]
    empty = ElementTree.fromstring(as_junit([]))
    assert (empty.attrib["tests"], empty.attrib["errors"]) == ("1", "1")
    odd = ElementTree.fromstring(as_junit([finding(Verdict.REGRESSION, why="a\x1b[31m <b> & \x00")]))
    assert "<b> &" in odd[0][0].attrib["message"]


def test_the_table_has_what_a_person_needs(capsys: pytest.CaptureFixture[str]) -> None:
    passing = finding(Verdict.PASS, key="other", cell="good", why="", power="could have seen 3%")
    second = finding(Verdict.PASS, key="other", cell="good", why="", metric="tta_s", power="its own")
    show(as_table([passing, second, WORST], False))
    text = " ".join(capsys.readouterr().out.split())
    assert text.index("regression") < text.index("pass")
    for words in ("95 images/s against 100", "-5.0%", "ratio 0.940-0.960 with 95.8%", "p 0.00056", "3 against 2 runs"):
        assert words in text
    assert "could have seen 3%" in text and "tta_s" in text and "its own" not in text
    show(as_table([passing, second, WORST], True))
    assert "its own" in " ".join(capsys.readouterr().out.split())
    blind = finding(
        Verdict.PASS,
        key="other",
        cell="good",
        why="",
        metric="step_ms_p50",
        blind=True,
        power="could have seen no rise",
    )
    resumed = finding(Verdict.PASS, key="other", cell="good", why="not judged: resumed", metric="epochs_to_target")
    pinned = finding(Verdict.PASS, key="other", cell="good", why="", against="pinned")
    show(as_table([passing, second, blind, pinned, resumed], False))
    text = " ".join(capsys.readouterr().out.split())
    assert "epochs_to_target" in text and "not judged: resumed" in text
    assert "could have seen no rise" in text and "images_per_s (pinned)" in text and text.count("(pinned)") == 1
    assert summary([]) == "0 cells: nothing measured; exit status 2"
    assert summary([passing, second, WORST]) == "2 cells: 1 regression, 1 pass; exit status 1"


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (1234.5, "images_per_s", "1,234"),
        (12.345, "images_per_s", "12.35"),
        (0.98765, "final_top1", "0.9877"),
        (629911552.0, "peak_mem_bytes", "629,911,552"),
    ],
)
def test_numbers_as_they_are_read(value: float, metric: str, text: str) -> None:
    assert number(value, metric) == text


def run(store: Store, *words: str) -> int:
    return main([f"results={store.root}", *words])


def test_from_the_first_runs_to_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = recent(tmp_path / "store")
    assert run(store) == 2 and "nothing measured: no runs in" in capsys.readouterr().err
    held = [store.run(rate) for rate in spread(10)]
    assert run(store) == 2 and "python -m results.baseline accept" in " ".join(capsys.readouterr().out.split())
    accepting = ["accept", f"results={store.root}", "reason=first"]
    assert baseline.main([*accepting, f"run={','.join(held)}"]) == 0
    night = [store.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    capsys.readouterr()
    assert run(store) == 3
    said = capsys.readouterr().out
    assert "inconclusive" in said
    pairs, again = (line for line in said.splitlines() if " -m " in line)  # each whole, to be copied
    where = f"results={store.root.resolve()}"
    python = os.path.relpath(sys.executable)
    python = sys.executable if python.startswith("..") else python
    assert pairs.startswith(f"{python} -m bench.pairs a=commit:aaaaaaaaaaaa b=commit:bbbbbbbbbbbb ")
    assert {"family=cifar", "depth=20", "lr=0.1", "metric=images_per_s", where} <= set(shlex.split(pairs))
    assert again == f"{python} -m results.check candidate={','.join(night)} {where}"
    assert run(store, "format=junit", f"to={tmp_path / 'night.xml'}") == 3
    assert capsys.readouterr().err.splitlines()[:2] == [pairs, again]  # in the log of a CI as well
    assert baseline.main(accepting) == 2 and "no cell of" in capsys.readouterr().err
    store.pairs([0.05] * 8)
    assert run(store) == 1
    out = capsys.readouterr().out
    assert "regression" in out and "1 cell: 1 regression; exit status 1" in out
    for form in ("json", "junit", "parquet"):
        path = tmp_path / f"verdict.{form}"
        assert run(store, f"format={form}", f"to={path}") == 1
        captured = capsys.readouterr()
        assert not captured.out and "exit status 1" in captured.err
        if form == "json":
            assert json.loads(path.read_text())["verdict"] == "regression"
        elif form == "junit":
            # Throughput, step time and time to accuracy, all of which the pairs confirm.
            assert ElementTree.fromstring(path.read_text()).attrib["failures"] == "3"
        else:
            table = pq.read_table(path)
            assert table.schema.equals(SCHEMA) and "regression" in table["verdict"].to_pylist()
    assert run(store, "format=json") == 1
    assert json.loads(capsys.readouterr().out)["exit_status"] == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["format=parquet"], "format=parquet: add to=FILE"),
        (["format=xml"], "format=xml: choose from table, json, junit, parquet"),
        (["to=x.json"], "a table goes to stdout; nearest is format=json"),
        (["format=json", "to=/proc/none/x"], "to=/proc/none/x: /proc is not a folder that can be written to"),
        (["format=json", "to=/tmp"], "to=/tmp: is a folder"),
        (["hours=1e9"], "at most 87840"),
        (["candidate=nobody"], "candidate=nobody: no such run, commit or Slurm job"),
        (["candidate=/no/such/store"], "candidate=/no/such/store: no folder of results"),
        (["baseline=nobody"], "baseline=nobody: no such run"),
        (["against=pined"], "nearest: against=pinned"),
        (["against=pinned"], "against=pinned: nothing is pinned"),
        (["hours=0"], "hours takes a number, above 0"),
        (["hours=3", "candidate=2026"], "hours=3.0: has no meaning beside candidate="),
        (["against=pinned", "baseline=2026"], "against=pinned: has no meaning beside baseline="),
        (["results=/no/such/folder"], "results=/no/such/folder: no such folder"),
        (["candidat=x"], "did you mean candidate=x"),
    ],
)
def test_words_that_cannot_be_used(
    store: Store, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    store.run()
    root = [] if words[0].startswith("results=") else [f"results={store.root}"]
    assert main([*root, *words]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1
    assert captured.err.startswith("results.check: ") and line in captured.err


def test_what_cannot_be_written_is_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = recent(tmp_path / "store")
    store.run()
    (tmp_path / "file").write_text("")
    assert run(store, "format=json", f"to={tmp_path / 'file' / 'x'}") == 2
    assert capsys.readouterr().err.startswith("results.check: to=")


def test_rows_fit_the_schema() -> None:
    assert as_rows([WORST])[0].keys() == set(SCHEMA.names)
