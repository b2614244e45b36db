"""The pictures in the documentation are those of the rows that are kept, and of the model as it computes today."""

import re
from pathlib import Path

import pytest

from bench.roofline import command as roofline
from results.words import RECORD_ROOT

pytestmark = pytest.mark.slow  # pictures are drawn

PICTURES = Path(__file__).resolve().parents[3] / "docs" / "pictures"


def test_pictures_are_small_and_of_vectors_but_for_those_of_a_page():
    files = sorted(PICTURES.iterdir())
    assert all(file.stat().st_size < 100_000 for file in files)
    pixels = [file.name for file in files if file.suffix != ".svg"]
    assert pixels == ["page-kernels.png", "page-verdict.png"]  # what a browser shows, and what png= writes
    assert {file.name.partition("-")[0] for file in files} >= {"accuracy", "steps", "ladder"}


@pytest.mark.parametrize("kept", sorted(PICTURES.glob("*-20*T*.svg")), ids=lambda path: path.stem)
def test_a_picture_of_a_run_says_what_its_rows_say(drawn, words_of, tmp_path, kept):
    picture, run_id = re.fullmatch(r"(accuracy|steps)-(.+)", kept.stem).groups()
    assert words_of(drawn(RECORD_ROOT, tmp_path, picture, f"run={run_id}")) == words_of(kept)


def test_the_ladder_says_what_the_roofline_computes(run, words_of, tmp_path, capsys):
    assert roofline.main(["depth=50", "stride=v1.5", "batch=256", "--json"]) == 0
    (tmp_path / "ladder.json").write_text(capsys.readouterr().out)
    status, out, err = run(f"ladder={tmp_path / 'ladder.json'}", f"to={tmp_path}")
    assert (status, err) == (0, "")
    svg = Path(out.splitlines()[0])
    assert words_of(svg) == words_of(PICTURES / svg.name)
