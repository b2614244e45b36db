import numpy as np
import pytest

from resnet.data.images import augment
from resnet.data.images.augment import COLUMNS, draws, place, resolve, windows

POSITIONS = np.arange(4000)


def test_draws_depend_on_the_position_and_not_on_the_batch():
    whole = draws(3, 5, POSITIONS)
    assert whole.shape == (4000, COLUMNS)
    assert (whole[100:164] == draws(3, 5, POSITIONS[100:164])).all()
    assert (draws(3, 6, POSITIONS) != whole).mean() > 0.99
    assert (draws(4, 5, POSITIONS) != whole).mean() > 0.99
    # Neighbours do not share a counter.
    assert len(np.unique(whole)) == whole.size
    assert abs(whole.mean() - 0.5) < 0.01 and whole.min() >= 0 and whole.max() < 1


def test_shifts_cover_every_offset_evenly_and_flips_are_half():
    cifar = resolve("paper", "cifar10", image_size=32, train=True)
    placement = place(cifar, draws(0, 0, POSITIONS))
    assert set(placement.shifts.ravel().tolist()) == set(range(-4, 5))
    assert np.bincount(placement.shifts.ravel() + 4).min() > 700
    assert 0.45 < placement.flips.mean() < 0.55
    assert placement.colour is None


def test_digits_are_never_mirrored_and_shift_means_no_flips():
    for policy in ("paper", "fast", "shift"):
        resolved = resolve(policy, "digits", image_size=32, train=True)
        assert resolved.pad == (2 if policy == "fast" else 4) and not resolved.flips
    assert not resolve("shift", "cifar10", image_size=32, train=True).flips
    assert resolve("paper", "cifar10", image_size=32, train=True).flips
    assert resolve("fast", "cifar10", image_size=64, train=True).pad == 4


def test_evaluation_and_none_move_nothing():
    for policy, train in (("paper", False), ("fast", False), ("none", True)):
        resolved = resolve(policy, "cifar10", image_size=32, train=train)
        placement = place(resolved, draws(0, 0, POSITIONS))
        assert not placement.shifts.any() and not placement.flips.any() and placement.colour is None
    assert resolve("paper", "imagenet", image_size=224, train=False).per_pixel
    assert not resolve("fast", "imagenet", image_size=224, train=False).per_pixel


def test_policy_names_are_checked():
    with pytest.raises(ValueError, match="augment=fats: expected one of paper, fast, shift, none"):
        resolve("fats", "cifar10", image_size=32, train=True)
    with pytest.raises(ValueError, match="augment=shift"):
        resolve("shift", "imagenet", image_size=224, train=True)


@pytest.mark.parametrize("policy", ["paper", "fast", "none"])
@pytest.mark.parametrize("size", [64, 224])
def test_windows_are_inside_the_image(policy, size):
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 700, (len(POSITIONS), 2))
    resolved = resolve(policy, "imagenet", image_size=size, train=True)
    boxes = windows(resolved, draws(1, 1, POSITIONS), sizes)
    assert boxes.dtype == np.int32
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()


def test_resized_crop_has_the_documented_area_and_aspect():
    sizes = np.tile([375, 500], (len(POSITIONS), 1))
    resolved = resolve("fast", "imagenet", image_size=224, train=True)
    boxes = windows(resolved, draws(1, 1, POSITIONS), sizes)
    share = boxes[:, 2] * boxes[:, 3] / (375 * 500)
    aspect = boxes[:, 3] / boxes[:, 2]
    assert 0.245 < share.min() < 0.27 and share.max() > 0.95
    # Less than 0.625: large areas fit in fewer aspects.
    assert 0.51 < share.mean() < 0.55
    assert 0.74 < aspect.min() and aspect.max() < 1.35
    # Corners reach all edges.
    assert boxes[:, 0].min() == 0 and (boxes[:, 0] + boxes[:, 2]).max() == 375


def test_resized_crop_falls_back_to_the_centre_of_extreme_images():
    sizes = np.tile([20, 1000], (len(POSITIONS), 1))
    resolved = resolve("fast", "imagenet", image_size=224, train=True)
    boxes = windows(resolved, draws(1, 1, POSITIONS), sizes)
    assert (boxes == [0, (1000 - 27) // 2, 20, 27]).all()


def test_paper_scale_puts_the_shorter_side_between_256_and_480():
    sizes = np.tile([375, 500], (len(POSITIONS), 1))
    boxes = windows(resolve("paper", "imagenet", image_size=224, train=True), draws(1, 1, POSITIONS), sizes)
    assert (boxes[:, 2] == boxes[:, 3]).all()
    shorter = 375 * 224 / boxes[:, 2]
    assert 254 < shorter.min() < 260 and 470 < shorter.max() < 483
    assert abs(shorter.mean() - 368) < 4


@pytest.mark.parametrize(
    ("source", "size", "expected"),
    [
        ((512, 512), 224, [32, 32, 448, 448]),
        ((375, 500), 224, [23, 86, 328, 328]),
        ((256, 300), 224, [16, 38, 224, 224]),
        ((128, 128), 128, [8, 8, 112, 112]),
        ((130, 128), 128, [9, 8, 112, 112]),
        ((128, 128), 64, [8, 8, 112, 112]),
        ((100, 90), 128, [10, 5, 79, 79]),
    ],
)
def test_evaluation_takes_the_central_crop_at_shorter_side_256_whatever_the_size_of_the_image(source, size, expected):
    resolved = resolve("fast", "imagefolder", image_size=size, train=False)
    assert windows(resolved, draws(0, 0, np.arange(1)), np.array([source])).tolist() == [expected]


def test_colour_noise_has_the_covariance_of_the_components():
    placement = place(resolve("paper", "imagenet", image_size=224, train=True), draws(0, 0, np.arange(40_000)))
    vectors = augment._PCA * 0.1
    assert placement.colour.dtype == np.float32 and placement.colour.shape == (40_000, 3)
    assert np.allclose(np.cov(placement.colour.T), vectors @ vectors.T, atol=2e-5)
    assert np.allclose(placement.colour.mean(axis=0), 0, atol=5e-4)
