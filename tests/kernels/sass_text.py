"""Machine code for tests: as nvdisasm prints it, and of kernels as they were compiled once."""

import gzip
from pathlib import Path

STORED = Path(__file__).with_name("code")


def stored(name: str) -> str:
    """What nvdisasm printed of a kernel for sm_90: "conv1x1-widening", "conv_dgrad-join" (both 128x128x64/w8/s3, of
    ResNet-50's stage 1 and 3 at batch 256), "bn_act_backward_reduce-join"."""
    return gzip.decompress((STORED / f"{name}.sass.gz").read_bytes()).decode()


def printed(*lines: str) -> str:
    """Lines of instructions and labels as nvdisasm would print them.

    Args:
        lines: "LABEL:", or an instruction, with "| stall=2 writes=0 reads=1 waits=0b1" behind it.
    """
    found = []
    for place, line in enumerate(lines):
        if line.endswith(":"):
            found.append(line)
            continue
        text, _, words = line.partition("|")
        control = {"stall": 1, "writes": 7, "reads": 7, "waits": 0}
        for word in words.split():
            name, _, value = word.partition("=")
            control[name] = int(value, 0)
        bits = control["stall"] | control["writes"] << 5 | control["reads"] << 8 | control["waits"] << 11
        found += [
            f"        /*{16 * place:04x}*/   {text.strip()} ; /* 0x{place:016x} */",
            f"          /* 0x{bits << 41:016x} */",
        ]
    return "\n".join(found) + "\n"
