import numpy as np
import pytest

from resnet.data.loaders.sampler import Sampler, training_order


def rows_of(sampler, epoch):
    order = sampler.order(epoch)
    return [sampler.rows(order, index) for index in range(sampler.batches_per_epoch)]


def sampler(**changes):
    return Sampler(**{"n": 103, "train": True, "batch": 5, "rank": 0, "world_size": 1, "seed": 7, **changes})


def test_training_order_is_the_documented_permutation():
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([7, 3]))).permutation(103)
    assert (training_order(103, 7, 3) == expected).all()
    assert (training_order(103, 7, 4) != expected).any()
    assert (training_order(103, 8, 3) != expected).any()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("grad_accum", [1, 2])
def test_training_sees_each_image_at_most_once_and_drops_only_the_remainder(world_size, grad_accum):
    ranks = [sampler(world_size=world_size, rank=r, grad_accum=grad_accum) for r in range(world_size)]
    seen = np.concatenate([rows.indices for rank in ranks for rows in rows_of(rank, 2)])
    global_batch = 5 * world_size * grad_accum
    assert len(seen) == len(set(seen.tolist())) == 103 // global_batch * global_batch
    assert {rank.images_per_epoch for rank in ranks} == {len(seen)}
    assert {rank.steps_per_epoch for rank in ranks} == {103 // global_batch}
    assert all(rows.valid is None for rank in ranks for rows in rows_of(rank, 2))


def test_step_micro_batch_and_rank_take_the_documented_slice():
    n, w, a, epoch = 5, 3, 2, 4
    order = training_order(103, 7, epoch)
    for rank in range(w):
        mine = rows_of(sampler(world_size=w, grad_accum=a, rank=rank), epoch)
        for step in range(103 // (n * w * a)):
            for micro in range(a):
                first = step * n * w * a + micro * n * w + rank * n
                rows = mine[step * a + micro]
                assert (rows.indices == order[first : first + n]).all()
                assert (rows.positions == np.arange(first, first + n)).all()


def test_one_rank_with_twice_the_batch_sees_the_same_global_batches():
    whole = rows_of(sampler(batch=10), 1)
    halves = [rows_of(sampler(batch=5, world_size=2, rank=r), 1) for r in range(2)]
    for i, rows in enumerate(whole):
        assert (rows.indices == np.concatenate([half[i].indices for half in halves])).all()


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 9, 30, 31])
def test_evaluation_sees_each_image_exactly_once(world_size, n):
    ranks = [sampler(n=n, train=False, world_size=world_size, rank=r) for r in range(world_size)]
    batches = [rows_of(rank, 0) for rank in ranks]
    assert len({len(batch) for batch in batches}) == 1
    seen = []
    for rank, rows in enumerate(batches):
        for index, row in enumerate(rows):
            assert len(row.indices) == 5 and row.indices.min() >= 0 and row.indices.max() < n
            counted = row.indices if row.valid is None else row.indices[row.valid]
            assert all(i // 5 % world_size == rank and i // 5 // world_size == index for i in counted)
            seen += counted.tolist()
    assert sorted(seen) == list(range(n))
    assert ranks[0].images_per_epoch == n


def test_steps_cap_the_epoch():
    capped = sampler(steps=3, grad_accum=2)
    assert (capped.steps_per_epoch, capped.batches_per_epoch, capped.images_per_epoch) == (3, 6, 30)
    assert sampler(steps=1000).steps_per_epoch == 103 // 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, "batch=0"),
        ({"rank": 2, "world_size": 2}, "rank=2"),
        ({"batch": 104}, "batch=104: .*expected batch=103 or less"),
        ({"train": False, "grad_accum": 2}, "grad_accum=2"),
        ({"steps": 0}, "steps_per_epoch=0"),
    ],
)
def test_impossible_sizes_are_named(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        sampler(**changes)
    assert "expected" in str(caught.value) and "\n" not in str(caught.value)
