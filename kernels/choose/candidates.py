"""The chains that compete for a site: random operands, what each candidate runs, and what it should have computed.

A chain is a convolution and the passes that another candidate would do without, so that their times compare.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import reference, runtime
from kernels.aten_conv import convolution, input_gradient
from kernels.choose.choice import name, options
from kernels.choose.sites import ConvSite
from kernels.operands import Norm, Producer, Running, TileConfig
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv3x3 import conv3x3
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.conv_inference import conv_inference
from kernels.reference.check import poisoned

__all__ = ["Candidate", "Chain", "Outputs", "cudnn_benchmark"]

Outputs = dict[str, Tensor]
CHUNK = 16  # images of a convolution in fp64 at a time: a whole batch of them would fill a GPU


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to run a part of a site; calling it runs it.

    Attributes:
        part: "forward", "dgrad" or "inference".
        mode: of `Choice`, or "triton+z": the dgrad of a forward pass with a prologue, which writes z.
        tile_config: of our kernel; None with torch.
    """

    part: str
    mode: str
    tile_config: TileConfig | None
    run: Callable[[], Outputs]

    @property
    def name(self) -> str:
        return name(self.part, self.mode, self.tile_config)

    def __call__(self) -> Outputs:
        return self.run()


class Chain:
    """Operands of a site, random and never zeros, the same every time; and the candidates that take them.

    A site does not say all of its surroundings. Measured are a join without a projection, a producer for every first
    convolution, and inference without a residual; each concerns all candidates alike.
    """

    def __init__(self, site: ConvSite, device: torch.device) -> None:
        self.site, self.device = site, device
        # On the meta device nothing is drawn, and no generator exists.
        self.random = None if device.type == "meta" else torch.Generator(device).manual_seed(0)
        n, c, h, w = site.n, site.c_in, site.h, site.w
        self.x = self._image(c, h, w).relu()
        fan_in = c * site.kernel**2
        self.weight = self._normal(site.c_out, site.kernel, site.kernel, c).permute(0, 3, 1, 2) * fan_in**-0.5
        self.dy = self._image(site.c_out, *site.size_out)
        self.producer, self.skip = None, None
        if site.role != "shortcut":
            mask = None
            if site.join:
                bits = (n * h * w, -(-c // 8))
                mask = torch.randint(0, 256, bits, generator=self.random, device=device, dtype=torch.uint8)
            self.producer = Producer(self._image(c, h, w), self._norm(c), mask)
        if site.skip != "none":
            step = site.skip_stride
            self.skip = self._image(site.skip_channels, -(-h // step), -(-w // step))
        self.norm_out = self._norm(site.c_out)
        scale = self.norm_out.weight * self.norm_out.stats[1]
        self.folded = (self.weight * scale[:, None, None, None]).to(self.weight.dtype)
        self.folded_bias = self.norm_out.bias - self.norm_out.stats[0] * scale
        self._reset()

    def candidates(self, part: str) -> list[Candidate]:
        """Those of a part, torch's first."""
        plain = {"forward": self._forward_torch, "dgrad": self._dgrad_torch, "inference": self._inference_torch}
        ours: dict[str, dict[str, Callable[[TileConfig], Outputs]]] = {
            "forward": {"triton": self._forward_triton},
            "dgrad": {"triton": self._dgrad_triton},
            "inference": {"triton": self._inference_triton},
        }
        chip = runtime.chip(self.device)
        # A forward pass with a prologue leaves z to the dgrad, which has to be ours.
        if self.site.role == "inner" and options(self.site, "dgrad", chip):
            ours["forward"]["prologue"] = self._forward_prologue
            ours["dgrad"]["triton+z"] = self._dgrad_triton_z
        found = [Candidate(part, "torch", None, plain[part])]
        for mode, run in ours[part].items():
            for tile_config in options(self.site, part, chip, runtime.shared_bytes(self.device)):
                found.append(Candidate(part, mode, tile_config, _bind(run, tile_config)))
        return found

    def outputs(self, candidate: Candidate) -> Outputs:
        """All that a candidate computes, from workspaces of NaN, and what only a later pass would of torch's."""
        self._reset()
        with poisoned():
            outputs = dict(candidate())
        if candidate.part == "forward":
            outputs |= self._statistics(outputs.pop("stats"))
        if "dz" in outputs:
            assert self.producer is not None
            g, _ = reference.bn_act_backward_reduce(outputs.pop("dz"), self.producer, write_gradient=True)
            assert g is not None
            outputs["g"] = g
        if self.site.role == "inner" and (candidate.part, candidate.mode) == ("dgrad", "torch"):
            outputs["z"] = self._input()
        return _split_sums(outputs)

    def exact(self, part: str) -> Outputs:
        """What every candidate of a part should compute from the same stored operands: convolutions in fp64."""
        with cudnn_benchmark(False):  # a search of fp64 algorithms is worth nothing
            if part == "forward":
                self._reset()
                y = self._exact_conv(self.producer if self.site.role == "inner" else None)
                return {"y": y, **self._statistics(reference.bn_stats(y, running=self.running))}
            if part == "inference":
                return {"z": reference.bn_act(self._exact_conv(None), self.norm_out, relu=self._relu)[0]}
            return _split_sums(self._exact_dgrad())

    @staticmethod
    def owed(candidate: Candidate, exact: Outputs) -> Outputs:
        """What of `exact` a candidate has to give: a dgrad of ours gives z only where it is to write it."""
        without = "z" if (candidate.part, candidate.mode) == ("dgrad", "triton") else None
        return {name: value for name, value in exact.items() if name != without}

    @property
    def _relu(self) -> bool:
        return self.site.role != "shortcut"

    def _reset(self) -> None:
        zeros = torch.zeros(self.site.c_out, device=self.device)
        self.running = Running(zeros, zeros + 1, 0.1)

    def _statistics(self, stats: Tensor) -> Outputs:
        mean, var, _ = self.running
        return {"mean": stats[0], "invstd": stats[1], "running mean": mean, "running variance": var}

    def _input(self) -> Tensor:
        """The convolution's input in training, as a pass of its own makes it."""
        if self.site.role != "inner":
            return self.x
        assert self.producer is not None
        return bn_act(self.producer.y, self.producer.norm)[0]

    def _forward_torch(self) -> Outputs:
        y = _conv(self._input(), self.weight, self.site.stride)
        return {"y": y, "stats": bn_stats(y, running=self.running)}

    def _forward_triton(self, tile_config: TileConfig) -> Outputs:
        return self._forward(self._input(), None, tile_config)

    def _forward_prologue(self, tile_config: TileConfig) -> Outputs:
        assert self.producer is not None
        return self._forward(self.producer.y, self.producer.norm, tile_config)

    def _forward(self, x: Tensor, prologue: Norm | None, tile_config: TileConfig) -> Outputs:
        op = conv1x1 if self.site.kernel == 1 else conv3x3
        y, stats = op(
            x, self.weight, stride=self.site.stride, prologue=prologue, running=self.running, tile_config=tile_config
        )
        assert stats is not None
        return {"y": y, "stats": stats}

    def _pixels_read(self) -> tuple[Tensor, int, int]:
        """What the gradient is of, at which stride, and the distance of its pixels: a 1x1 reads no others."""
        stride = self.site.stride
        if self.site.kernel == 1:
            return self.x[:, :, ::stride, ::stride], 1, stride
        return self.x, stride, 1

    def _dgrad_torch(self) -> Outputs:
        x, stride, dz_stride = self._pixels_read()
        dz = _conv_gradient(self.dy, x, self.weight, stride)
        if self.producer is None:
            return {"g": dz}
        write = self.skip is not None or dz_stride > 1
        g, sums = bn_act_backward_reduce(
            dz,
            self.producer,
            skip=self.skip,
            skip_stride=self.site.skip_stride,
            dz_stride=dz_stride,
            write_gradient=write,
        )
        return {"dz": dz, "sums": sums} if g is None else {"g": g, "sums": sums}

    def _dgrad_triton(self, tile_config: TileConfig) -> Outputs:
        return self._dgrad(tile_config, write_activation=False)

    def _dgrad_triton_z(self, tile_config: TileConfig) -> Outputs:
        return self._dgrad(tile_config, write_activation=True)

    def _dgrad(self, tile_config: TileConfig, *, write_activation: bool) -> Outputs:
        g, sums, z = conv_dgrad(
            self.dy,
            self.weight,
            skip=self.skip,
            skip_stride=self.site.skip_stride,
            producer=self.producer,
            write_activation=write_activation,
            tile_config=tile_config,
        )
        outputs = {"g": g, "sums": sums, "z": z}
        return {key: value for key, value in outputs.items() if value is not None}

    def _inference_torch(self) -> Outputs:
        y = _conv(self.x, self.weight, self.site.stride)
        return {"z": bn_act(y, self.norm_out, relu=self._relu)[0]}

    def _inference_triton(self, tile_config: TileConfig) -> Outputs:
        stride = self.site.stride
        z = conv_inference(
            self.x, self.folded, self.folded_bias, stride=stride, relu=self._relu, tile_config=tile_config
        )
        return {"z": z}

    def _exact_conv(self, producer: Producer | None) -> Tensor:
        chunks = []
        for x in (producer.y if producer else self.x).split(CHUNK):
            wide = x.double()
            if producer:
                wide = reference.normalize(wide, producer.norm).relu()
            chunks.append(_conv(wide, self.weight.double(), self.site.stride).float())
        return torch.cat(chunks).contiguous(memory_format=torch.channels_last)

    def _exact_dgrad(self) -> Outputs:
        x, stride, dz_stride = self._pixels_read()
        weight = self.weight.double()
        chunks = [
            _conv_gradient(dy.double(), pixels.double(), weight, stride).float()
            for dy, pixels in zip(self.dy.split(CHUNK), x.split(CHUNK), strict=True)
        ]
        dz = torch.cat(chunks).contiguous(memory_format=torch.channels_last)
        if self.producer is None:
            return {"g": dz}
        wide = self.producer._replace(y=self.producer.y.float())
        skip_stride = self.site.skip_stride
        g, sums = reference.bn_act_backward_reduce(
            dz, wide, skip=self.skip, skip_stride=skip_stride, dz_stride=dz_stride, write_gradient=True
        )
        assert g is not None
        outputs = {"g": g, "sums": sums}
        if self.site.role == "inner":
            outputs["z"] = reference.bn_act(wide.y, wide.norm)[0]
        return outputs

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random, device=self.device, dtype=self.site.torch_dtype)

    def _image(self, c: int, h: int, w: int) -> Tensor:
        return self._normal(self.site.n, h, w, c).permute(0, 3, 1, 2)

    def _norm(self, c: int) -> Norm:
        uniform = torch.rand((4, c), generator=self.random, device=self.device)
        return Norm(torch.stack([uniform[0] - 0.5, uniform[1] + 0.5]), uniform[2] + 0.5, uniform[3] - 0.5)


@contextlib.contextmanager
def cudnn_benchmark(enabled: bool) -> Iterator[None]:
    """Whether cuDNN searches for its fastest algorithm, in the `with` block."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _bind(run: Callable[[TileConfig], Outputs], tile_config: TileConfig) -> Callable[[], Outputs]:
    return lambda: run(tile_config)


def _split_sums(outputs: Outputs) -> Outputs:
    """The rows of sums apart, so that the larger does not hide the smaller."""
    sums = outputs.pop("sums", None)
    return outputs if sums is None else {**outputs, "sum of g": sums[0], "sum of g * xhat": sums[1]}


def _conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return convolution(x, weight, stride, weight.shape[2] // 2)


def _conv_gradient(dy: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of the input x, whose values are not read."""
    return input_gradient(dy, x, weight, stride, weight.shape[2] // 2)
