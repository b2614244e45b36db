"""Commands to be copied."""

import shlex

import pytest

from results.check.output import commands
from results.check.verdict import Finding, Verdict


@pytest.mark.parametrize("root", ["/a/plain", "/with blank/and  two", "/it's", "/a=b,c;d", "/new\nline", "/ü"])
def test_commands_are_whole_words_whatever_the_store_is_called(root: str) -> None:
    words = ["-m", "bench.pairs", "a=commit:aaaa", "data=/some where", f"results={root}"]
    one = Finding(
        cell="net", key="k", verdict=Verdict.INCONCLUSIVE, why="", confirm_with=shlex.join(["python", *words]),
        candidates=["1", "2 3"],
    )  # fmt: skip
    pairs, again = commands([one], "'/my python'")
    assert shlex.split(pairs) == ["/my python", *words]
    assert shlex.split(again) == ["/my python", "-m", "results.check", "candidate=1,2 3", f"results={root}"]
