"""Recipes: the paper's numbers, the shapes of the schedules, what weight decay reaches."""

import pytest
import torch

import resnet
from resnet.recipe import Recipe, decay_groups, load, lr_factor, names


def test_the_paper_s_cifar_recipe() -> None:
    recipe = load("paper", "cifar10", "cifar", 56)
    assert (recipe.batch, recipe.batch_is_global, recipe.lr, recipe.weight_decay) == (128, True, 0.1, 1e-4)
    assert (recipe.momentum, recipe.nesterov, recipe.decay_bn_bias, recipe.label_smoothing) == (0.9, False, True, 0.0)
    assert recipe.cold_lr is None and not recipe.zero_init_residual and recipe.augment == "paper"
    assert recipe.steps == 64_000 and recipe.epochs * (50_000 // 128) >= 64_000
    rates = {step: recipe.lr * lr_factor(recipe, step, 64_000) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)}
    assert rates == pytest.approx({0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001})


def test_the_paper_s_imagenet_recipe() -> None:
    recipe = load("paper", "imagenet", "imagenet", 152)
    assert (recipe.batch, recipe.batch_is_global, recipe.lr, recipe.epochs) == (256, True, 0.1, 90)
    per_epoch = 5_004
    rates = [lr_factor(recipe, epoch * per_epoch, 90 * per_epoch) for epoch in (0, 29, 30, 59, 60, 89)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(("depth", "cold"), [(56, None), (110, 0.01), (1202, 0.01)])
def test_very_deep_cifar_nets_start_cold(depth: int, cold: float | None) -> None:
    recipe = load("paper", "cifar10", "cifar", depth)
    assert recipe.cold_lr == cold
    assert recipe.cold_error == (None if cold is None else 0.8)


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "imagenet"])
def test_one_cycle_rises_to_the_peak_and_falls_to_nothing(dataset: str) -> None:
    recipe = load("fast", dataset, "imagenet" if dataset == "imagenet" else "cifar", 20)
    total = 1000
    rates = [lr_factor(recipe, step, total) for step in range(total)]
    top = rates.index(max(rates))
    assert top == pytest.approx(recipe.warmup * total, abs=2)
    assert max(rates) == pytest.approx(1, abs=0.01) and 0 < rates[0] < 0.02 and 0 < rates[-1] < 0.01
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_a_schedule_of_one_step_has_a_rate() -> None:
    assert 0 < lr_factor(load("fast", "digits", "cifar", 20), 0, 1) <= 1


def test_digits_are_never_mirrored() -> None:
    assert {load(name, "digits", "cifar", 20).augment for name in names()} == {"shift"}


@pytest.mark.parametrize(("name", "kept"), [("paper", 0), ("fast", 2 * 9 + 1)])
def test_weight_decay_spares_bn_and_biases_in_fast_alone(name: str, kept: int) -> None:
    model = resnet.build(family="cifar", depth=8, shortcut="B", num_classes=10)
    groups = decay_groups(model.named_parameters(), load(name, "cifar10", "cifar", 8), 5e-4)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    spared = [parameter for group in groups if group["weight_decay"] == 0 for parameter in group["params"]]
    assert len(spared) == kept and all(isinstance(p, torch.Tensor) and p.ndim == 1 for p in spared)


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="recipe=papr is unknown: did you mean paper"):
        load("papr", "cifar10", "cifar", 20)


def test_a_recipe_checks_its_own_values() -> None:
    recipe = load("paper", "cifar10", "cifar", 110)
    values = {field: getattr(recipe, field) for field in Recipe.__dataclass_fields__}
    with pytest.raises(ValueError, match="schedule='cosine'"):
        Recipe(**{**values, "schedule": "cosine"})
    with pytest.raises(ValueError, match="cold_lr and cold_error go together"):
        Recipe(**{**values, "cold_error": None})
