"""What the microbenchmarks time: every op at the distinct layers of a network."""

from collections.abc import Iterable

from bench.micro.least_bytes import Shape
from bench.micro.op import Case
from bench.micro.ops import OPS
from bench.roofline.step import Step
from resnet.architecture import check_choice


def cases(step: Step, ops: Iterable[str] = tuple(OPS)) -> list[Case]:
    """The cases of some ops, each distinct shape once, in the order of the network.

    Raises:
        ValueError: no such op; one line with the nearest.
    """
    found: list[Case] = []
    for op in ops:
        check_choice("op", op, tuple(OPS))
        found += dict.fromkeys(OPS[op].cases(step))
    return found


def tiny(case: Case) -> Case:
    """The same form at a shape that an interpreter computes in moments."""
    shape = case.shape
    small = Shape(2, 6, 6, 16, 16 if case.conv else 0, shape.kernel, shape.stride)
    return Case(op=case.op, form=case.form, shape=small, parts=case.parts)
