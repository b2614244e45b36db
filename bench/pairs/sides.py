"""The two sides of a comparison, as they are typed: a checkout, words of a run, or both."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bench.config import grammar
from bench.config.grammar import WordError
from bench.config.keys import RunKeys

SIDES = ("a", "b")
COMMIT = "commit:"
# What belongs to the command as a whole, and what two runs would write or read over one another.
SHARED = ("seed", "results", "nodes", "ranks_per_node")
REFUSED = {
    "save": "pairs keep no weights, and each run would write over the last; leave save out",
    "resume": "the runs of a pair begin from scratch; leave resume out",
}


@dataclass(frozen=True)
class Side:
    """What one side of every pair runs.

    Attributes:
        name: a or b.
        revision: what names the commit, as git takes it; None for this checkout as it is.
        words: of the run, those of both sides included, without seed= and results=.
    """

    name: str
    revision: str | None
    words: tuple[str, ...]


def read_side(name: str, text: str, common: Sequence[str]) -> tuple[Side, RunKeys]:
    """Read a side and check its words.

    Args:
        name: a or b.
        text: blank-separated words, `commit:REVISION` or `key=value`, quoted as a shell does.
        common: words of both sides.

    Raises:
        WordError: one line that names the word and what would do instead.
    """
    try:
        given = shlex.split(text)
    except ValueError as error:
        raise WordError(f"{name}={text}: {str(error).lower()}; quotes come in pairs") from None
    revisions = [word.removeprefix(COMMIT) for word in given if word.startswith(COMMIT)]
    own = [word for word in given if not word.startswith(COMMIT)]
    if len(revisions) > 1:
        raise WordError(f"{name}={text}: two commits; a side is run from one")
    if revisions == [""]:
        raise WordError(f"{name}={text}: which commit? {COMMIT}HEAD~1, a branch, a tag or a hash")
    for word in own:
        key = word.partition("=")[0]
        if key in ("commit", "checkout", "revision"):
            raise WordError(f"{name}={text}: a commit is written {COMMIT}{word.partition('=')[2] or 'HEAD~1'}")
        if "=" not in word:
            revision = word.rpartition(":")[2]
            raise WordError(f"{name}={text}: {word} is no word of a run; a commit is written {COMMIT}{revision}")
        if key in SHARED:
            raise WordError(f"{name}={text}: {key} is that of both sides; give {word} beside a= and b=")
        if key in {word.partition("=")[0] for word in common}:
            raise WordError(f"{name}={text}: {key} is given for both sides too; give it in a= and in b= instead")
    try:
        cells = grammar.parse([*common, *own], RunKeys)
    except WordError as error:
        raise WordError(f"{name}: {error}" if own else str(error)) from None
    if len(cells) > 1:
        swept = next(word for word, values in grammar.values([*common, *own], RunKeys).items() if len(values) > 1)
        raise WordError(f"{swept}: a side is one configuration, and these are {len(cells)}; one value a key")
    for key, why in REFUSED.items():
        if getattr(cells[0], key) is not None:
            raise WordError(f"{grammar.word(key, getattr(cells[0], key))}: {why}")
    return Side(name, revisions[0] if revisions else None, (*common, *own)), cells[0]
