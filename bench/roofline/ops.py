"""The least bytes and the FLOPs of each kernel by itself: operands read once, results written once.

Bytes are the minimum necessary, whatever an implementation moves: an unfused chain that does the same is held against
the same figure. Sources: the operands in the docstrings of `kernels`.
"""

from typing import NamedTuple

from resnet.architecture import check_choice

JOINS = ("none", "identity", "dual")

# Tensors that an op reads and writes; `op_bytes` says what they are and when one of them is there.
OPERANDS: dict[str, tuple[str, str]] = {
    "bn_stats": ("y", "stats"),
    "bn_act": ("y norm i y2 norm2", "z m"),
    "bn_act_backward_reduce": ("dz s y norm y2 norm2 m", "g sums"),
    "bn_act_backward_apply": ("dz y norm y2 norm2 m sums", "dy dy2"),
    "stem": ("y norm", "p k"),
    "stem_backward_reduce": ("p k y norm", "sums"),
    "stem_backward_apply": ("p k y norm sums", "dy"),
    "conv1x1": ("x w prologue", "out stats"),
    "conv3x3": ("x w prologue", "out stats"),
    "conv_dgrad": ("out w s producer_y norm y2 norm2 m", "x z sums"),
    "conv_inference": ("x w bias r", "out"),
}

# Arithmetic of one element of y in an op without a matrix product, in fp32; a fused multiply-add is two.
POINTWISE_FLOPS: dict[str, int] = {
    "bn_stats": 4,  # a difference, a square, two sums
    "bn_act": 3,  # scale and shift, ReLU
    "bn_act_backward_reduce": 7,  # the sign anew, xhat, two sums
    "bn_act_backward_apply": 7,  # the sign anew, A*g + B*y + C
    "stem": 4,  # as bn_act, and the pool's comparisons
    "stem_backward_reduce": 7,
    "stem_backward_apply": 7,
}
CONVS = tuple(op for op, (reads, _) in OPERANDS.items() if "w" in reads.split())


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


def op_bytes(
    op: str,
    shape: Shape,
    element_bytes: int,
    *,
    join: str = "none",
    identity_channels: int | None = None,
    skip_stride: int = 0,
    dz_expanded: bool = False,
    keep_mask: bool = False,
    masked: bool = True,
    write_gradient: bool = False,
    write_activation: bool = False,
    prologue: bool = False,
    statistics: bool = False,
    producer: bool = True,
) -> int:
    """The least bytes that one call of an op moves.

    Args:
        op: a key of `OPERANDS`.
        shape: of its operands; of conv_dgrad it is that of the forward convolution.
        element_bytes: of an activation: 2 or 4. Statistics, norms and sums are fp32, masks a bit and argmax a byte.
        join: what is added before ReLU: "none", "identity" or "dual" (a projection's y2 with its own norm). With
            conv_dgrad and the backward ops it is that of the gradient's producer, whose bits are then read.
        identity_channels: channels read of the identity (option A has fewer than y); all by default. Also those of
            conv_inference's residual.
        skip_stride: how the shortcut's gradient is added: 0 not at all, 1 at every pixel, 2 at every second one.
        dz_expanded: dz is one value a channel, expanded over the image.
        keep_mask: bn_act writes the join's bits.
        masked: what bn_act_backward_apply reads is g, so that it needs no bits.
        write_gradient: bn_act_backward_reduce writes g.
        write_activation: conv_dgrad writes z.
        prologue: the convolution's input is normalized as it is read.
        statistics: the convolution's epilogue has them.
        producer: conv_dgrad's epilogue masks and reduces.

    Raises:
        ValueError: no such op or join; one line with the nearest.
    """
    check_choice("op", op, tuple(OPERANDS))
    check_choice("join", join, JOINS)
    reads, writes = OPERANDS[op]
    conv = op in CONVS
    channels = shape.c_out if conv and op != "conv_dgrad" else shape.c_in
    y = shape.pixels_in * shape.c_in * element_bytes
    out = shape.pixels_out * shape.c_out * element_bytes
    identity = shape.c_out if conv else shape.c_in
    if identity_channels is not None:
        identity = min(identity, identity_channels)
    bits = shape.pixels_in * -(-shape.c_in // 8)
    pooled = shape.batch * -(-shape.height // 2) * -(-shape.width // 2) * shape.c_in
    dual, joins = join == "dual", join != "none"
    reduces = op != "conv_dgrad" or producer
    skipped = shape._replace(stride=max(1, skip_stride)).pixels_out * shape.c_in * element_bytes
    vector = 4 * channels
    # A 1x1 convolution reads no pixel between those of its stride.
    read = shape.pixels_out * shape.c_in * element_bytes if conv and shape.kernel == 1 and op != "conv_dgrad" else y
    sizes = {
        "y": y, "producer_y": y if reduces else 0, "y2": y if dual and reduces else 0, "x": read, "out": out,
        "w": shape.c_in * shape.c_out * shape.kernel**2 * element_bytes,
        "dz": shape.batch * shape.c_in * element_bytes if dz_expanded else y,
        "s": skipped if skip_stride else 0,
        "i": (shape.pixels_in * identity * element_bytes) if join == "identity" else 0,
        "r": (shape.pixels_out * identity * element_bytes) if join == "identity" else 0,
        "m": bits if _reads_or_writes_bits(op, joins, keep_mask, masked) and reduces else 0,
        "g": y if write_gradient else 0,
        "z": y if op == "bn_act" or write_activation else 0,
        "dy": y, "dy2": y if dual else 0, "p": pooled * element_bytes, "k": pooled,
        "bias": vector,
        "norm": 4 * vector if reduces else 0,  # mean, invstd, gamma, beta
        "norm2": 4 * vector if dual and reduces else 0,
        "prologue": 4 * 4 * shape.c_in if prologue else 0,
        "stats": 2 * vector if statistics or not conv else 0,
        "sums": (3 if dual else 2) * vector if reduces else 0,
    }  # fmt: skip
    return sum(sizes[name] for name in f"{reads} {writes}".split())


def op_flops(op: str, shape: Shape) -> int:
    """FLOPs of one call of an op: two a multiply-add of a convolution, else `POINTWISE_FLOPS` an element of y.

    A convolution's prologue and epilogue are not counted, and neither is what a join adds to a pointwise op.

    Raises:
        ValueError: no such op; one line with the nearest.
    """
    check_choice("op", op, tuple(OPERANDS))
    if op in CONVS:
        return 2 * shape.pixels_out * shape.c_in * shape.c_out * shape.kernel**2
    return POINTWISE_FLOPS[op] * shape.pixels_in * shape.c_in


def _reads_or_writes_bits(op: str, joins: bool, keep_mask: bool, masked: bool) -> bool:
    if op == "bn_act":
        return keep_mask
    return joins and not (op == "bn_act_backward_apply" and masked)
