"""Searchers, which propose a sweep's settings, and schedulers, which stop its poor trials."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from metafuse_ray.errors import ConfigError
from metafuse_ray.tuning.search_space import SearchRange, Settings
from metafuse_ray.tuning.settings import TuneConfig

ROUND = "round"
"""Name of the number in a result that a scheduler takes as time."""
_RANDOM_SHARE = 3
"""One trial in so many, the first ones, is drawn by chance; TPE learns from them."""

logging.getLogger("optuna").setLevel(logging.WARNING)


def tune_space(space: Sequence[SearchRange]) -> dict[str, Any]:
    """Return the ranges as Tune's distributions."""
    return {
        # Both ends included: randint leaves out the upper one.
        one.name: tune.randint(int(one.low), int(one.high) + 1)
        if one.integer
        else tune.loguniform(one.low, one.high)
        for one in space
    }


def make_searcher(
    settings: TuneConfig, first: Sequence[Settings], seed: int
) -> Searcher | SearchAlgorithm:
    """Return the searcher, which proposes settings.

    Args:
        settings: Name the searcher and the number of trials.
        first: Settings to propose before any of its own.
        seed: Of its draws.

    Raises:
        ConfigError: The searcher's package is not installed.
    """
    points = [dict(point) for point in first]
    seed %= 2**31  # what NumPy's old generators take
    if settings.searcher == "random":
        return BasicVariantGenerator(points_to_evaluate=points, random_state=seed)
    if settings.searcher == "hyperopt":
        return _hyperopt(points, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=max(2, settings.trials // _RANDOM_SHARE),
            multivariate=True,
            constant_liar=True,  # running trials count as poor, so no two try the same place
            seed=seed,
        )
    return OptunaSearch(points_to_evaluate=points, sampler=sampler)


def _hyperopt(points: list[dict[str, float]], seed: int) -> Searcher:
    if importlib.util.find_spec("hyperopt") is None:
        raise ConfigError(
            "tune.searcher=hyperopt needs the package hyperopt: pip install hyperopt, or choose"
            " tune.searcher=optuna",
            key="tune.searcher",
        )
    from ray.tune.search.hyperopt import HyperOptSearch

    return HyperOptSearch(points_to_evaluate=points, random_state_seed=seed)


class _SparesFirst:
    """Lets the trial with certain settings go on to the end, whatever the scheduler decides.

    Attributes:
        spared: Its settings: the configuration's own, which the best are compared with.
    """

    spared: Mapping[str, float]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)  # pyright: ignore[reportAttributeAccessIssue]
        return TrialScheduler.CONTINUE if trial.config == self.spared else decision


class _Asha(_SparesFirst, AsyncHyperBandScheduler):
    pass


class _Median(_SparesFirst, MedianStoppingRule):
    pass


def make_scheduler(settings: TuneConfig, rounds: int, spared: Settings) -> TrialScheduler:
    """Return the scheduler, which stops poor trials early.

    Args:
        settings: Name the scheduler and the first rung.
        rounds: Of a whole trial.
        spared: Settings of the trial that always runs to its end.
    """
    if settings.scheduler == "none":
        return FIFOScheduler()
    first = min(settings.first_rung, rounds)
    if settings.scheduler == "asha":
        scheduler = _Asha(
            time_attr=ROUND,
            max_t=rounds,
            grace_period=first,
            reduction_factor=settings.reduction,
        )
    else:
        scheduler = _Median(time_attr=ROUND, grace_period=first, min_samples_required=2)
    scheduler.spared = dict(spared)
    return scheduler
