"""The table of precisions says what PyTorch says, and whatever offers or takes precisions follows it."""

import dataclasses

import torch

from bench.config.keys import RunKeys
from bench.micro import plan as micro
from bench.roofline import step as roofline
from bench.step import plan as step
from kernels import operands
from kernels.aot import command
from kernels.choose import sites
from kernels.dtypes import PRECISIONS, TUNED


def test_names_and_sizes_are_those_of_pytorch() -> None:
    assert {word: precision.torch_dtype for word, precision in PRECISIONS.items()} == {
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "fp32": torch.float32,
    }
    for precision in PRECISIONS.values():
        assert str(precision.torch_dtype) == f"torch.{precision.torch_name}"
        assert precision.element_bytes == precision.torch_dtype.itemsize


def choices(keys: type) -> tuple[str, ...]:
    (field,) = (field for field in dataclasses.fields(keys) if field.name == "precision")
    return field.metadata["choices"]


def test_commands_offer_what_there_is() -> None:
    assert choices(RunKeys) == choices(roofline.Keys) == tuple(PRECISIONS)
    assert choices(step.Keys) == choices(micro.Keys) == TUNED == ("bf16", "fp16")


def test_kernels_take_all_and_are_tuned_for_16_bits() -> None:
    assert operands.DTYPES == (torch.bfloat16, torch.float16, torch.float32)
    assert sites.DTYPES == ("bfloat16", "float16", "float32") and sites.TUNED_DTYPES == ("bfloat16", "float16")
    few = command.Options(chips=("sm_90",), ops=("bn_stats",), per="first")
    assert {entry.dtype for entry in command.collect(few)} == {"bf16"}
    assert {entry.dtype for entry in command.collect(dataclasses.replace(few, per="all"))} == set(TUNED)
