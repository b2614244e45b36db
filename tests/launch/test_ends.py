"""A small run is ended at a random moment in every way that runs end: its figures, its cause, and what is left of it.

`make test` does a few; `make soak` thirty, or as many as SOAK_MOMENTS says, drawn from SOAK_SEED.
"""

import os
import random
from pathlib import Path

import pytest
from ends import WAYS, Moment, end_one

pytestmark = pytest.mark.ranks

MOMENTS = int(os.environ.get("SOAK_MOMENTS") or 30)
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**6))


def drawn(count: int, seed: int) -> list[tuple[str, Moment]]:
    """Ways, each as often as the others, with a moment each."""
    draw = random.Random(seed)
    return [(list(WAYS)[index % len(WAYS)], Moment.drawn(draw)) for index in range(count)]


@pytest.mark.parametrize(
    ("way", "moment"),
    [
        ("close terminal", Moment(3, 0.3)),
        ("kill rank 0", Moment(2, 0.7)),
        ("stop rank 1", Moment(1, 0.1)),
        ("interrupt at terminal", Moment(None, 3.0)),
    ],
    ids=str,
)
def test_a_run_that_ends_early_leaves_true_rows_and_no_process(tmp_path: Path, way: str, moment: Moment) -> None:
    assert end_one(tmp_path / "run", way, moment) == []


@pytest.mark.soak
@pytest.mark.parametrize(("way", "moment"), drawn(MOMENTS, SEED), ids=str)
def test_so_does_one_at_any_moment(tmp_path: Path, way: str, moment: Moment) -> None:
    assert end_one(tmp_path / "run", way, moment) == [], f"SOAK_SEED={SEED}"
