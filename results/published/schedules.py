"""The paper's recipe in numbers that a row of `runs` can be held against (sections 3.4 and 4.2 of arXiv:1512.03385)."""

from dataclasses import dataclass

__all__ = ["SCHEDULES", "Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the paper trained on one dataset.

    Attributes:
        sample: name of the dataset's lossless copy in column `sample`.
        steps: optimizer steps of the whole schedule.
        lr: peak learning rate.
        protocol: by which a training run evaluates by itself.
        split: the images that runs are evaluated on, as the paper names them; "test" in rows of `evaluations`.
    """

    dataset: str
    protocol: str
    split: str
    sample: str
    image_size: int
    num_classes: int
    train_images: int
    test_images: int
    global_batch: int
    steps: int
    lr: float = 0.1
    weight_decay: float = 1e-4


_CIFAR10 = Schedule(
    dataset="cifar10", protocol="whole image", split="test", sample="cifar10", image_size=32, num_classes=10,
    train_images=50_000, test_images=10_000, global_batch=128, steps=64_000,
)  # fmt: skip
# "Divided by 10 at plateaus" is read as 30 and 60 of 90 epochs, each without the images that fill no batch.
_IMAGENET = Schedule(
    dataset="imagenet", protocol="1-crop", split="val", sample="imagenet", image_size=224, num_classes=1000,
    train_images=1_281_167, test_images=50_000, global_batch=256, steps=90 * (1_281_167 // 256),
)  # fmt: skip
SCHEDULES: dict[str, Schedule] = {schedule.dataset: schedule for schedule in (_CIFAR10, _IMAGENET)}
