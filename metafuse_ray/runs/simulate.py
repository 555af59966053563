"""Write the shards of a simulated dome."""

from __future__ import annotations

import logging

from metafuse_ray.config.load import config_tree
from metafuse_ray.dome.settings import SimulateConfig
from metafuse_ray.dome.simulate import DomePlan
from metafuse_ray.dome.simulate import simulate as plan_dome
from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.progress import track
from metafuse_ray.runs.job import job
from metafuse_ray.runs.reads import WRITTEN
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.shards.blocks import TEST, TRAIN
from metafuse_ray.shards.opening import shards_to_write
from metafuse_ray.shards.splits import split_cameras
from metafuse_ray.shards.writer import ShardWriter

_log = logging.getLogger(__name__)
_ROWS = 256
"""Rows drawn at a time: a long clip at 64 x 64 would fill the memory."""


def _reads(config: RunConfig) -> tuple[str, ...]:
    of_calibration = ("data.camera_type",) if config.simulate.calibration else ()
    return (*WRITTEN, "simulate", *of_calibration)


@job(_reads)
def simulate(config: RunConfig) -> str:
    """Film the simulated dome of ``config.simulate`` into ``config.data.shards``.

    Returns:
        Where the shards are; an older shard set there is replaced once the new one is whole.

    Raises:
        MetaFuseError: A setting, calibration or motion cannot be used, or the folder cannot be
            written; nothing is left half-written.
    """
    plan = plan_dome(config.simulate, config.data, config.seed)
    train, test = split_cameras(config.data, plan.rig.names, config.seed)
    _log.info(
        "filming %d clips of %s motion with %d cameras (%d kept for testing) into %s",
        len(plan.clips),
        config.simulate.motion or "procedural",
        len(plan.rig),
        len(test),
        config.data.shards,
    )
    source = _source(config.simulate, config.seed)
    with shards_to_write(config.data, plan.rig, plan.skeleton, (train, test), source) as writer:
        _write_clips(plan, writer)
    return config.data.shards


def _write_clips(plan: DomePlan, writer: ShardWriter) -> None:
    """Write the clips that show somebody.

    Raises:
        NotEnoughFramesError: None of the training clips does, or none of the test clips.
    """
    empty = {clip.split for clip in plan.clips}
    for clip in track(plan.clips, len(plan.clips), "simulate (clips)"):
        samples, shots = plan.film(clip)
        if not len(samples):
            _log.warning("clip %d shows nobody with two known joints; left out", clip.index)
            continue
        empty.discard(clip.split)
        writer.append_samples(samples)
        for name in shots:
            for block in shots.pieces(name, _ROWS):
                writer.append_camera(name, block)

    if empty:
        splits = " and ".join({TRAIN: "training", TEST: "test"}[split] for split in sorted(empty))
        raise NotEnoughFramesError(
            f"{plan.settings.motion or 'procedural motion'}: nobody with two known joints is in the"
            f" {splits} clips; change simulate.clips, simulate.frames_per_clip or"
            " simulate.frame_step, or choose another simulate.motion",
            key="simulate.motion",
        )


def _source(settings: SimulateConfig, seed: int) -> dict[str, object]:
    return {
        "kind": "simulated dome",
        "seed": seed,
        "simulate": config_tree(settings),
        "truth": "exact projections of simulated motion",
    }
