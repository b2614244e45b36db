"""The least bytes and the FLOPs of a kernel by itself: operands read once, results written once.

Bytes are the minimum necessary, whatever an implementation moves: an unfused chain that does the same is held against
the same figure. Each module of `bench.micro.ops` adds them up from the sizes that have names here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from resnet.architecture import check_choice

ADDED = ("none", "identity", "projection")  # what a shortcut adds; option A's is an identity with fewer channels
FP32_BYTES = 4


class Shape(NamedTuple):
    """What an op is timed on.

    Attributes:
        batch, height, width: of y in an op without convolution, of the forward convolution's input x in one with.
        c_in: channels of y, or of x.
        c_out: channels of the convolution's output.
        kernel: side of the filter, 1 or 3; the padding keeps the image's size.
        stride: of the convolution.
    """

    batch: int
    height: int
    width: int
    c_in: int
    c_out: int = 0
    kernel: int = 1
    stride: int = 1

    @property
    def pixels_in(self) -> int:
        return self.batch * self.height * self.width

    @property
    def pixels_out(self) -> int:
        return self.batch * -(-self.height // self.stride) * -(-self.width // self.stride)


@dataclass(frozen=True)
class Sizes:
    """Bytes of the tensors that ops read and write.

    Attributes:
        shape: of the op's operands; of a data gradient it is that of the forward convolution.
        element_bytes: of an activation: 2 or 4. Statistics, norms and sums are fp32, masks have a bit an element.
    """

    shape: Shape
    element_bytes: int

    @property
    def y(self) -> int:
        """All of y, or of a convolution's input; as much as their gradients."""
        return self.y_at_stride(1)

    def y_at_stride(self, stride: int) -> int:
        """Of y the pixels on the grid of a stride alone."""
        return self.shape._replace(stride=stride).pixels_out * self.shape.c_in * self.element_bytes

    @property
    def mask(self) -> int:
        """The bits that say where z is positive."""
        return self.shape.pixels_in * -(-self.shape.c_in // 8)

    @property
    def norm(self) -> int:
        """BN of y: mean, invstd, gamma and beta."""
        return self.vectors(4, self.shape.c_in)

    @property
    def filter(self) -> int:
        return self.shape.c_in * self.shape.c_out * self.shape.kernel**2 * self.element_bytes

    @property
    def out(self) -> int:
        """Output of the convolution, as much as its gradient and as an identity that is added to it."""
        return self.shape.pixels_out * self.shape.c_out * self.element_bytes

    def vectors(self, count: int, channels: int) -> int:
        """Per-channel vectors in fp32."""
        return count * channels * FP32_BYTES


@dataclass(frozen=True, kw_only=True)
class Work:
    """The least that one call of a kernel does.

    Attributes:
        name: of the kernel, as `kernels` has it.
        moved: bytes read and written, from the sizes and from keywords that say what is there; an op's module has it.
        element_flops: arithmetic of one element of y in a kernel without a matrix product, in fp32; a fused
            multiply-add is two, and a residual addition is not counted. None of a convolution: its own multiply-adds
            alone are counted, neither its prologue nor its epilogue.
    """

    name: str
    moved: Callable[..., int]
    element_flops: int | None = None

    @property
    def conv(self) -> bool:
        return self.element_flops is None

    def bytes(self, shape: Shape, element_bytes: int, **words: Any) -> int:
        """The least bytes that one call moves.

        Args:
            element_bytes: of an activation: 2 or 4.
            words: keywords of `moved`.

        Raises:
            ValueError: a shortcut adds no such thing; one line with the nearest.
        """
        check_choice("shortcut", words.get("shortcut", "none"), ADDED)
        return self.moved(Sizes(shape, element_bytes), **words)

    def flops(self, shape: Shape) -> int:
        """FLOPs of one call: two a multiply-add of a convolution, else `element_flops` an element of y."""
        if self.element_flops is None:
            return 2 * shape.pixels_out * shape.c_in * shape.c_out * shape.kernel**2
        return self.element_flops * shape.pixels_in * shape.c_in


class Part(NamedTuple):
    """One of the calls that make up the least work of a case.

    Attributes:
        work: of which kernel.
        words: keywords of `Work.bytes`, as pairs.
    """

    work: Work
    words: tuple[tuple[str, Any], ...]


def part(work: Work, **words: Any) -> Part:
    """A call of a kernel with keywords of `Work.bytes`."""
    return Part(work, tuple(words.items()))
