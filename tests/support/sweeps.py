"""A hand-made sweep: its trials, and the content of its `tune.json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from metafuse_ray.config.load import config_tree
from metafuse_ray.methods.table import METAFUSE, PLUS
from metafuse_ray.runs.settings import load_config
from metafuse_ray.tuning.search_space import search_space
from metafuse_ray.tuning.trials import Score, Trial
from tests.support.evaluation import SIMULATED

ALPHA, BETA, SHOTS = "inner.lr", "outer.lr", "episode.shots"
SETTINGS = {ALPHA: 3.0, BETA: 0.0005, SHOTS: 16}
SPACE = search_space(METAFUSE.searched, SETTINGS, None)


def scores(*values: tuple[int, float | None, float]) -> tuple[Score, ...]:
    """Return scores of (round, loss, jdr)."""
    return tuple(Score(*value, seconds=1.0) for value in values)


def trials() -> list[Trial]:
    """Return the defaults, a better trial, one that was stopped early, and one that diverged."""
    return [
        Trial(1, SETTINGS, scores((15, 1.5, 91.0), (60, 1.4, 92.0)), "finished"),
        Trial(2, {**SETTINGS, ALPHA: 9.5}, scores((15, 1.4, 92.5), (60, 1.2, 93.0)), "finished"),
        Trial(3, {**SETTINGS, SHOTS: 4}, scores((15, 1.7, 90.0)), "stopped"),
        Trial(4, {**SETTINGS, BETA: 0.004}, scores((60, None, 0.0)), "finished"),
    ]


def document(gain: float | None = 0.8, metric: str = "jdr") -> dict[str, Any]:
    """Return what a sweep leaves, its best trial so many points above the defaults."""
    config = load_config(None, ["tune.trials=4", f"tune.metric={metric}"])
    return {
        "trials": [asdict(trial) for trial in trials()],
        "space": [asdict(one) for one in SPACE],
        "rungs": [15, 60],
        "metric": metric,
        "defaults": 1,
        "best": 2,
        "chosen": 1 if gain is not None and gain < 0 else 2,
        "comparison": {
            "draws": 8,
            "jdr_alone": 88.0,
            "defaults": {"jdr": 92.0, "loss": 1.41},
            "best": {"jdr": 92.0 + (gain or 0), "loss": 1.3},
            "gain": {"jdr": gain, "loss": -0.11},
            "error": {"jdr": 0.2, "loss": 0.01},
        },
        "data": {
            "shards": SIMULATED,
            "grid": [32, 32],
            "held_out": ["a b", "b a"],
            "tasks": 132,
        },
        "config": config_tree(config),
    }


def document_of_two() -> dict[str, Any]:
    """Return the same of a sweep over the two step sizes of MetaFuse+."""
    own = {"problem.lr": 0.03, "problem.lr_offsets": 0.05}
    found = document()
    space = [asdict(one) for one in search_space(PLUS.searched, own, None)]
    return found | {
        "space": space,
        "trials": [{**trial, "settings": own} for trial in found["trials"]],
    }
