"""Pages of stores that have next to nothing, far too much, or what nobody should have written."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import reading

from results.identity import comparability
from results.report import command
from results.report.page.build import page_of
from results.report.page.evidence import gathered
from results.store.files import read_rows
from results.store.schema import to_table

pytestmark = pytest.mark.slow
HOSTILE = "</td></svg><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m 'quoted\" & $x^2$"


def text_of(root: Path) -> str:
    html = page_of(gathered(root, {}, ())).html
    assert "<script" not in html and "<img" not in html
    return reading.check_form(html).text


def test_an_empty_store_and_none_at_all(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        text = text_of(root)
        assert "0 runs" in text and "Nothing was judged: there are no runs." in text
        assert "No training run is here" in text and "No run has a row of its system." in text


def test_one_run(add: Any, tmp_path: Path) -> None:
    add("20261122T200000-resnet20A-digits-0000000a")
    text = text_of(tmp_path)
    assert "1 run of" in text and "no baseline: python -m results.baseline accept" in text
    assert "ResNet-20 with shortcut A digits" in text and " 1,000 " in text
    assert "Every run here completed" in text


def test_all_failed_with_hostile_words(add: Any, tmp_path: Path) -> None:
    for number in range(3):
        ended = {"failure_kind": "oom", "failure_message": HOSTILE, "null_reasons": dict.fromkeys(NULLS, "failed")}
        add(f"20261122T20000{number}-resnet20A-digits-0000000{number}", status="failed", figures=ended)
    text = text_of(tmp_path)
    assert "<script>alert(1)</script>" in text and "out of memory" not in text
    assert "3 runs failed or killed" in text and "No completed run has an accuracy." in text


NULLS = ("images_per_s", "final_top1", "epochs_to_target", "tta_s")


def test_a_run_that_another_completed_has_not_failed(add: Any, tmp_path: Path) -> None:
    first = "20261122T200000-resnet20A-digits-0000000a"
    add(first, status="killed", figures={"failure_kind": "interrupted", "failure_message": "Ctrl-C",
                                         "null_reasons": dict.fromkeys(NULLS, "killed")})  # fmt: skip
    assert "1 run failed or killed" in text_of(tmp_path)
    add("20261122T210000-resnet20A-digits-0000000b", resumed_from=f"{first}.0", lineage=f"{first}.0@9")
    assert "0 runs failed or killed" in text_of(tmp_path)


def test_no_test_images(add: Any, tmp_path: Path) -> None:
    add("20261122T200000-resnet20A-imagenet-0000000a", synthetic=True, loader="synthetic", figures={
        "images_per_s": 500.0, "null_reasons": dict.fromkeys(NULLS[1:], "synthetic images")})  # fmt: skip
    text = text_of(tmp_path)
    assert "SYNTHETIC images" in text and "ResNet-20 with shortcut A SYNTHETIC images" in text and " 500 " in text
    assert "top-1 in the end, % by net" not in text and "seconds to the target by net" not in text


def test_names_of_two_hundred_characters(add: Any, tmp_path: Path) -> None:
    long = "x" * 200
    add("20261122T200000-resnet20A-digits-0000000a", sample=long, dataset=long, hardware=long)
    assert long in text_of(tmp_path)


@pytest.mark.soak
def test_a_thousand_cells(add: Any, tmp_path: Path) -> None:
    first = "20261122T200000-resnet20A-digits-00000000"
    add(first)
    (file,) = (tmp_path / "runs").rglob("*.parquet")
    (row,) = read_rows(tmp_path, "runs")[0]
    for number in range(334):
        for place, shortcut in enumerate("ABC"):
            config = {**json.loads(row["config_json"]), "depth": 6 * number + 2, "shortcut": shortcut}
            run_id = f"20261122T200000-resnet{number}{shortcut}-digits-{4 * number + place + 1:08x}"
            one = {**row, "run_id": run_id, "depth": config["depth"], "shortcut": shortcut}
            one |= {"config_json": json.dumps(config), "config_hash": f"{4 * number + place + 1:016x}"}
            pq.write_table(to_table("runs", [{**one, **comparability(one)}]), file.with_name(f"{run_id}.0.parquet"))
    file.unlink()
    text = text_of(tmp_path)
    assert "1,002 runs" in text and "ResNet-2000 with shortcut C" in text


def test_what_cannot_be_read_is_named_and_in_no_figure(add: Any, tmp_path: Path) -> None:
    add("20261122T200000-resnet20A-digits-0000000a")
    (file,) = (tmp_path / "runs").rglob("*.parquet")
    file.with_name("20261122T210000-resnet20B-digits-0000000b.0.parquet").write_text("no Parquet")
    text = text_of(tmp_path)
    assert "Cannot be read or used, and in no figure above" in text and "0000000b.0.parquet" in text
    assert "shortcut B" not in text


def test_a_store_that_is_still_filled_says_what_is_done(add: Any, tmp_path: Path) -> None:
    add("20261122T200000-resnet20A-digits-0000000a")
    (tmp_path / "journal").mkdir(exist_ok=True)
    (tmp_path / "journal" / "20261122T200100-resnet20B-digits-0000000b.0.jsonl").write_text("")
    text = text_of(tmp_path)
    assert "1 run of this page ended; 1 run now or died without a row." in text
    assert "20261122T200100-resnet20B-digits-0000000b.0 its journal cannot be read" in text
    assert "python -m results.recover" in text


def test_bytes_of_a_path_that_are_no_text(add_in: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "rows\udcff"
    add_in(root)("20261122T200000-resnet20A-digits-0000000a")
    assert command.main([f"results={root}", f"html={tmp_path}/page.html"]) == 0
    assert "rows\\udcff" in reading.read((tmp_path / "page.html").read_text()).text
