"""The precisions of activations: word, name in PyTorch, size. Loads neither torch nor Triton."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Precision:
    """What a precision's word stands for.

    Attributes:
        torch_name: of its dtype, as in `torch.bfloat16`.
        element_bytes: of one value in memory.
    """

    torch_name: str
    element_bytes: int

    @property
    def torch_dtype(self) -> "torch.dtype":
        import torch

        dtype = getattr(torch, self.torch_name)
        assert isinstance(dtype, torch.dtype)
        return dtype


# By the word that command lines and rows have.
PRECISIONS = {"bf16": Precision("bfloat16", 2), "fp16": Precision("float16", 2), "fp32": Precision("float32", 4)}
# What kernels are tuned for, and benchmarked in. They also take fp32, for tests: untuned, never as TF32.
TUNED = ("bf16", "fp16")
