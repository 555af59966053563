import numpy as np
import pytest

from metafuse_ray.benchmark.bootstrap import paired_interval


def test_the_interval_is_that_of_the_mean_over_rigs():
    random = np.random.default_rng(0)
    means = random.normal(3.0, 2.0, 200)
    mean, low, high = paired_interval([[value] for value in means])
    error = means.std(ddof=1) / np.sqrt(200)
    assert mean == pytest.approx(means.mean())
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.1 * error)


def test_draws_of_one_rig_do_not_count_as_rigs():
    few = paired_interval([[1.0], [2.0], [4.0]])
    many = paired_interval([[1.0] * 50, [2.0] * 50, [4.0] * 50])
    assert few == many


def test_one_rig_has_no_interval():
    mean, low, high = paired_interval([[1.0, 3.0]])
    assert mean == 2.0
    assert np.isnan([low, high]).all()
