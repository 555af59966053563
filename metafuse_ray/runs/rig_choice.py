"""Which rig the adapt job adapts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from metafuse_ray.benchmark.rigs import draw_rigs
from metafuse_ray.benchmark.settings import EvaluateConfig
from metafuse_ray.errors import ConfigError
from metafuse_ray.runs.weights import trained_on
from metafuse_ray.shards.shards import ShardSet

_log = logging.getLogger(__name__)
_KEY = "adapt.cameras"


def choose_rig(
    cameras: tuple[str, ...] | None, evaluate: EvaluateConfig, seed: int, run: str, shards: ShardSet
) -> tuple[str, ...]:
    """Return the names of ``adapt.cameras``, or of the first rig that `evaluate` would draw.

    Warns where the weights were trained on some of them.

    Args:
        cameras: ``adapt.cameras``.
        evaluate: How `evaluate` draws rigs.
        seed: Of its draws.
        run: The run whose weights the rig is adapted from.
        shards: Where its samples are.

    Raises:
        ConfigError: A camera is unknown, given twice or alone, or there are too few test cameras to
            draw a rig.
    """
    if cameras is None:
        return _first_test_rig(evaluate, seed, shards)
    _check_names(cameras, shards)
    trained = trained_on(run, shards, cameras)
    if trained:
        _log.warning(
            "%s was trained on %s: its results there do not apply to new cameras",
            run,
            ", ".join(trained),
        )
    return cameras


def _first_test_rig(settings: EvaluateConfig, seed: int, shards: ShardSet) -> tuple[str, ...]:
    views, names = settings.views[0], shards.manifest.test_cameras
    if len(names) < views:
        raise ConfigError(
            f"{_KEY}: {shards.location} has {len(names)} test cameras, too few for a rig of"
            f" {views} views (evaluate.views); name the rig's cameras, from"
            f" {', '.join(shards.rig.names)}",
            key=_KEY,
        )
    rigs = min(settings.rigs, math.comb(len(names), views))
    return draw_rigs(names, views, rigs, seed)[0]


def _check_names(cameras: Sequence[str], shards: ShardSet) -> None:
    known = ", ".join(shards.rig.names)
    unknown = [name for name in cameras if name not in shards.rig.names]
    if unknown:
        raise ConfigError(
            f"{_KEY}: {shards.location} has no camera {', '.join(unknown)}; it has {known}",
            key=_KEY,
            cameras=unknown,
            known=shards.rig.names,
        )
    if len(set(cameras)) < max(2, len(cameras)):
        raise ConfigError(
            f"{_KEY}: expected two or more different cameras, got"
            f" {', '.join(cameras) or 'none'}; choose from {known}",
            key=_KEY,
        )
