"""Throughput and MFU, from numbers worked out by hand."""

import pytest

from bench.measure.metrics import WARMUP_STEPS, Throughput, mfu, peak_flops


def trained(steps: int, step_s: float = 0.5, images: int = 64) -> Throughput:
    throughput = Throughput()
    throughput.begin(0.0)
    for step in range(steps):
        if throughput.step(images):
            throughput.warm((step + 1) * step_s)
    throughput.end(steps * step_s, waited_s=steps * step_s / 4)
    return throughput


def test_warm_up_is_left_out() -> None:
    throughput = trained(WARMUP_STEPS + 6)
    assert throughput.images == 6 * 64
    assert throughput.seconds == pytest.approx(3.0)
    assert throughput.images_per_s == pytest.approx(128.0)


def test_no_figure_for_a_run_no_longer_than_its_warm_up() -> None:
    assert trained(WARMUP_STEPS).images_per_s is None
    assert trained(3).images_per_s is None


def test_pauses_between_stretches_do_not_count() -> None:
    throughput = trained(WARMUP_STEPS + 6)
    throughput.begin(1000.0)
    for _ in range(10):
        assert not throughput.step(64)
    throughput.end(1002.0, waited_s=0.0)
    assert throughput.images == 16 * 64
    assert throughput.seconds == pytest.approx(5.0)


def test_time_is_counted_from_the_end_of_the_warm_up_whatever_the_clock_says() -> None:
    throughput = trained(4 * WARMUP_STEPS)  # counted from 5 s on, until 20 s
    assert (throughput.images, throughput.seconds) == (3 * WARMUP_STEPS * 64, 15.0)


def test_a_stretch_after_exactly_the_warm_up_counts_whole() -> None:
    throughput = trained(WARMUP_STEPS)
    throughput.begin(100.0)
    assert not throughput.step(64)
    throughput.end(101.0, waited_s=0.0)
    assert (throughput.images, throughput.seconds, throughput.images_per_s) == (64, 1.0, 64.0)


def test_data_wait_is_a_share_of_the_whole_loop() -> None:
    assert trained(20).data_wait_frac == pytest.approx(0.25)
    assert Throughput().data_wait_frac is None


def test_mfu_counts_six_flops_a_multiply_add() -> None:
    # 1000 images/s of ResNet-50 v1.5 (4.089 G multiply-adds) are 24.5 TFLOP/s.
    assert mfu(1000.0, 4_089_184_256, 989.4e12) == pytest.approx(0.024798, rel=1e-4)


@pytest.mark.parametrize(
    ("gpu", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 PCIe", "fp16", 756e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 156e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("GeForce 8800 GTX", "bf16", None),
        (None, "bf16", None),
    ],
)
def test_peak_is_known_or_none(gpu: str | None, precision: str, peak: float | None) -> None:
    assert peak_flops(gpu, precision) == peak
