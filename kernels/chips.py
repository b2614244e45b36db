"""All that differs from chip to chip, in one table: a chip is added by an entry of `CHIPS`, and nothing elsewhere.

The standard library alone, so that models and metrics can read it where there is no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["CHIPS", "DEFAULT", "Chip", "Gpu", "Latencies", "chip_of", "gpu_named", "measured_rates"]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A product with a chip.

    Attributes:
        name: words that are all in the name that the driver gives.
        peak_flops_per_s: dense peak of the matrix units by precision, without sparsity, from the vendor's data sheet.
            fp32 is TF32 where torch uses it for convolutions (its default).
        measured_copy_tb_s: rate of its memory in TB/s, bytes read and written together; None where none was measured.
        measured_matrix_tflop_s: rate of a large bf16 or fp16 matrix product in TFLOP/s; None as above.
        clock_ghz: highest clock of its multiprocessors; None where no model asks for it.
    """

    name: str
    peak_flops_per_s: Mapping[str, float]
    measured_copy_tb_s: float | None = None
    measured_matrix_tflop_s: float | None = None
    clock_ghz: float | None = None


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Cycles from the issue of an instruction until its result may be used, where nothing else is in the way.

    Attributes:
        memory: of a load from the device's memory.
        l2: of what the L2 cache answers: an atomic operation, a fence.
        shared: of what goes through the pipe to shared memory, shuffles among it, and of special functions.
    """

    memory: int
    l2: int
    shared: int


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What kernels and models need to know of a chip.

    Attributes:
        target: Triton's backend, architecture and warp size.
        processors: multiprocessors (SMs or CUs) of the largest product.
        shared_bytes: shared memory (LDS) that one program may have.
        reserved_shared_bytes: that the system keeps of a multiprocessor's shared memory for each program on it.
        registers: of 32 bits, of a multiprocessor; a scheduler has its part of them for its own warps.
        register_unit: how many of them a warp is given at a time.
        schedulers: of a multiprocessor; each issues an instruction of one warp a cycle.
        warps, programs: that may be on a multiprocessor at once.
        latencies: None where no model asks for them.
        tensor_memory_columns: of tensor memory, for all that one program accumulates; 0 where there is none.
        matrix_instruction: name of the instruction that multiplies matrices at full rate, and a regular expression that
            finds it in the disassembly.
        tile_configs: of convolutions, as `kernels.tiles.tile_configs.parse` reads them; the best first
            where all else is equal.
        instead: by op, what takes the place of some of them, such as one that spills registers there.
        first: by op, those that come before the others there, where times were measured.
        gpus: products; where the name of one is part of another's, the longer comes first.
    """

    target: tuple[str, int | str, int]
    processors: int
    shared_bytes: int
    reserved_shared_bytes: int = 1024
    registers: int = 65_536
    register_unit: int = 256
    schedulers: int = 4
    warps: int = 64
    programs: int = 32
    latencies: Latencies | None = None
    tensor_memory_columns: int = 0
    matrix_instruction: tuple[str, str]
    tile_configs: tuple[str, ...]
    instead: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    first: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()


def _dense(half: float, fp32: float) -> dict[str, float]:
    """Peaks of a GPU whose bf16 and fp16 are equally fast, in FLOP/s."""
    return {"bf16": half, "fp16": half, "fp32": fp32}


# The last ones are for few channels, such as those of CIFAR's nets. There is no 128 x 256: its accumulators spill.
_HOPPER = (
    "128x128x64/w8/s3",
    "64x256x64/w8/s3",
    "128x64x64/w8/s3",
    "128x64x64/w4/s3",
    "64x128x64/w8/s3",
    "64x64x64/w4/s4",
    "128x32x32/w4/s3",
    "128x16x16/w4/s3",
)

