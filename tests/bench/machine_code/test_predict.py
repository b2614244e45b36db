"""Times of launches: closed forms of the queueing network, and what a launch's size makes of one program's time."""

import pytest
from sass_text import printed

from bench.machine_code.predict import Rates, asynchronous_part, cycle_time, predict
from bench.machine_code.timeline import Alone, Busy
from kernels.aot.sass import parse, straight_path

RATES = Rates(copy_bytes_per_s=4e12, flops_per_s=800e12, clock_hz=2e9, processors=100)
PATH = straight_path(parse(printed("LDG.E R1, R2", "EXIT")), 1)


def test_rates_of_one_multiprocessor():
    assert RATES.cycles_per_byte == pytest.approx(2e9 / (4e12 / 100))
    assert RATES.cycles_per_flop == pytest.approx(2e9 / (800e12 / 100))


def test_one_program_waits_for_nobody():
    assert cycle_time(100.0, (30.0, 50.0), 0.0, 1) == 180.0
    assert cycle_time(100.0, (30.0, 50.0), 20.0, 1) == 160.0


@pytest.mark.parametrize("customers", [1, 2, 3, 8])
def test_two_equal_stations_share_the_programs(customers):
    """Known: n customers at two equal stations see (n + 1) / 2 of them at each."""
    assert cycle_time(0.0, (10.0, 10.0), 0.0, customers) == pytest.approx(10.0 * (customers + 1))


def test_one_station_serves_one_after_the_other():
    for customers in (1, 2, 5):
        assert cycle_time(0.0, (10.0,), 0.0, customers) == pytest.approx(10.0 * customers)


def test_many_programs_are_as_fast_as_the_busiest_station():
    assert cycle_time(1000.0, (10.0, 40.0), 0.0, 200) / 200 == pytest.approx(40.0, rel=1e-3)
    # What a program's own loop hides is no faster than memory.
    assert cycle_time(0.0, (10.0, 40.0), 40.0, 1) == 40.0


def told(programs=1000, resident=1, moved=4_000_000, cycles=1000.0, busy=None, tail=0.0, path=PATH, loop=0.0):
    alone = Alone(cycles, loop, busy or Busy(issue=400.0, shared=300.0))
    return predict(alone, tail, path, moved=moved, programs=programs, resident=resident, rates=RATES)


def test_a_launch_is_all_its_programs():
    """Ten on each multiprocessor, one at a time, 4,000 bytes each at 0.05 cycles a byte."""
    found = told()
    assert found.total_s * 2e9 == pytest.approx(10 * (1000 + 200))
    assert found.memory_s * 2e9 == pytest.approx(10 * 200) == pytest.approx(4_000_000 / 4e12 * 2e9)
    assert (found.issue_s * 2e9, found.shared_s * 2e9) == (pytest.approx(4000), pytest.approx(3000))
    assert (found.special_s, found.matrix_s, found.latency_s * 2e9) == (0.0, 0.0, pytest.approx(1000))
    assert found.bound == "latency"


def test_resident_programs_hide_what_each_waits_for():
    times = [told(resident=count).total_s for count in (1, 2, 4, 8)]
    assert times == sorted(times, reverse=True) and times[-1] * 2e9 == pytest.approx(4000, rel=0.15)
    assert told(resident=8).bound == "issue" and told(resident=8, moved=20_000_000).bound == "memory"
    assert told(resident=8, busy=Busy(shared=900.0)).bound == "shared"


def test_a_launch_of_few_programs_is_one_of_them():
    assert told(programs=50, resident=4, moved=0).total_s * 2e9 == pytest.approx(1000)
    assert told(programs=100, resident=4, moved=0).total_s == told(programs=50, resident=4, moved=0).total_s
    assert told(programs=150, resident=4, moved=0).total_s > told(programs=100, resident=4, moved=0).total_s


def test_what_the_last_program_does_comes_behind():
    assert (told(tail=500.0).total_s - told().total_s) * 2e9 == pytest.approx(500)


def test_a_loop_hides_what_it_copies_ahead():
    loop = (".L_x_1:", "LDGSTS.E.128 [R1], [R2]", "@P0 BRA `(.L_x_1)")
    copying = straight_path(parse(printed(*loop, "STG.E.128 R1, R2", "STG.E.128 R1, R2", "EXIT")), 6)
    assert asynchronous_part(copying) == pytest.approx(6 / 8 * 5 / 6)
    assert asynchronous_part(PATH) == 0.0
    hidden = told(path=copying, loop=400.0)
    assert (told().total_s - hidden.total_s) * 2e9 == pytest.approx(10 * 200 * 5 / 8)
    short = told(path=copying, loop=30.0)  # no more than the loop lasts
    assert (told().total_s - short.total_s) * 2e9 == pytest.approx(10 * 30)
