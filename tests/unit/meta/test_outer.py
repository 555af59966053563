"""The outer step: SGD or Adam along the mean gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metafuse_ray.meta.outer import OuterOptimizer
from tests.support.meta import STEP_SIZES, gradient_norm, random_gradient, random_start


def test_sgd_is_the_step_of_algorithm_1() -> None:
    start, gradient = random_start(), random_gradient()
    outer = OuterOptimizer(start.named, {"omega": 0.02, "theta": 0.1}, "sgd")
    assert outer.step(gradient.arrays) == pytest.approx(gradient_norm(gradient), rel=1e-5)
    expected = start.omega.double() - 0.02 * torch.from_numpy(gradient.arrays["omega"]).double()
    torch.testing.assert_close(
        outer.tensors["omega"].detach().double(), expected, rtol=1e-6, atol=1e-6
    )
    expected = start.theta.double() - 0.1 * torch.from_numpy(gradient.arrays["theta"]).double()
    torch.testing.assert_close(
        outer.tensors["theta"].detach().double(), expected, rtol=1e-6, atol=1e-6
    )


def test_adam_follows_its_formulas() -> None:
    start = random_start()
    outer = OuterOptimizer(start.named, {"omega": 0.0001, "theta": 0.01}, "adam")
    theta = start.theta.double().numpy()
    first = second = np.zeros_like(theta)
    for step in range(1, 5):
        gradient = random_gradient(step)
        outer.step(gradient.arrays)
        slope = gradient.arrays["theta"].astype(float)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        corrected = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        theta = theta - 0.01 * first / (1 - 0.9**step) / corrected
    np.testing.assert_allclose(outer.tensors["theta"].detach().numpy(), theta, rtol=1e-4, atol=1e-6)


def test_a_step_size_of_zero_keeps_omega() -> None:
    start = random_start()
    outer = OuterOptimizer(start.named, {"omega": 0.0, "theta": 0.1}, "adam")
    outer.step(random_gradient().arrays)
    assert torch.equal(outer.tensors["omega"], start.omega)
    assert not torch.equal(outer.tensors["theta"], start.theta)


def test_weights_are_copies_and_the_start_stays() -> None:
    start = random_start()
    kept = start.theta.clone()
    outer = OuterOptimizer(start.named, STEP_SIZES, "sgd")
    before = outer.weights
    outer.step(random_gradient().arrays)
    np.testing.assert_array_equal(before.arrays["theta"], kept.numpy())
    assert torch.equal(start.theta, kept)
    assert not np.array_equal(outer.weights.arrays["theta"], before.arrays["theta"])
