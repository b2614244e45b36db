"""The nearest valid choice, however far, and the suggestion, only where a word may be a slip of it."""

import xml.etree.ElementTree as ElementTree

import pytest

from results.words import (
    NAMES_ONE,
    ConfigError,
    chosen_ids,
    like_id,
    meant_ids,
    nearest,
    parse_json,
    printable,
    root_from,
    suggestion,
)

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


IDS = ["20261122-aaaa1111", "20261122-bbbb2222", "20261123-3333aaaa", "aaaa"]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("20261122-aaaa1111", [IDS[0]]),
        ("bbbb2222", [IDS[1]]),
        ("20261122", IDS[:2]),
        ("aaaa", ["aaaa"]),  # a whole id means itself alone
        ("1122", []),  # the middle of one means nothing
        ("", []),
    ],
)
def test_an_id_is_meant_by_itself_its_start_or_its_end(word, wanted):
    assert meant_ids(word, IDS) == wanted


TWINS = ["20261122T1-a-b1dc4f02", "20261123T1-a-0000b1dc", "20261123T2-c-06f2977c", "20261123T2-d-06f2977c"]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("b1dc", "b1dc4f02"),  # the start of a short end, and not what is like it
        ("b1dd4f02", "b1dc4f02"),
        ("20261124", "20261123"),
        ("06f2977d", ""),  # whose end two have
        ("20261123T2-c-06f2977x", "20261123T2-c-06f2977c"),
        ("HEAD", ""),
        ("b1", ""),
        ("", ""),
        ("cafecaf", "cafecafe"),
    ],
)
def test_what_is_like_an_id_is_what_can_be_typed_for_it(word, wanted):
    assert like_id(word, TWINS, ["cafecafe"]) == wanted
    assert not wanted or meant_ids(wanted, [*TWINS, "cafecafe"])
    assert like_id(word, []) == ""


def test_each_word_chooses_one_run_once():
    assert chosen_ids(["3333aaaa", "20261123", "bbbb2222"], iter(IDS)) == [IDS[2], IDS[1]]
    for word, ids, said in (
        ("20261122", IDS, f"run=20261122: 2 runs have it; choose from {IDS[0]}, {IDS[1]}"),
        ("bbbb2223", IDS, f"run=bbbb2223: no such run; {NAMES_ONE}; nearest is run=bbbb2222"),
        ("zzzz", IDS, f"run=zzzz: no such run; {NAMES_ONE}"),
        ("x", [], "run=x: no such run; there are none"),
    ):
        with pytest.raises(ConfigError) as caught:
            chosen_ids([word], ids)
        assert str(caught.value) == said


def test_what_is_printed_is_one_line_that_a_terminal_does_not_obey():
    assert printable("a\x1b[31mred\x9b1m\x07 \u202eb\n c\td ü \udcff") == (
        r"a\x1b[31mred\x9b1m\x07 \u202eb c d ü \udcff"
    )


@pytest.mark.parametrize("text", ["bad \ufffe", "\uffff", "\ufdd0 \U0001ffff", "\x00 \x1b \x0b", "\ud800 ]]> <a>&\"'"])
def test_what_is_printed_is_xml_once_it_is_escaped(text):
    whole = ElementTree.Element("a", message=printable(text))
    whole.text = printable(text)
    read = ElementTree.fromstring(ElementTree.tostring(whole, encoding="unicode"))
    assert read.text == read.attrib["message"] == printable(text) and len(read.text) >= len(text)


def test_characters_that_are_some_are_printed_as_they_are():
    assert printable("\ufdcf\ufdf0\ufffd\U0001f600\U0001fffd") == "\ufdcf\ufdf0\ufffd\U0001f600\U0001fffd"


def test_json_is_read_as_deep_as_what_reads_it_goes():
    assert parse_json('{"a": [1, NaN, "' + "[" * 500 + '"]}')["a"][2] == "[" * 500
    assert parse_json("[" * 100 + "]" * 100) != []
    for text in ("[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[" * 100_000, "[" * 900 + "]" * 900):
        with pytest.raises(ValueError, match="nested too deep|Expecting value"):
            parse_json(text)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000)
