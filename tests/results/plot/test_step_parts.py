"""Pictures of where a step's time goes. Every time here is made up for the test and describes no machine."""

import numpy as np
import pytest

from results.plot import step_parts
from results.plot.run_rows import RunRows

pytestmark = pytest.mark.slow  # pictures are drawn

RUN = "20000101T000000-testonly"
WARM = 2


def rows(ranks=(0,), count=103, warm=1000.0, slower=0.0):
    """Steps whose wait is 1, 2, ... 101 ms and whose rest is 200 ms, after two of a second each, in no order."""
    found = []
    for rank in ranks:
        for step in range(1, count + 1):
            wait = warm if step <= WARM else float(step - WARM)
            rest = 200.0 + slower * rank
            found.append({"rank": rank, "step": step, "t_ns": step, "step_ms": wait + rest, "data_ms": wait,
                          "compute_ms": rest, "loss": 1.0})  # fmt: skip
    return found[::-1]


def test_one_rank(training, drawn, tmp_path, said, words_of, svg_of):
    svg = drawn(training.attempt(RUN, steps=rows(), world_size=1), tmp_path, "steps")
    words = said(svg)
    for word in ("ResNet-20 (shortcut A) on cifar10-jpeg: where a training step's time goes",
                 "CPU (Test-Only CPU 1, 2 cores), 1 rank, bf16, batch 128", f"run {RUN}",
                 "51.0 wait + 200.0 rest = 251.0 ms", "median 251.0 ms (226.0 to 276.0)",
                 "median 51.0 ms (26.0 to 76.0)", "median 200.0 ms (200.0 to 200.0)",
                 "101 optimizer steps a rank are counted: those after the first 2 (warm-up)."):  # fmt: skip
        assert word in words, word
    assert words_of(svg).count("rank 0") == 4 and "restart" not in words and "GPU" not in words
    read = svg_of(svg)
    assert read.on_scale("x", read.ends("wait-0", "x")) == pytest.approx([0, 51], abs=0.1)
    assert read.on_scale("x", read.ends("rest-0", "x")) == pytest.approx([51, 251], abs=0.1)
    for name, ends in {"data_ms-boxes-0": (26, 76), "data_ms-medians-0": (51, 51), "data_ms-whiskers-0": (6, 26),
                       "data_ms-whiskers-1": (76, 96), "step_ms-boxes-0": (226, 276), "step_ms-medians-0": (251, 251),
                       "compute_ms-medians-0": (200, 200)}.items():  # fmt: skip
        assert read.on_scale("x", read.ends(name, "x")) == pytest.approx(ends, abs=0.1), name


def test_whiskers_are_the_5th_and_95th_percentile(training):
    (one,) = step_parts.read(RunRows(training.attempt(RUN, steps=rows()), RUN)).ranks
    wait = one.parts["data_ms"]
    assert (wait.p5, wait.lower, wait.median, wait.upper, wait.p95, wait.mean) == (6, 26, 51, 76, 96, 51)


def test_several_ranks_each_have_their_own_line(training, drawn, tmp_path, words_of):
    words = words_of(drawn(training.attempt(RUN, steps=rows((0, 1), slower=30.0)), tmp_path, "steps"))
    assert words.count("rank 0") == words.count("rank 1") == 4
    assert words.index("51.0 wait + 200.0 rest = 251.0 ms") < words.index("51.0 wait + 230.0 rest = 281.0 ms")


def test_each_attempt_warms_up_by_itself_and_stands_by_itself(training, drawn, tmp_path, said):
    training.attempt(RUN, 0, steps=rows(count=53), status="killed", failure_kind="preempted")
    later = [{**row, "step": row["step"] + 20} for row in rows(count=103)]
    root = training.attempt(RUN, 1, steps=later)
    words = said(drawn(root, tmp_path, "steps"))
    assert "restart 0, rank 0" in words and "restart 1, rank 0" in words
    assert "26.0 wait + 200.0 rest = 226.0 ms" in words and "51.0 wait + 200.0 rest = 251.0 ms" in words
    assert "51 to 101 optimizer steps a rank" in words


