"""Search a problem's settings with Ray Tune; every trial owns its driver and its actors.

Tune schedules and searches. After an interruption a sweep goes on from files of its own
(`metafuse_ray.tuning.trials`), because Tune's state is pickled, is written only at intervals, and
would have to be trusted. A sweep that goes on proposes its known trials again, in their order. They
report their known scores at once, so that searcher and scheduler are in their earlier state.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from metafuse_ray import errors
from metafuse_ray.cluster.runtime import actor_bundle, ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import ConfigError, MetaFuseError, WorkerFailedError
from metafuse_ray.seeds import derive_seed
from metafuse_ray.tuning.search_space import plain_settings, say
from metafuse_ray.tuning.searchers import ROUND, make_scheduler, make_searcher, tune_space
from metafuse_ray.tuning.trial import Sweep, run_trial
from metafuse_ray.tuning.trials import Score, Trial, TrialStore

_log = logging.getLogger(__name__)
_RETRIES = 2
"""Times that a trial whose driver died is started again; it goes on from where it was."""
_DIVERGED_LOSS = 1e9
"""Reported for a loss that is not finite, which searchers cannot take."""
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # only the old output can be silenced
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files of its own beside ours
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job, as everywhere
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "60",
}


def search(sweep: Sweep) -> None:
    """Run trials until there are ``tune.trials``, those known already included.

    Args:
        sweep: What the trials share; its folder holds those known.

    Raises:
        ConfigError: A trial asks for more than the cluster has.
        WorkerFailedError: A trial failed again and again.
        MetaFuseError: As a trial raised it.
    """
    settings, store, space = sweep.tune, sweep.store, sweep.space
    known = store.all()
    first = [trial.settings for trial in known]
    if sweep.own not in first:
        # Missing where a sweep ended before its first trial began, or its file was removed.
        first.append(dict(sweep.own))
    with ensure_ray(sweep.cluster), _quiet_tune(), tempfile.TemporaryDirectory() as scratch:
        _check_room(sweep)
        watcher = _Watcher(store, sweep, known)
        # No positional arguments: Tune looks at the signature of what it runs.
        tuner = tune.Tuner(
            tune.with_resources(
                _trainable(sweep), trial_resources(sweep.cluster, settings.driver_cpus)
            ),
            param_space=tune_space(space),
            tune_config=tune.TuneConfig(
                metric=settings.metric,
                mode="max" if settings.metric == "jdr" else "min",
                num_samples=max(settings.trials, len(first)),
                search_alg=make_searcher(
                    settings, first, derive_seed(sweep.seed, "searcher", len(known))
                ),
                scheduler=make_scheduler(settings, sweep.rungs[-1], sweep.own),
                max_concurrent_trials=settings.concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[watcher],
                stop=watcher.stopper,
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
            ),
        )
        results = tuner.fit()
    if watcher.stopper.error is not None:
        raise watcher.stopper.error
    if results.errors:
        text = " ".join(str(results.errors[0]).split())
        raise WorkerFailedError(
            f"{results.num_errors} of {len(results)} trials failed {_RETRIES + 1} times"
            f" (...{text[-300:]}); go on with --resume once the cause is gone",
        )


def trial_resources(cluster: ClusterConfig, driver_cpus: float) -> tune.PlacementGroupFactory:
    """Return what a trial reserves together: a bundle for its driver, and one an actor.

    If they were not in one group, trials could hold drivers whose actors never find room.
    """
    driver = {"CPU": float(driver_cpus)} if driver_cpus > 0 else {}
    return tune.PlacementGroupFactory(
        [driver, *[actor_bundle(cluster) for _ in range(cluster.actors)]]
    )


def _check_room(sweep: Sweep) -> None:
    cluster, settings = sweep.cluster, sweep.tune
    wanted = trial_resources(cluster, settings.driver_cpus).required_resources
    there = ray.cluster_resources()
    for kind, amount in wanted.items():
        found = there.get(kind, 0.0)
        if amount > found + 1e-6:
            raise ConfigError(
                f"a trial asks for {amount:g} {kind}s (tune.driver_cpus, and cluster.actors="
                f"{cluster.actors} times what an actor reserves) and the cluster has"
                f" {found:g}; lower cluster.actors, or cluster.cpus_per_actor to leave the driver"
                " its share",
                key="cluster.actors",
            )
    at_a_time = min(int(there[kind] / amount + 1e-6) for kind, amount in wanted.items() if amount)
    _log.info(
        "each trial reserves %s: %d at a time",
        ", ".join(f"{amount:g} {kind}s" for kind, amount in wanted.items()),
        min(at_a_time, settings.concurrent or at_a_time, settings.trials),
    )


def _trainable(sweep: Sweep) -> Any:
    def trial(config: dict[str, Any]) -> None:
        def report(score: Score) -> None:
            loss = _DIVERGED_LOSS if score.loss is None else score.loss
            tune.report({ROUND: score.round, "jdr": score.jdr, "loss": loss, "score": score})

        logging.getLogger("metafuse_ray").setLevel(logging.WARNING)
        try:
            run_trial(sweep, plain_settings(config, sweep.space), report)
        except MetaFuseError as error:
            # Settings or data are at fault: every trial would fail in this way.
            facts = (type(error).__name__, error.message)
            tune.report({ROUND: 0, "jdr": 0.0, "loss": _DIVERGED_LOSS, "error": facts})

    return trial


class _StopOnError(tune.Stopper):
    """Ends the sweep where a trial fails in a way that every other would.

    Attributes:
        error: The error of that trial.
    """

    def __init__(self) -> None:
        self.error: MetaFuseError | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if "error" in result:
            name, message = result["error"]
            self.error = getattr(errors, name, MetaFuseError)(message)
        return self.error is not None

    def stop_all(self) -> bool:
        return self.error is not None


class _Watcher(tune.Callback):
    """Keeps the trials on disk as they report, and logs them."""

    def __init__(self, store: TrialStore, sweep: Sweep, known: Sequence[Trial]) -> None:
        self.stopper = _StopOnError()
        self._store = store
        self._sweep = sweep
        self._ended = {trial.number for trial in known if trial.state != "running"}
        self._settings = {trial.number: trial for trial in known}
        if known:
            done = len(self._ended)
            _log.info("going on: %d trials are known, %d of them done", len(known), done)

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        settings = self._plain(trial)
        number = self._store.start(settings).number
        if number not in self._ended:
            _log.info("%s starts: %s", self._name(number), say(settings, self._sweep.space))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        score: Score | None = result.get("score")
        if score is None:
            return
        before = self._store.start(self._plain(trial))
        after = self._store.add(before.settings, score)
        if after != before:
            how = "diverged" if score.loss is None else f"loss {score.loss:.4f}"
            _log.info(
                "%s, round %d of %d: JDR %.2f %%, %s after adaptation on held-out cameras",
                self._name(after.number),
                score.round,
                self._sweep.rungs[-1],
                score.jdr,
                how,
            )

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        if self.stopper.error is not None:
            return  # cut off, not done
        before = self._store.start(self._plain(trial))
        if before.state == "running":
            after = self._store.end(before.settings, self._sweep.rungs[-1])
            if after.state == "stopped":
                _log.info("%s is stopped early", self._name(after.number))

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        number = self._store.start(self._plain(trial)).number
        _log.warning("%s failed", self._name(number))

    def _plain(self, trial: TuneTrial) -> dict[str, float]:
        return plain_settings(trial.config, self._sweep.space)

    def _name(self, number: int) -> str:
        return f"trial {number} of {self._sweep.tune.trials}"


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Set Tune's variables inside the block, where no one else has."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
