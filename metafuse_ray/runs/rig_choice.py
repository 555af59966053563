"""Which rig the adapt job adapts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from metafuse_ray.benchmark.rigs import draw_rigs
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import ConfigError
from metafuse_ray.runs.weights import adapted_run, trained_on
from metafuse_ray.shards.shards import ShardSet

_log = logging.getLogger(__name__)
_KEY = "adapt.cameras"


def choose_rig(config: RunConfig, shards: ShardSet) -> tuple[str, ...]:
    """Return the names of ``adapt.cameras``, or of the first rig that `evaluate` would draw.

    Warns where the checkpoint was trained on some of them.

    Raises:
        ConfigError: A camera is unknown, comes twice or is alone, or there are too few test
            cameras to draw a rig.
    """
    cameras = config.adapt.cameras
    if cameras is None:
        return _first_test_rig(config, shards)
    _check_names(cameras, shards)
    run = adapted_run(config) or ""
    trained = trained_on(run, shards, cameras)
    if trained:
        _log.warning(
            "%s was trained on %s: what it reaches there says nothing about new cameras",
            run,
            ", ".join(trained),
        )
    return cameras


def _first_test_rig(config: RunConfig, shards: ShardSet) -> tuple[str, ...]:
    views, names = config.evaluate.views[0], shards.manifest.test_cameras
    if len(names) < views:
        raise ConfigError(
            f"{_KEY}: {shards.location} has {len(names)} test cameras, too few for a rig of"
            f" {views} views (evaluate.views); name the rig's cameras, from"
            f" {', '.join(shards.rig.names)}",
            key=_KEY,
        )
    rigs = min(config.evaluate.rigs, math.comb(len(names), views))
    return draw_rigs(names, views, rigs, config.seed)[0]


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
