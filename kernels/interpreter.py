"""Which NumPy Triton's interpreter runs beside; asked before either is installed, so of the standard library alone."""

import re

# Before 3.9 the interpreter calls int() on arrays of one element, which NumPy refuses from 2.4 on.
TRITON = (3, 9)
NUMPY = (2, 4)


def fault(triton: str, numpy: str) -> str | None:
    """One line on why this Triton interprets nothing beside this NumPy, with what to install; None where it does.

    Args:
        triton: its version, such as "3.8.0".
        numpy: its version, such as "2.4.6".
    """
    if _minor(triton) >= TRITON or _minor(numpy) < NUMPY:
        return None
    return (
        f"Triton {triton} interprets no kernel beside NumPy {numpy}: install numpy<{NUMPY[0]}.{NUMPY[1]}, "
        f"or triton>={TRITON[0]}.{TRITON[1]}"
    )


def _minor(version: str) -> tuple[int, int]:
    """Major and minor, as numbers: 3.10 is later than 3.9."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise ValueError(f"version {version!r}: expected one such as 3.9.0")
    return int(found[1]), int(found[2])
