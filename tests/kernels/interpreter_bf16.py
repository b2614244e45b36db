"""Makes Triton's interpreter round bf16 as a GPU does, for tests alone.

The interpreter keeps bf16 as bit patterns: its casts to bf16 truncate and its `tl.dot` multiplies the patterns. Here
casts round to nearest even and `tl.dot` multiplies values. Arithmetic between bf16 tensors stays wrong: kernels cast
operands to fp32 first.
"""

import contextlib
import os
from collections.abc import Iterator

import numpy as np


def decode(bits: np.ndarray) -> np.ndarray:
    """bf16 bit patterns (uint16) as fp32 values, all exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def encode(values: np.ndarray) -> np.ndarray:
    """fp32 values as bf16 bit patterns (uint16), rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


@contextlib.contextmanager
def exact_bf16() -> Iterator[None]:
    """Within the `with` block the interpreter's bf16 casts and dots are right; nothing happens where it is not used."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        yield
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    cast, convert, dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_fp_to_fp, InterpreterBuilder.create_dot

    def values(handle):
        return TensorHandle(decode(handle.data), tl.float32) if handle.dtype.scalar == tl.bfloat16 else handle

    def exact(before):
        def patched(self, src, dst_type, *rest):
            target = dst_type.scalar
            if tl.bfloat16 not in (src.dtype.scalar, target):
                return before(self, src, dst_type, *rest)
            if src.dtype.scalar == target:
                return src
            src = values(src)
            if target == tl.bfloat16:
                return TensorHandle(encode(src.data.astype(np.float32)), tl.bfloat16)
            return src if target == tl.float32 else before(self, src, dst_type, *rest)

        return patched

    def exact_dot(self, a, b, d, *rest):
        return dot(self, values(a), values(b), d, *rest)

    InterpreterBuilder.cast_impl = exact(cast)
    InterpreterBuilder.create_fp_to_fp = exact(convert)
    InterpreterBuilder.create_dot = exact_dot
    try:
        yield
    finally:
        InterpreterBuilder.cast_impl = cast
        InterpreterBuilder.create_fp_to_fp = convert
        InterpreterBuilder.create_dot = dot
