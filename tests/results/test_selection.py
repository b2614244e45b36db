"""Which runs a word means."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "check"))
from made_up import NEW, OLD, Store  # noqa: E402

from results.selection import SELECTS, select  # noqa: E402
from results.words import ConfigError  # noqa: E402


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def seventeen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of so many runs that two have ids that end with 1; nothing writes to it."""
    store = Store(tmp_path_factory.mktemp("seventeen"))
    for _ in range(0x11):
        store.run()
    return store.root


def test_what_a_word_may_be(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [store.run(), store.run(git_commit=NEW), store.run(git_commit=NEW, slurm_job_id="77", array_task=1)]
    other = Store(tmp_path / "other")
    elsewhere = other.run()
    for words, expected, whole in (
        ([ids[0]], ids[:1], False),
        ([ids[0][-8:]], ids[:1], False),
        (["20261101"], ids, False),
        ([NEW[:7]], ids[1:], True),
        ([OLD], ids[:1], True),
        (["77"], ids[2:], False),
        ([ids[0], "77"], [ids[0], ids[2]], False),
        ([NEW[:9], "77"], ids[1:], False),
        ([str(other.root)], [elsewhere], True),
    ):
        (found,) = select("candidate", words, store.root)
        assert (found.run_ids, found.whole) == (sorted(expected), whole), words
    monkeypatch.chdir(tmp_path)
    assert select("candidate", ["other"], store.root)[0].root == Path("other")
    both = select("candidate", [ids[0], str(other.root)], store.root)
    assert [one.run_ids for one in both] == [ids[:1], [elsewhere]]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("nobody", "candidate=nobody: no such run, commit or Slurm job in"),
        ("", "candidate=: no such run"),
        ("/no/such", "candidate=/no/such: no folder of results"),
        ("abcdef1", "no such run"),
        ("00000003x", "; nearest is candidate=00000003"),
        ("0000000", "; nearest is candidate=0000000f"),
        ("77x", f"in {{store}}; say {SELECTS}"),
        ("HEAD", "a commit is its hash here, 7 digits or more; nearest is candidate=$(git rev-parse HEAD)"),
        ("HEAD~1", "nearest is candidate=$(git rev-parse HEAD~1)"),
        ("commit:main", "nearest is candidate=$(git rev-parse main)"),
        ("commit:" + OLD, f"nearest is candidate={OLD}"),
        ("HEADER", "no such run"),
        ("1", "2 runs end so"),
    ],
)
def test_what_means_no_run(seventeen: Path, word: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        select("candidate", [word], seventeen)
    assert line.format(store=seventeen) in str(error.value) and "\n" not in str(error.value)
    assert "; nearest" in line or "nearest" not in str(error.value) or "git rev-parse" in line or OLD in line


def test_the_sides_of_a_comparison_have_no_key(seventeen: Path) -> None:
    with pytest.raises(ConfigError, match=r"^A=HEAD: .*; nearest is \$\(git rev-parse HEAD\)$"):
        select("A", ["HEAD"], seventeen)


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has none"):
        select("candidate", ["x"], tmp_path)


@pytest.mark.parametrize("end", ["", "/b"])
def test_a_word_that_no_file_can_be_called_is_one_line(seventeen: Path, end: str) -> None:
    word = "a" * 5000 + end
    with pytest.raises(ConfigError) as caught:
        select("candidate", [word], seventeen)
    assert str(caught.value) == f"candidate={word[:80]}: File name too long"
