import numpy as np
import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import ConfigError
from metafuse_ray.tuning.search_space import (
    ALPHA,
    BETA,
    SHOTS,
    SearchRange,
    plain_settings,
    rungs,
    search_space,
    settings_of,
    with_settings,
)


def test_ranges_lie_around_the_configuration_s_own_values():
    config = load_config(None, ["inner.lr=2", "outer.lr=0.01", "episode.shots=12"])
    assert search_space(config) == (
        SearchRange(ALPHA, 0.2, 20),
        SearchRange(BETA, 0.001, 0.1),
        SearchRange(SHOTS, 3, 24, integer=True),
    )


def test_ranges_as_set_are_taken():
    config = load_config(
        None, ["tune.inner_lr=[1, 5]", "tune.outer_lr=[1e-4, 1e-3]", "tune.shots=[2, 20]"]
    )
    assert [(one.low, one.high) for one in search_space(config)] == [(1, 5), (1e-4, 1e-3), (2, 20)]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("tune.inner_lr=[4, 5]", "tune.inner_lr"),
        ("tune.outer_lr=[1e-6, 1e-5]", "tune.outer_lr"),
        ("tune.shots=[2, 8]", "tune.shots"),
    ],
)
def test_a_range_without_the_first_trial_s_value_is_refused(override, key):
    with pytest.raises(ConfigError, match="leaves out") as caught:
        search_space(load_config(None, [override]))
    assert caught.value.key == key


@pytest.mark.parametrize("value", ["[5, 1]", "[2, 2]", "[0, 1]", "[1]"])
def test_a_range_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=r"tune\.inner_lr"):
        load_config(None, [f"tune.inner_lr={value}"])


def test_settings_enter_a_configuration_and_come_back():
    settings = {ALPHA: 0.7, BETA: 0.002, SHOTS: 5}
    config = with_settings(load_config(None, ["meta.rounds=7"]), settings)
    assert (config.inner.lr, config.outer.lr, config.episode.shots) == (0.7, 0.002, 5)
    assert settings_of(config) == settings
    assert config.meta.rounds == 7


def test_numbers_of_a_searcher_become_plain():
    found = plain_settings({ALPHA: np.float64(0.7), BETA: 1, SHOTS: np.int64(5)})
    assert found == {ALPHA: 0.7, BETA: 1.0, SHOTS: 5}
    assert [type(value) for value in found.values()] == [float, float, int]


def test_rungs_end_with_the_last_round():
    assert rungs(15, 2, 60) == (15, 30, 60)
    assert rungs(4, 3, 30) == (4, 12, 30)
    assert rungs(100, 2, 60) == (60,)
