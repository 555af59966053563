"""What a sweep searches: the settings of its problem, about the configuration's own values."""

import numpy as np
import pytest

from metafuse_ray.config.load import from_tree
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.table import METAFUSE, PLUS
from metafuse_ray.tuning.search_space import (
    SearchRange,
    plain_settings,
    rungs,
    say,
    search_space,
)
from metafuse_ray.tuning.settings import TuneConfig
from tests.support.sweeps import ALPHA, BETA, SETTINGS, SHOTS, SPACE


def test_ranges_lie_around_the_configuration_s_own_values():
    own = {ALPHA: 2.0, BETA: 0.01, SHOTS: 12}
    assert search_space(METAFUSE.searched, own, None) == (
        SearchRange(ALPHA, "alpha", 0.2, 20),
        SearchRange(BETA, "beta", 0.001, 0.1),
        SearchRange(SHOTS, "K", 3, 24, integer=True),
    )


def test_each_problem_has_its_own():
    own = {"problem.lr": 0.5, "problem.lr_offsets": 0.25}
    assert search_space(PLUS.searched, own, {}) == (
        SearchRange("problem.lr", "lr", 0.05, 5),
        SearchRange("problem.lr_offsets", "lr_offsets", 0.025, 2.5),
    )


@pytest.mark.parametrize(("own", "low"), [(1, 1), (3, 1), (4, 1), (8, 2)])
def test_a_whole_number_is_never_searched_below_one(own: int, low: int):
    shots = search_space(METAFUSE.searched, {**SETTINGS, SHOTS: own}, None)[2]
    assert (shots.low, shots.high) == (low, 2 * own)


def test_ranges_as_set_are_taken_and_the_rest_is_as_it_was():
    ranges = {ALPHA: (1.0, 5.0), SHOTS: (2.0, 20.0)}
    found = search_space(METAFUSE.searched, SETTINGS, ranges)
    assert [(one.low, one.high) for one in found] == [
        (1, 5),
        (SPACE[1].low, SPACE[1].high),
        (2, 20),
    ]


@pytest.mark.parametrize(
    ("name", "span"), [(ALPHA, (4, 5)), (ALPHA, (1, 2)), (BETA, (1e-6, 1e-5)), (SHOTS, (2, 8))]
)
def test_a_range_without_the_first_trial_s_value_is_refused(name: str, span: tuple[float, float]):
    match = f"{span[0]:g} to {span[1]:g} leaves out {name}={SETTINGS[name]:g}"
    with pytest.raises(ConfigError, match=match) as caught:
        search_space(METAFUSE.searched, SETTINGS, {name: span})
    assert caught.value.key == "tune.ranges"


def test_a_range_of_what_is_not_searched_is_refused():
    match = "inner.steps is not searched; the problem searches inner.lr, outer.lr, episode.shots"
    with pytest.raises(ConfigError, match=match) as caught:
        search_space(METAFUSE.searched, SETTINGS, {"inner.steps": (1, 5)})
    assert caught.value.key == "tune.ranges"


@pytest.mark.parametrize("value", [[5, 1], [2, 2], [0, 1], [1]])
def test_a_range_that_is_none_is_refused(value: list[float]):
    assert from_tree(TuneConfig, {"ranges": {ALPHA: [1, 5]}}, "a test").ranges == {ALPHA: (1, 5)}
    with pytest.raises(ConfigError, match=r"ranges\.inner\.lr"):
        from_tree(TuneConfig, {"ranges": {ALPHA: value}}, "a test")


def test_numbers_of_a_searcher_become_plain():
    found = plain_settings({ALPHA: np.float64(0.7), BETA: 1, SHOTS: np.int64(5)}, SPACE)
    assert found == {ALPHA: 0.7, BETA: 1.0, SHOTS: 5}
    assert [type(value) for value in found.values()] == [float, float, int]


def test_settings_are_said_by_their_symbols():
    assert say({**SETTINGS, ALPHA: 3.14159}, SPACE) == "alpha 3.14, beta 0.0005, K 16"


def test_rungs_end_with_the_last_round():
    assert rungs(15, 2, 60) == (15, 30, 60)
    assert rungs(4, 3, 30) == (4, 12, 30)
    assert rungs(100, 2, 60) == (60,)