# Shared memory, registers, warps and programs: CUDA C Programming Guide, table "Technical Specifications per Compute
# Capability", less 1 KB that the system keeps; CDNA 3 ISA: 64 KB of LDS, 512 registers a lane and 8 waves on each of
# four SIMDs. Latencies are assumed, in round figures, and were set before anything was compared with them.
CHIPS: dict[str, Chip] = {
    "sm_80": Chip(
        target=("cuda", 80, 32),
        processors=108,
        shared_bytes=166_912,
        matrix_instruction=("HMMA", r"\bHMMA\b"),
        tile_configs=(
            "128x128x32/w8/s3",
            "128x64x64/w8/s3",
            "128x64x32/w8/s4",
            "64x128x64/w8/s3",
            "64x64x64/w4/s3",
            "128x32x32/w4/s3",
            "64x16x16/w4/s3",
        ),
        # These spill a few registers at one shape or another, the last one by the compiler of Triton 3.6 alone.
        instead={
            "conv1x1": {"128x32x32/w4/s3": ("128x32x32/w8/s3",)},
            "conv_dgrad": {"128x128x32/w8/s3": (), "64x64x64/w4/s3": ("64x64x32/w4/s3",)},
        },
        gpus=(Gpu(name="A100", peak_flops_per_s=_dense(312e12, 156e12)),),
    ),
    "sm_90": Chip(
        target=("cuda", 90, 32),
        processors=132,
        shared_bytes=232_448,
        latencies=Latencies(memory=400, l2=200, shared=20),
        matrix_instruction=("HGMMA", r"\bHGMMA\b"),
        tile_configs=_HOPPER,
        # Measured on an H200. What memory binds wants many programs on a multiprocessor, and 128x128 with an epilogue
        # leaves room for one.
        first={
            "conv1x1": ("128x64x64/w4/s3",),
            "conv_dgrad": ("128x64x64/w4/s3",),
            "conv3x3": ("128x128x64/w8/s3", "64x256x64/w8/s3", "128x64x64/w4/s3"),
        },
        gpus=(
            Gpu(name="H100 PCIe", peak_flops_per_s=_dense(756e12, 378e12)),
            # Measured on the SXM products.
            Gpu(
                name="H100",
                peak_flops_per_s=_dense(989.4e12, 494.7e12),
                measured_copy_tb_s=3.0,
                measured_matrix_tflop_s=798.0,
                clock_ghz=1.98,
            ),
            Gpu(
                name="H200",
                peak_flops_per_s=_dense(989.4e12, 494.7e12),
                measured_copy_tb_s=4.23,
                measured_matrix_tflop_s=806.0,
                clock_ghz=1.98,
            ),
        ),
    ),
    "sm_100": Chip(
        target=("cuda", 100, 32),
        processors=148,
        shared_bytes=232_448,
        tensor_memory_columns=512,
        matrix_instruction=("tcgen05.mma", r"\bUTC\w*MMA\b"),
        tile_configs=_HOPPER,
        # These spill, the last one by the compiler of Triton 3.6 alone.
        instead={
            "conv3x3": {"64x64x64/w4/s4": ("64x64x64/w4/s3",)},
            "conv_dgrad": {
                "128x32x32/w4/s3": ("128x32x32/w8/s3",),
                "128x64x64/w8/s3": ("128x64x64/w8/s2",),
            },
        },
        gpus=(Gpu(name="B200", peak_flops_per_s=_dense(2250e12, 1125e12)),),
    ),
    "gfx942": Chip(
        target=("hip", "gfx942", 64),
        processors=304,
        shared_bytes=65_536,
        reserved_shared_bytes=0,
        registers=131_072,
        register_unit=512,
        warps=32,
        matrix_instruction=("v_mfma", r"\bv_mfma_"),
        tile_configs=(
            "128x128x32/w8/s2",
            "128x64x64/w8/s2",
            "64x128x64/w8/s2",
            "64x64x64/w4/s2",
            "128x32x32/w4/s2",
            "128x16x16/w4/s2",
        ),
    ),
}
DEFAULT = "sm_90"  # whose lists are taken where there is no GPU: under the interpreter
# Products of chips that no kernel here is compiled for.
_OTHERS = (Gpu(name="V100", peak_flops_per_s={"fp16": 125e12, "fp32": 15.7e12}),)


def chip_of(backend: str, architecture: int | str) -> str:
    """Which chip's lists fit a GPU: its own architecture's, or the nearest older one's, else the oldest there is.

    Args:
        backend: "cuda" or "hip".
        architecture: as Triton has it: 90 for compute capability 9.0, or "gfx942".
    """
    known = {chip.target[1]: name for name, chip in CHIPS.items() if chip.target[0] == backend}
    if architecture in known:
        return known[architecture]
    numbers = sorted(one for one in known if isinstance(one, int))
    if not isinstance(architecture, int) or not numbers:
        return next(iter(known.values()))  # names have no order
    return known[max((one for one in numbers if one <= architecture), default=numbers[0])]


def _gpus() -> Iterator[Gpu]:
    """Every product that something is known of."""
    for chip in CHIPS.values():
        yield from chip.gpus
    yield from _OTHERS


def gpu_named(driver_name: str) -> Gpu | None:
    """The product that a driver names so, such as "NVIDIA H100 80GB HBM3"; None where it is not in the table."""
    return next((gpu for gpu in _gpus() if all(word in driver_name for word in gpu.name.split())), None)


def measured_rates(driver_name: str) -> tuple[float, float]:
    """Copy rate in TB/s and bf16 or fp16 matrix rate in TFLOP/s that were measured on a product.

    Raises:
        ValueError: none were, or it is not in the table; one line with those of which they were.
    """
    gpu = gpu_named(driver_name)
    if gpu is None or gpu.measured_copy_tb_s is None or gpu.measured_matrix_tflop_s is None:
        measured = [gpu.name for gpu in _gpus() if gpu.measured_copy_tb_s and gpu.measured_matrix_tflop_s]
        raise ValueError(f"{driver_name}: no rates were measured; there are those of {', '.join(measured)}")
    return gpu.measured_copy_tb_s, gpu.measured_matrix_tflop_s
