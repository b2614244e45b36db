"""What there is to say of an op of the microbenchmarks, and of one case of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from bench.micro.least_bytes import Part, Shape, Work
from bench.micro.operands import Draw, Tensors
from bench.roofline.step import Step
from kernels.operands import TileConfig

Run = Callable[[Tensors], Tensors]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time.

    Attributes:
        op: a key of `bench.micro.ops.OPS`.
        form: which of the op's forms; its module knows the words.
        shape: what it is timed on; a pointwise op's stride is that of option A's shortcut.
        parts: calls of kernels that make up the least work.
    """

    op: str
    form: str
    shape: Shape
    parts: tuple[Part, ...]

    @property
    def conv(self) -> bool:
        return self.shape.c_out > 0

    @property
    def name(self) -> str:
        """Form and shape in words, such as "plain 256x64x56x56 -> 256, 1x1/1"."""
        shape = self.shape
        image = "x".join(map(str, (shape.batch, shape.c_in, shape.height, shape.width)))
        filters = f" -> {shape.c_out}, {shape.kernel}x{shape.kernel}/{shape.stride}" if self.conv else ""
        filters = filters or (f" /{shape.stride}" if shape.stride > 1 else "")
        return f"{self.form} {image}{filters}"

    def bytes_min(self, element_bytes: int) -> int:
        """Bytes that must be moved whatever the implementation."""
        return sum(part.work.bytes(self.shape, element_bytes, **dict(part.words)) for part in self.parts)

    @property
    def flops(self) -> int:
        return sum(part.work.flops(self.shape) for part in self.parts)

    def floor_s(self, element_bytes: int, copy_bytes_per_s: float, matrix_flops_per_s: float) -> float:
        """Least time: bytes or, in a convolution, arithmetic. Pointwise arithmetic is not the matrix units'."""
        moved = self.bytes_min(element_bytes) / copy_bytes_per_s
        return max(moved, self.flops / matrix_flops_per_s) if self.conv else moved


class Rewritten(NamedTuple):
    """An output that our kernel writes again, while PyTorch has it from the forward pass and spends no time on it.

    Attributes:
        output: its name.
        maths: what it is, of a case's operands.
    """

    output: str
    maths: Callable[[Tensors], Tensor]


@dataclass(frozen=True, kw_only=True)
class Op:
    """All that the microbenchmarks know of one op; each module of `bench.micro.ops` makes one, or some that are alike.

    What computes a case takes the operands and returns the results, by name; results of the same name are compared.

    Attributes:
        name: on the command line and in rows.
        works: the least bytes and the FLOPs of each kernel that it calls.
        cases: at the layers of a network, in their order; some may be equal.
        operands: of a case, at random.
        maths: a case in PyTorch's own operations. In fp64 it is what results are checked against, in the case's dtype
            what torch.compile is given.
        fused: a case by our kernels, with the tile config of a convolution; None leaves it to the shape.
        eager: a case as PyTorch's modules would run it on a CUDA device, with their own kernels for statistics and
            backward passes, chosen for its operands; None where that is `maths`.
        cudnn_fused: a case in one call of cuDNN's fusions; None where PyTorch reaches none.
        rewritten: by form, what only our kernel makes.
    """

    name: str
    works: tuple[Work, ...]
    cases: Callable[[Step], Iterator[Case]]
    operands: Callable[[Case, Draw], Tensors]
    maths: Callable[[Case], Run]
    fused: Callable[[Case, TileConfig | None], Run]
    eager: Callable[[Case, Tensors], Run] | None = None
    cudnn_fused: Callable[[Case], Run] | None = None
    rewritten: Mapping[str, Rewritten] = field(default_factory=dict)

    @property
    def conv(self) -> bool:
        """Whether it is a convolution, whose kernels take a tile config."""
        return any(work.conv for work in self.works)
