"""The nearest valid choice, however far, and the suggestion, only where a word may be a slip of it."""

import pytest

from results.words import nearest, root_from, suggestion

KEYS = ["depth", "mfu", "dataset", "stale_s", "Hostname"]


def test_nearest_ignores_case_and_takes_the_closest_letter_where_nothing_is_alike():
    assert nearest("VGG16", ["alexnet", "vgg16", "vgg19"]) == "vgg16"
    assert nearest("z", ["a", "m", "q"]) == "q"
    assert nearest("hostname", KEYS) == "Hostname"
    assert nearest("x", []) == ""


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("dept", "depth"), ("DEPTH", "depth"), ("hostnam", "Hostname"), ("foo", ""), ("s", ""), ("", "")],
)
def test_a_suggestion_is_a_likely_slip_or_nothing(word, wanted):
    assert suggestion(word, KEYS) == wanted
    assert suggestion(word, []) == ""


def test_a_root_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows").mkdir()
    assert root_from({"results": ["~/rows"]}) == tmp_path / "rows"
    assert root_from({}, default=tmp_path) == tmp_path
    for text in (f"{tmp_path}/none", "~nobody.here/x", "x" * 300):
        with pytest.raises(ValueError, match=f"^results={text}: "):
            root_from({"results": [text]})
