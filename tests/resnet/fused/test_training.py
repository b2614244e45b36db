"""Whole networks of the CIFAR family over the fused kernels train as over torch, in fp32, step by step."""

import pytest
from same_training import check_five_steps, check_one_step, five_steps

pytestmark = pytest.mark.interpreted

NETS = ("cifar20-none", "cifar20-A", "cifar20-B", "cifar20-C", "onelayer8-A", "onelayer8-B", "onelayer8-C")


@pytest.mark.parametrize("name", NETS)
def test_one_step_gives_the_same_losses_gradients_and_statistics(name):
    check_one_step(name)


@pytest.mark.parametrize("name", five_steps(NETS))
def test_five_steps_stay_as_close_to_fp64_as_torch_does(name):
    check_five_steps(name)
