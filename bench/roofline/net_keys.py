"""The words by which a command that times or models single steps says which net, of what precision, it means."""

from dataclasses import dataclass

from bench.config.grammar import key
from bench.roofline.step import Step, net
from kernels.dtypes import TUNED
from resnet.architecture import FAMILIES, SHORTCUTS, STRIDES


@dataclass(kw_only=True)
class NetKeys:
    """Words of the command line that name a net."""

    depth: int = key("network", "50", default=50, unit="layers", least=8, most=12_002)
    shortcut: str | None = key("its shortcuts", "A (cifar), B (imagenet)", choices=SHORTCUTS)
    stride: str | None = key("where a bottleneck halves the image", "v1.5 where there are any", choices=STRIDES)
    family: str | None = key("of networks: the paper's two, or one-layer", "the depth's", choices=FAMILIES)
    batch: int | None = key("images", "256 (imagenet), 128 (cifar)", unit="images", least=1)
    image_size: int | None = key("side of the images", "224 (imagenet), 32 (cifar)", unit="pixels", least=8)
    precision: str = key("of activations", "bf16", default="bf16", choices=TUNED)

    def step(self) -> Step:
        """The step on this net.

        Raises:
            ValueError: there is no such net; see `bench.roofline.step.net`.
        """
        return net(
            depth=self.depth, stride=self.stride, family=self.family, shortcut=self.shortcut,
            image_size=self.image_size, batch=self.batch, precision=self.precision,
        )  # fmt: skip
