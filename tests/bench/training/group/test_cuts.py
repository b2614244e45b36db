"""What lost connections come to: which nodes cannot reach each other, and which are gone."""

import pytest

from bench.config.environment import RankEnvironment
from bench.training.group.cuts import Cut, failure_of

CASES = {
    "two others": (
        4, 1, [(1, 2)], {0, 1, 2, 3}, "network", "rank 1 (n2) and rank 2 (n3) cannot reach one another: no sign",
    ),
    "said by both ends": (4, 1, [(2, 1), (1, 2)], {0, 1, 2, 3}, "network", "rank 1 (n2) and rank 2 (n3) cannot"),
    "from rank 0, which hears nothing": (4, 1, [(0, 3)], {0, 1, 2}, "network", "rank 0 (n1) and rank 3 (n4) cannot"),
    "of several ranks": (4, 8, [(1, 3)], {0, 1, 2, 3}, "network", "ranks 8-15 (n2) and ranks 24-31 (n4) cannot"),
    "from all, and heard by none": (
        4, 1, [(0, 2), (1, 2), (2, 3)], {0, 1, 3}, "rank_lost", "rank 2 (n3) can be reached from no other node: no",
    ),
    "from all, and heard": (3, 1, [(0, 2), (1, 2)], {0, 1, 2}, "network", "rank 0 (n1) and rank 2 (n3) cannot"),
    "one of two": (2, 1, [(0, 1)], {0}, "rank_lost", "rank 0 (n1) and rank 1 (n2) cannot reach one another: no sign"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_cut_is_told_from_a_node_that_is_gone(name: str) -> None:
    nodes, local, pairs, heard, kind, said = CASES[name]
    hosts = tuple(f"n{number}" for number in range(1, nodes + 1))
    place = RankEnvironment(rank=0, world_size=nodes * local, local_rank=0, local_world_size=local, hosts=hosts)
    failure = failure_of({Cut.from_text(Cut(*pair).to_text()) for pair in pairs}, heard, place)
    assert (failure.kind, failure.status) == (kind, "failed")
    assert failure.message.startswith(said), failure.message
    assert ("either a node is down, or the network" in failure.message) == (kind == "rank_lost")


def test_many_cuts_are_one_line_of_readable_length() -> None:
    hosts = tuple(f"node{index:03}" for index in range(128))
    place = RankEnvironment(rank=0, world_size=1024, local_rank=0, local_world_size=8, hosts=hosts)
    cuts = {Cut(one, other) for one in range(64) for other in range(64, 128)}
    message = failure_of(cuts, range(128), place).message
    assert "; and 4092 more: no sign of life" in message and len(message) < 500
