"""What is done to an image before the network sees it: one set of random draws and one geometry for every loader."""

import dataclasses

import numpy as np

from resnet.data.dataset_table import DATASETS
from results.words import ConfigError

POLICIES = ("paper", "fast", "shift", "none")

# Columns of `draws`.
_ATTEMPTS = 4
_Y, _X, _FLIP, _SCALE = 8, 9, 10, 11
_NORMALS = 12
COLUMNS = 16

# Pixels of 32. A few epochs go further with smaller shifts than the paper's.
_PAD, _FAST_PAD = 4, 2
_RATIO = (3 / 4, 4 / 3)
_FAST_AREA = (0.25, 1.0)
_PAPER_SHORTER = (256 / 224, 480 / 224)
_EVAL_SHORTER = 256 / 224

# Principal components of ImageNet's RGB values in [0, 1] (AlexNet, section 4.1; values of fb.resnet.torch).
_PCA_STD = 0.1
_PCA = np.array([0.2175, 0.0188, 0.0045]) * np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """One policy, resolved for a dataset, an image size and training or evaluation.

    Attributes:
        image_size: S, the side of what the network sees.
        geometry: `shift`: the whole image at S x S, moved by up to `pad` pixels over zeros. `window`: a box of
            the source image, resized to S x S (bilinear, antialiased).
        pad: Largest shift in pixels, each way.
        flips: Mirror with probability one half.
        area: Window's share of the image and 3/4 to 4/3 aspect, random (random resized crop), or None.
        shorter: The image's shorter side as a multiple of S, drawn between the two; the window is S x S of that.
        central: The window is in the middle, not anywhere.
        pca: AlexNet's colour noise.
        per_pixel: Subtract the mean image and nothing else (the paper); otherwise channel mean and deviation.
        mean: Channel means in [0, 1].
        std: Channel deviations in [0, 1].
    """

    image_size: int
    geometry: str
    pad: int = 0
    flips: bool = False
    area: tuple[float, float] | None = None
    shorter: tuple[float, float] = (_EVAL_SHORTER, _EVAL_SHORTER)
    central: bool = False
    pca: bool = False
    per_pixel: bool = False
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


def resolve(policy: str, dataset: str, *, image_size: int, train: bool) -> Augmentation:
    """Say what a policy means for a dataset.

    `paper`: on digits and CIFAR-10, pad 4, random crop, flip, per-pixel mean (He et al. 2016, section 4.2); on
    ImageNet, shorter side U[256, 480], random 224 crop, flip, per-pixel mean, PCA colour (section 3.4).
    `fast`: shifts of up to 2 and flips, with channel mean and deviation; on ImageNet a random resized crop of 0.25 to
    1 of the area. `shift`: shifts without flips, for digits and CIFAR-10. `none`: as in evaluation. The digits
    are never mirrored. Pixel numbers are for 32 (small images) and 224 and scale with `image_size`.

    Evaluation: the whole image on digits and CIFAR-10; otherwise shorter side 256/224 of the size and the central
    crop, whatever the size of the image: the protocol that is called 1-crop.

    Raises:
        ConfigError: The policy is unknown, or `shift` for images that have windows.
    """
    if policy not in POLICIES:
        raise ConfigError(f"augment={policy}: expected one of {', '.join(POLICIES)}")
    known = DATASETS.get(dataset, DATASETS["imagefolder"])  # a split made by hand may have any name
    if policy == "shift" and not known.small:
        small = " and ".join(each.name for each in DATASETS.values() if each.small)
        raise ConfigError(f"augment=shift: for {small} only; expected paper, fast or none with {dataset}")
    active = train and policy != "none"
    base = Augmentation(
        image_size=image_size,
        geometry="shift" if known.small else "window",
        per_pixel=policy == "paper",
        mean=known.mean,
        std=known.std,
        central=not active,
    )
    if not active:
        return base
    if known.small:
        flips = known.mirrored and policy != "shift"
        pad = _FAST_PAD if policy == "fast" else _PAD
        return dataclasses.replace(base, pad=max(1, round(pad * image_size / 32)), flips=flips)
    if policy == "paper":
        return dataclasses.replace(base, shorter=_PAPER_SHORTER, flips=True, pca=True)
    return dataclasses.replace(base, area=_FAST_AREA, flips=True)


