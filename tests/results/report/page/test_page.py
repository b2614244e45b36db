"""The page as a whole: one file that asks for nothing, reads well, and says what happened."""

import re
from pathlib import Path

import made_up_year
import pytest
import reading
from matplotlib.figure import Figure

from results.report import command
from results.report.page import build
from results.report.page.blocks import Commands, Picture, Table, Words
from results.report.page.build import Page, page_of
from results.report.page.evidence import Evidence, gathered
from results.words import RECORD_ROOT

pytestmark = pytest.mark.slow


def section(page: Page, slug: str):  # type: ignore[no-untyped-def]
    return next(one for one in page.sections if one.slug == slug)


def words_of(page: Page, slug: str) -> str:
    return " ".join(block.text for block in section(page, slug).blocks if isinstance(block, Words))


def tables_of(page: Page, slug: str) -> list[Table]:
    return [block for block in section(page, slug).blocks if isinstance(block, Table)]


def commands_of(page: Page, slug: str) -> list[str]:
    return [line for block in section(page, slug).blocks if isinstance(block, Commands) for line in block.lines]


def test_a_page_of_the_record_is_whole(tmp_path: Path) -> None:
    page = page_of(gathered(RECORD_ROOT, {}, ()))
    read = reading.check_form(page.html)
    assert len(page.html) < 5_000_000
    for one in page.sections:
        assert f"#{one.slug}" in read.targets and one.slug in read.ids and one.title in read.text
    assert len(read.labels) == len(page.pictures) > 10
    assert {"thead", "tbody"} <= set(read.tags)


def test_the_verdict_comes_first_and_says_which_by_how_much_and_how_sure(page: Page) -> None:
    assert page.sections[0].slug == "verdict"
    lead = next(block for block in section(page, "verdict").blocks if isinstance(block, Words))
    assert lead.kind == "lead"
    assert re.match(
        r"Suspected, not confirmed: resnet56B .*, images/s -[678]\.\d%, seen since 2026-01-06 "
        r"\(9\d(\.\d)?% interval -\d",
        lead.text,
    )
    assert "exact one-sided p 0." in lead.text and "against 15 runs" in lead.text
    leads = [
        block.text for block in section(page, "verdict").blocks if isinstance(block, Words) and block.kind == "lead"
    ]
    assert leads[1].startswith("Failed: resnet110C") and "out of memory" in leads[1]
    assert leads[2].startswith("Not measured: resnet44A") and len(leads) == 3
    assert section(page, "verdict").status == "1 suspected, 1 failed, 1 missing"
    (fill,) = [line for line in commands_of(page, "verdict") if "depth=44" in line]
    assert "shortcut=A" in fill and "seed=1,2,3 data=PATH" in fill
    (pairs,) = [line for line in commands_of(page, "verdict") if "bench.pairs" in line]
    assert "depth=56 " in pairs and "shortcut=B" in pairs and "a=commit:00000001" in pairs
    bad, without, passing = tables_of(page, "verdict")
    by_cell = {row[1].split()[0]: row for row in without.rows}
    assert by_cell["resnet110C"][0] == "not comparable" and "out of memory" in by_cell["resnet110C"][2]
    assert by_cell["resnet44A"][0] == "missing"
    assert [row for row in without.rows if row[1].startswith("resnet110C")] == [by_cell["resnet110C"]]  # said once
    assert all(row[1].startswith("resnet56B") and row[2] != "-" for row in bad.rows)
    assert len(passing.rows) == 13 and all(" of " in row[2] for row in passing.rows)


def test_what_is_missing_and_what_failed_is_named_with_commands(page: Page) -> None:
    (failed,) = tables_of(page, "missing")
    assert len(failed.rows) == 9 and all(row[3] == "oom" for row in failed.rows)
    assert "resnet44A" in words_of(page, "missing")
    (again,) = [line for line in commands_of(page, "missing") if "depth=44" in line]
    assert again.startswith("python launch/local.py ") and "shortcut=A" in again and "recipe=paper" in again


def test_what_changed_in_the_system_is_said_once(page: Page) -> None:
    changes, systems = tables_of(page, "systems")
    assert [row[2] for row in changes.rows] == ["torch from 2.13.0 to 2.13.1"]
    assert changes.rows[0][0].startswith(f"{made_up_year.FIRST.year}-01-{1 + made_up_year.NIGHTS // 2:02d}")
    assert [row[4].partition(";")[0] for row in systems.rows] == ["torch 2.13.1", "torch 2.13.0"]
    assert {row[3] for row in systems.rows} == {"node07"}


def test_a_filter_leaves_out_what_it_does_not_mean(year: Path) -> None:
    found = gathered(year, {"depth": [20, 32]}, ())
    assert {run.row["depth"] for run in found.runs} == {20, 32} and found.filtered == "depth=20,32"
    text = reading.read(page_of(found).html).text
    assert "those with depth=20,32" in text and "resnet56B" not in text and "resnet44A" not in text


def test_every_picture_carries_its_runs_and_every_run_its_whole_id(page: Page, evidence: Evidence) -> None:
    (cited,) = tables_of(page, "runs")
    whole = {row[1] for row in cited.rows}
    for picture in page.pictures:
        assert picture.runs and set(picture.runs) <= set(evidence.by_id)
    newest = {run for picture in page.pictures for run in picture.runs}
    assert whole <= newest and len(whole) == min(len(newest), 400)


def test_text_alternatives_are_no_html(evidence: Evidence) -> None:
    picture = Picture(stem="one", title="t", alt='a" onload="x"><script>', figure=Figure())
    svg = str(build._rendered(picture, "one", evidence)["svg"])
    assert 'aria-label="a&quot; onload=&quot;x&quot;&gt;&lt;script&gt;"' in svg and "<script" not in svg


def test_pictures_are_written_beside_the_page(year: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"results={year}", f"html={tmp_path}/a/page.html", f"png={tmp_path}/pictures", "depth=20", "seed=1"]
    assert command.main(words) == 0
    reading.check_form((tmp_path / "a" / "page.html").read_text())
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len(files) >= 5 and all((tmp_path / "pictures" / name).read_bytes()[:4] == b"\x89PNG" for name in files)
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/a/page.html", f"{tmp_path}/pictures"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["png=x"], "png=x: is of a page; add html=FILE"),
        (["html=x.html", "sort=depth"], "sort=depth: a page has no sort; leave sort out, or html"),
        (["html=x.html", "limit=3"], "limit=3: a page has no limit"),
        (["html=/"], "html=/: is a folder; name a file in it"),
        (["html=/proc/x/page.html"], "html=/proc/x/page.html: "),
        (["html=x.html", "run=nosuchrun"], "run=nosuchrun: no such run"),
        (["html=x.html", "dept=20"], "dept=20: no such key; did you mean depth=20?"),
    ],
)
def test_bad_words_are_one_line(
    year: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert command.main([f"results={year}", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"results.report: {said}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_accepted_nights_are_the_first_ones(evidence: Evidence) -> None:
    """The fixtures hold what the tests above say of them."""
    night = [run for run in evidence.runs if run.run_id.startswith(f"202601{made_up_year.NIGHTS:02d}")]
    assert len(night) == 42 and sum(run.completed for run in night) == 39
    assert made_up_year.ACCEPTED < made_up_year.NIGHTS - made_up_year.LAST + 1
