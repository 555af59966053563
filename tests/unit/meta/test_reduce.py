"""The mean of a round: which tasks count, how they are clipped, and one order of summation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from metafuse_ray.meta.reduce import RoundSum, join, norm_of, sum_gradients
from metafuse_ray.meta.tasks import MetaGradient, Task
from tests.support.meta import PAIRS, gradient_norm, mean_gradient, random_gradient


def gradients_of(
    tasks: int, bad: tuple[int, ...] = (), scale: float | None = None
) -> list[MetaGradient]:
    """A round's gradients, of very different sizes unless a scale is given."""
    return [
        random_gradient(
            index,
            10.0 ** (index % 5) if scale is None else scale,
            Task(0, index, PAIRS[index % len(PAIRS)]),
            math.nan if index in bad else 1.0 + index,
        )
        for index in range(tasks)
    ]


def bits(total: RoundSum) -> tuple[bytes, ...]:
    return tuple(array.tobytes() for array in total.mean().values())


def test_the_mean_is_the_mean() -> None:
    gradients = gradients_of(5, scale=1.0)
    omega, theta = sum_gradients(gradients, 5, None).mean().values()
    exact_omega, exact_theta = mean_gradient(gradients).values()
    np.testing.assert_allclose(omega, exact_omega, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(theta, exact_theta, rtol=1e-5, atol=1e-7)
    assert omega.dtype == theta.dtype == np.float32


def test_one_gradient_is_its_own_mean_to_the_bit() -> None:
    (gradient,) = gradients_of(1)
    omega, theta = sum_gradients([gradient], 1, None).mean().values()
    np.testing.assert_array_equal(omega, gradient.arrays["omega"])
    np.testing.assert_array_equal(theta, gradient.arrays["theta"])


def test_the_sum_is_the_tree_whatever_comes_first() -> None:
    gradients = gradients_of(5)
    g = [gradient.arrays["theta"] for gradient in gradients]
    expected = np.float32(1 / 5) * (((g[0] + g[1]) + (g[2] + g[3])) + g[4])
    in_turn = np.float32(1 / 5) * (g[0] + g[1] + g[2] + g[3] + g[4])
    assert not np.array_equal(expected, in_turn)  # so that the order shows in the bits
    for order in itertools.permutations(gradients):
        total = sum_gradients(order, 5, None)
        np.testing.assert_array_equal(total.mean()["theta"], expected)
        assert [report.task.index for report in total.reports] == [0, 1, 2, 3, 4]


def test_the_mean_changes_no_gradient() -> None:
    gradients = gradients_of(3)
    for gradient in gradients:
        gradient.arrays["omega"].setflags(write=False)  # as what Ray hands over without a copy
    before = [gradient.arrays["theta"].copy() for gradient in gradients]
    sum_gradients(gradients, 3, 0.1).mean()
    for gradient, theta in zip(gradients, before, strict=True):
        np.testing.assert_array_equal(gradient.arrays["theta"], theta)


def test_each_task_is_clipped_to_the_norm_and_short_ones_are_not() -> None:
    short, long = random_gradient(0, scale=0.01), random_gradient(1, scale=100.0)
    (clipped,) = sum_gradients([long], 2, 2.0).parts
    assert clipped.arrays is not None
    np.testing.assert_allclose(
        clipped.arrays["omega"] * gradient_norm(long) / 2.0, long.arrays["omega"], rtol=1e-5
    )
    length = norm_of(clipped.arrays)
    assert length == pytest.approx(2.0, rel=1e-5)
    theta = sum_gradients([short, long], 2, 2.0).mean()["theta"]
    expected = (short.arrays["theta"] + long.arrays["theta"] * 2.0 / gradient_norm(long)) / 2
    np.testing.assert_allclose(theta, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_of_zeros_stays_zero(clip: float | None) -> None:
    omega, theta = sum_gradients([random_gradient(0, scale=0.0)], 1, clip).mean().values()
    assert not omega.any()
    assert not theta.any()


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("bad", [(), (0,), (2, 3), (0, 1, 2, 3), (10,)])
def test_groups_of_any_size_give_the_bits_of_the_flat_sum(
    clip: float | None, bad: tuple[int, ...]
) -> None:
    gradients = gradients_of(11, bad)
    flat = sum_gradients(gradients, 11, clip)
    for size in (1, 2, 3, 4, 8, 10):
        cuts = range(0, 11, size)
        groups = [sum_gradients(gradients[at : at + size], 11, clip) for at in cuts]
        total = join(groups[::-1], 11)
        assert bits(total) == bits(flat)
        assert total.reports == flat.reports
    assert [report.finite for report in flat.reports] == [index not in bad for index in range(11)]


def test_a_task_that_is_not_finite_is_left_out_of_the_mean() -> None:
    gradients = gradients_of(6, bad=(1, 4), scale=1.0)
    good = [gradient for gradient in gradients if gradient.finite]
    theta = sum_gradients(gradients, 6, None).mean()["theta"]
    np.testing.assert_allclose(theta, mean_gradient(good)["theta"], rtol=1e-5, atol=1e-7)


def test_a_group_of_neighbours_hands_over_few_sums() -> None:
    gradients = gradients_of(100)
    assert len(sum_gradients(gradients[:64], 100, None).parts) == 1
    assert len(sum_gradients(gradients[64:], 100, None).parts) == 1
    assert len(sum_gradients(gradients[33:66], 100, None).parts) <= 2 * 7


def test_what_is_not_a_whole_round_has_no_mean() -> None:
    gradients = gradients_of(4)
    with pytest.raises(ValueError, match="2 partial sums are not a round"):
        sum_gradients(gradients[:3], 4, None).mean()
    with pytest.raises(ValueError, match="no task of the round is finite"):
        sum_gradients(gradients_of(2, bad=(0, 1)), 2, None).mean()