def draws(seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """Draw an epoch's random numbers for the samples at the given places in its order.

    A counter-based generator is set to the place of the sample, so that the draws are the same however the epoch is
    cut into batches and ranks, and wherever a run resumes.

    Args:
        seed: The run's seed.
        epoch: Epoch from 0.
        positions: int64 [N], consecutive.

    Returns:
        float64 [N, 16]: uniform in [0, 1).
    """
    key = np.random.SeedSequence([seed, epoch, 1]).generate_state(2, np.uint64)
    # One step of Philox's counter yields four 64-bit numbers.
    bits = np.random.Philox(key=key, counter=int(positions[0]) * (COLUMNS // 4))
    return np.random.Generator(bits).random((len(positions), COLUMNS))


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """The random parts of a batch that do not depend on the images' sizes.

    Attributes:
        shifts: int32 [N, 2], down and right, of the crop's corner; zeros where the geometry has windows.
        flips: bool [N].
        colour: float32 [N, 3], added to RGB in [0, 1], or None.
    """

    shifts: np.ndarray
    flips: np.ndarray
    colour: np.ndarray | None

    def part(self, rows: slice) -> "Placement":
        """Return some of the rows."""
        return Placement(self.shifts[rows], self.flips[rows], None if self.colour is None else self.colour[rows])


def place(augmentation: Augmentation, u: np.ndarray) -> Placement:
    """Turn draws ([N, 16]) into shifts, flips and colour noise."""
    pad = augmentation.pad
    # Indexing by a list of columns leaves columns contiguous; DALI takes rows only.
    shifts = np.ascontiguousarray(np.floor(u[:, [_Y, _X]] * (2 * pad + 1)) - pad, np.int32)
    flips = u[:, _FLIP] < 0.5 if augmentation.flips else np.zeros(len(u), bool)
    colour = None
    if augmentation.pca:
        radius = np.sqrt(-2 * np.log1p(-u[:, [_NORMALS, _NORMALS + 1]]))
        angle = 2 * np.pi * u[:, [_NORMALS + 2, _NORMALS + 3]]
        normals = np.concatenate([radius * np.cos(angle), radius[:, :1] * np.sin(angle[:, :1])], axis=1)
        colour = ((normals * _PCA_STD) @ _PCA.T).astype(np.float32)
    return Placement(shifts, flips, colour)


def windows(augmentation: Augmentation, u: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Choose each image's window in whole pixels.

    The random resized crop tries four times to fit the drawn area and aspect, then takes the largest central window
    of an allowed aspect (torchvision's tries ten times).

    Args:
        augmentation: With geometry `window`.
        u: Draws, float64 [N, 16].
        sizes: int64 [N, 2], height and width of the source images.

    Returns:
        int32 [N, 4]: top, left, height, width; inside the image.
    """
    size = sizes.astype(np.float64)
    if augmentation.area is not None:
        return _resized_crop(augmentation.area, u, size)
    low, high = augmentation.shorter
    shorter = size.min(axis=1)
    side = shorter / (low + u[:, _SCALE] * (high - low))
    extent = np.repeat(np.maximum(np.rint(side), 1)[:, None], 2, axis=1)
    return _corner(extent, size, None if augmentation.central else u)


def _corner(extent: np.ndarray, size: np.ndarray, u: np.ndarray | None) -> np.ndarray:
    room = size - extent
    corner = np.floor(room / 2) if u is None else np.floor(u[:, [_Y, _X]] * (room + 1))
    return np.concatenate([corner, extent], axis=1).astype(np.int32)


def _resized_crop(area: tuple[float, float], u: np.ndarray, size: np.ndarray) -> np.ndarray:
    tries = u[:, : 2 * _ATTEMPTS].reshape(len(u), _ATTEMPTS, 2)
    pixels = size.prod(axis=1)[:, None] * (area[0] + tries[:, :, 0] * (area[1] - area[0]))
    low, high = np.log(_RATIO[0]), np.log(_RATIO[1])
    ratio = np.exp(low + tries[:, :, 1] * (high - low))
    extents = np.maximum(np.rint(np.stack([np.sqrt(pixels / ratio), np.sqrt(pixels * ratio)], axis=2)), 1)
    fits = (extents <= size[:, None, :]).all(axis=2)
    chosen = extents[np.arange(len(u)), fits.argmax(axis=1)]
    boxes = _corner(chosen, size, u)
    if not fits.any(axis=1).all():
        height, width = size[:, 0], size[:, 1]
        central = np.stack(
            [np.minimum(height, np.rint(width / _RATIO[0])), np.minimum(width, np.rint(height * _RATIO[1]))], axis=1
        )
        boxes = np.where(fits.any(axis=1)[:, None], boxes, _corner(np.maximum(central, 1), size, None))
    return boxes
