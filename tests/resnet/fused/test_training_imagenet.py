"""Whole networks of the ImageNet family over the fused kernels train as over torch, in fp32, step by step."""

import pytest
from same_training import check_five_steps, check_one_step, five_steps

pytestmark = pytest.mark.interpreted

NETS = ("bottleneck-v1-B", "bottleneck-v1.5-B", "bottleneck-v1-A", "bottleneck-v1.5-C", "basic-none", "basic-A")


@pytest.mark.parametrize("name", NETS)
def test_one_step_gives_the_same_losses_gradients_and_statistics(name):
    check_one_step(name)


@pytest.mark.parametrize("name", five_steps(NETS))
def test_five_steps_stay_as_close_to_fp64_as_torch_does(name):
    check_five_steps(name)
