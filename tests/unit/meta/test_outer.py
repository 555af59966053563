"""The outer step: a mean in a fixed order, clipped task by task, then SGD or Adam."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from metafuse_ray.config.schema import OuterConfig
from metafuse_ray.meta.outer import OuterOptimizer, mean_gradient
from metafuse_ray.meta.tasks import MetaGradient
from tests.support.meta import random_gradient, random_start


def norm(gradient: MetaGradient) -> float:
    both = np.concatenate([gradient.omega.ravel(), gradient.theta.ravel()]).astype(float)
    return float(np.linalg.norm(both))


def test_the_mean_is_the_mean() -> None:
    gradients = [random_gradient(seed) for seed in range(5)]
    omega, theta = mean_gradient(gradients)
    exact = np.mean([gradient.omega.astype(float) for gradient in gradients], 0)
    np.testing.assert_allclose(omega, exact, rtol=1e-5, atol=1e-7)
    exact = np.mean([gradient.theta.astype(float) for gradient in gradients], 0)
    np.testing.assert_allclose(theta, exact, rtol=1e-5, atol=1e-7)
    assert omega.dtype == theta.dtype == np.float32


def test_one_gradient_is_its_own_mean_to_the_bit() -> None:
    gradient = random_gradient()
    omega, theta = mean_gradient([gradient])
    np.testing.assert_array_equal(omega, gradient.omega)
    np.testing.assert_array_equal(theta, gradient.theta)


def test_the_sum_runs_in_the_order_given() -> None:
    # Float sums depend on their order, so the order must be the caller's.
    gradients = [random_gradient(seed, scale=10.0**seed) for seed in (0, 1, 3, 7)]
    sums = {mean_gradient(order)[1].tobytes() for order in itertools.permutations(gradients)}
    assert len(sums) > 1
    third = np.float32(1 / 3)
    expected = third * gradients[0].omega + third * gradients[1].omega + third * gradients[2].omega
    np.testing.assert_array_equal(mean_gradient(gradients[:3])[0], expected)


def test_the_mean_changes_no_gradient() -> None:
    gradients = [random_gradient(seed) for seed in range(3)]
    before = [gradient.omega.copy() for gradient in gradients]
    mean_gradient(gradients, clip_norm=0.1)
    for gradient, omega in zip(gradients, before, strict=True):
        np.testing.assert_array_equal(gradient.omega, omega)


def test_each_task_is_clipped_to_the_norm_and_short_ones_are_not() -> None:
    short, long = random_gradient(1, scale=0.01), random_gradient(2, scale=100.0)
    omega, theta = mean_gradient([long], clip_norm=2.0)
    assert np.sqrt((omega**2).sum() + (theta**2).sum()) == pytest.approx(2.0, rel=1e-5)
    np.testing.assert_allclose(omega * norm(long) / 2.0, long.omega, rtol=1e-5)
    np.testing.assert_array_equal(mean_gradient([short], clip_norm=2.0)[0], short.omega)
    both = mean_gradient([short, long], clip_norm=2.0)[0]
    expected = (short.omega + long.omega * 2.0 / norm(long)) / 2
    np.testing.assert_allclose(both, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_of_zeros_stays_zero(clip: float | None) -> None:
    omega, theta = mean_gradient([random_gradient(0, scale=0.0)], clip)
    assert not omega.any()
    assert not theta.any()


def test_sgd_is_the_step_of_algorithm_1() -> None:
    start, gradient = random_start(), random_gradient()
    outer = OuterOptimizer(start, OuterConfig(optimizer="sgd", lr=0.1, lr_omega=0.02))
    assert outer.step([gradient]) == pytest.approx(norm(gradient), rel=1e-5)
    expected = start.omega.double() - 0.02 * torch.from_numpy(gradient.omega).double()
    torch.testing.assert_close(outer.omega.detach().double(), expected, rtol=1e-6, atol=1e-6)
    expected = start.theta.double() - 0.1 * torch.from_numpy(gradient.theta).double()
    torch.testing.assert_close(outer.theta.detach().double(), expected, rtol=1e-6, atol=1e-6)


def test_adam_follows_its_formulas() -> None:
    start = random_start()
    outer = OuterOptimizer(start, OuterConfig(optimizer="adam", lr=0.01))
    theta = start.theta.double().numpy()
    first = second = np.zeros_like(theta)
    for step in range(1, 5):
        gradient = random_gradient(step)
        outer.step([gradient])
        slope = gradient.theta.astype(float)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        corrected = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        theta = theta - 0.01 * first / (1 - 0.9**step) / corrected
    np.testing.assert_allclose(outer.theta.detach().numpy(), theta, rtol=1e-4, atol=1e-6)


def test_a_step_size_of_zero_keeps_omega() -> None:
    start = random_start()
    outer = OuterOptimizer(start, OuterConfig(lr=0.1, lr_omega=0))
    outer.step([random_gradient()])
    assert torch.equal(outer.omega, start.omega)
    assert not torch.equal(outer.theta, start.theta)


def test_weights_are_copies_and_the_start_stays() -> None:
    start = random_start()
    kept = start.theta.clone()
    outer = OuterOptimizer(start, OuterConfig(optimizer="sgd", lr=0.1))
    before = outer.weights
    outer.step([random_gradient()])
    np.testing.assert_array_equal(before.theta, kept.numpy())
    assert torch.equal(start.theta, kept)
    assert not np.array_equal(outer.weights.theta, before.theta)