def test_of_many_ranks_those_with_the_longest_step_are_drawn(training, drawn, tmp_path, said, words_of):
    svg = drawn(training.attempt(RUN, steps=rows(range(40), count=9, slower=1.0)), tmp_path, "steps")
    drawn_ranks = [word for word in words_of(svg) if word.startswith("rank ")]
    assert drawn_ranks == [f"rank {rank}" for rank in range(28, 40)] * 4
    assert "12 of 40 ranks are drawn: those with the longest median step." in said(svg)


def test_what_a_gpu_hides_is_said(training, drawn, tmp_path, said):
    hidden = [{**row, "step_ms": 10.0, "compute_ms": 10.0 - row["data_ms"]} for row in rows()]
    svg = drawn(training.attempt(RUN, steps=hidden, system={"gpu_model": "Test-Only GPU"}), tmp_path, "steps")
    assert "On a GPU the wait is the host's" in said(svg) and "51.0 wait + -41.0 rest = 10.0 ms" in said(svg)
    assert "Test-Only GPU, 2 ranks" in said(svg) and "CPU" not in said(svg)


def test_a_warm_up_that_is_not_known_is_said(training, drawn, tmp_path, said):
    svg = drawn(training.attempt(RUN, steps=rows(), warmup_steps=None), tmp_path, "steps")
    assert "103 optimizer steps a rank are counted: all, the warm-up is unknown." in said(svg)


def test_steps_without_a_time_are_counted_and_left_out(training, drawn, tmp_path, said):
    spoilt = [{**row, "data_ms": None} if row["step"] == 50 else row for row in rows()]
    spoilt = [{**row, "step_ms": float("inf")} if row["step"] == 60 else row for row in spoilt]
    words = said(drawn(training.attempt(RUN, steps=spoilt), tmp_path, "steps"))
    assert "99 optimizer steps a rank" in words and "Left out: 2 steps without all three times." in words


def test_a_run_that_ended_in_its_warm_up(training, run, tmp_path, refused):
    root = training.attempt(RUN, steps=rows(count=2))
    assert refused(run(f"results={root}", f"to={tmp_path / 'pictures'}"), f"run={RUN}: no step after the warm-up")
    assert not (tmp_path / "pictures").exists()


def test_many_steps_make_no_larger_picture(training, drawn, tmp_path):
    few = drawn(training.attempt(RUN, steps=rows(count=10)), tmp_path, "steps").stat().st_size
    many = drawn(training.attempt(f"{RUN}2", steps=rows(count=5000)), tmp_path, "steps", f"run={RUN}2").stat().st_size
    assert many < few * 1.2


def test_the_same_rows_give_the_same_picture(training, drawn, tmp_path):
    root = training.attempt(RUN, steps=rows((0, 1)))
    one, two = (drawn(root, tmp_path / name, "steps").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(("value", "shown"), [(1234.56, "1,234.6"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"),
                                              (0.0, "0.000"), (-41.0, "-41.0")])  # fmt: skip
def test_digits_help(value, shown):
    assert step_parts.ms(value) == shown


def test_quantiles_are_numpy_s(training):
    values = np.random.default_rng(0).lognormal(size=301)
    steps = [{"rank": 0, "step": index, "step_ms": value + 1, "data_ms": value, "compute_ms": 1.0}
             for index, value in enumerate(values)]  # fmt: skip
    (one,) = step_parts.read(RunRows(training.attempt(RUN, steps=steps), RUN)).ranks
    part = one.parts["data_ms"]
    expected = np.quantile(values[WARM:], [0.05, 0.25, 0.5, 0.75, 0.95])
    assert [part.p5, part.lower, part.median, part.upper, part.p95] == pytest.approx(expected)
