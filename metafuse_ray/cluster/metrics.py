"""Rounds of a meta-training as Ray metrics: Prometheus, `docs/grafana_dashboard.json`."""

from __future__ import annotations

import math

from ray.util.metrics import Counter, Gauge, Histogram

from metafuse_ray.meta.trainer import RoundRecord

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]


class RayMetricsSink:
    """Adds every round to counters, gauges and a histogram of this process's Ray session.

    Ray exports them under these names with `ray_` in front.
    """

    def __init__(self) -> None:
        self._rounds = Counter("metafuse_rounds", "Outer steps taken.")
        self._events = {
            "bad_tasks": Counter("metafuse_bad_tasks", "Tasks left out: loss not finite."),
            "retries": Counter("metafuse_retries", "Tasks done again after a failure."),
            "replaced": Counter("metafuse_replaced_actors", "Actors replaced."),
            "reissued": Counter("metafuse_stragglers", "Late tasks given to a second actor."),
        }
        self._levels = {
            "actors": Gauge("metafuse_actors", "Actors ready for tasks."),
            "tasks_per_second": Gauge("metafuse_tasks_per_second", "Tasks over wall time."),
            "support_loss": Gauge("metafuse_support_loss", "Mean before the inner step."),
            "query_loss": Gauge("metafuse_query_loss", "Mean after the inner step."),
            "gradient_norm": Gauge("metafuse_gradient_norm", "Of the averaged outer gradient."),
        }
        self._seconds = Histogram("metafuse_round_seconds", "Wall time of a round.", _SECONDS)

    def __call__(self, record: RoundRecord) -> None:
        """Add the record."""
        self._rounds.inc()
        self._seconds.observe(record.seconds)
        for name, counter in self._events.items():
            if (count := getattr(record, name)) > 0:
                counter.inc(count)
        for name, gauge in self._levels.items():
            if math.isfinite(value := getattr(record, name)):
                gauge.set(value)
