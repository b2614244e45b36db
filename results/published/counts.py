"""Parameters and multiply-adds of the paper's networks and of those it stands beside, counted layer by layer.

Multiply-adds are those of convolutions and fully connected layers; parameters include batch normalization's. The paper
rounds its own (Table 1, and the parameters in Table 6): these are the exact integers of the same architectures.
"""

from results.published.figure import Net, Published

__all__ = ["COUNTS"]

SOURCE = "counted from the architectures of arXiv:1512.03385"

_IMAGENET: list[tuple[Net, int, int]] = [
    (Net("imagenet", 18, "none"), 11_515_688, 1_794_805_760),
    (Net("imagenet", 18, "A"), 11_515_688, 1_794_805_760),
    (Net("imagenet", 34, "none"), 21_623_848, 3_644_493_824),
    (Net("imagenet", 34, "A"), 21_623_848, 3_644_493_824),
    (Net("imagenet", 34, "B"), 21_797_672, 3_663_761_408),
    (Net("imagenet", 34, "C"), 22_716_840, 3_830_747_136),
    (Net("imagenet", 50, "B"), 25_557_032, 3_857_973_248),
    (Net("imagenet", 101, "B"), 44_549_160, 7_570_194_432),
    (Net("imagenet", 152, "B"), 60_192_808, 11_282_415_616),
]
_CIFAR: list[tuple[int, int, int]] = [
    (20, 269_722, 40_551_040),
    (32, 464_154, 68_862_592),
    (44, 658_586, 97_174_144),
    (56, 853_018, 125_485_696),
    (110, 1_727_962, 252_887_680),
    (1202, 19_421_274, 2_829_238_912),
]
_BESIDE: list[tuple[str, int, int]] = [
    ("AlexNet", 60_965_224, 724_406_816),
    ("VGG-16", 138_357_544, 15_470_264_320),
    ("VGG-19", 143_667_240, 19_632_062_464),
    ("GoogLeNet", 6_998_552, 1_582_671_872),
]


def _counts(
    place: str, word: str, system: str, net: Net | None, dataset: str, parameters: int, multiply_adds: int
) -> list[Published]:
    return [
        Published(
            place=place, shown_in=(word,), system=system, net=net, dataset=dataset, metric="parameters",
            value=parameters, protocol="count", split="", recipe="", source=SOURCE, read="counted",
        ),
        Published(
            place=place, shown_in=(word,), system=system, net=net, dataset=dataset, metric="multiply-adds",
            value=multiply_adds, protocol="count", split="", recipe="", source=SOURCE, read="counted",
        ),
    ]  # fmt: skip


COUNTS: list[Published] = [
    *(one for net, *counts in _IMAGENET for one in _counts("Table 1", "table=1", net.name, net, "imagenet", *counts)),
    *(one for name, *counts in _BESIDE for one in _counts("counted", "table=1", name, None, "imagenet", *counts)),
    *(
        one
        for depth, *counts in _CIFAR
        for net in [Net("cifar", depth, "A")]
        for one in _counts("counted", "table=6", net.name, net, "cifar10", *counts)
    ),
]
