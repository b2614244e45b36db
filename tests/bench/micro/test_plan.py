"""Which nets, kernels and backends the words of the command line mean."""

from pathlib import Path

from bench.micro import measure
from bench.micro.ops import OPS
from bench.micro.plan import plan
from bench.step.plan import plan as plan_step


def test_words_are_grouped_by_net_and_precision() -> None:
    plans = plan(["op=conv1x1,bn_stats", "backend=eager,triton", "precision=bf16,fp16", "depth=50"])
    assert [one.keys.precision for one in plans] == ["bf16", "fp16"]
    assert plans[0].ops == ("bn_stats", "conv1x1") and plans[0].backends == ("triton", "eager")
    assert plans[0].step.architecture.stride == "v1.5" and plans[0].step.batch == 256
    (whole,) = plan(["depth=20"])
    assert whole.ops == tuple(OPS) and whole.backends == measure.BACKENDS
    assert whole.step.architecture.stride == "v1" and whole.step.batch == 128


def test_a_folder_at_home_is_where_rows_go(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (one,) = plan(["op=bn_stats", "results=~/rows"])
    assert one.keys.results == str(tmp_path / "rows")
    (variant,) = plan_step(["depth=20", "results=~/rows"])
    assert variant.keys.results == str(tmp_path / "rows")
