"""Training rigs and their episodes: what a method may know of each, and what it is judged on.

Every draw comes from (seed, rig), and for the query samples from (seed, round, index).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.meta.tasks import Cameras
from metafuse_ray.methods.plus.settings import PlusSettings
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch, rig_rows, thinned
from metafuse_ray.samples.time_blocks import time_blocks
from metafuse_ray.seeds import generator
from metafuse_ray.shards.blocks import TRAIN
from metafuse_ray.shards.shards import ShardSet

_log = logging.getLogger(__name__)
_BLOCKS = 3
"""Blocks of time that a single clip is cut into; a rig is judged on one of them."""


@dataclass(frozen=True, eq=False)
class RigPeriod:
    """A training rig as a method sees it.

    Attributes:
        unlabelled: Samples of the labelling period.
        asked: Some of the samples to judge it on; only their detections may be used.
        labelled: Some of ``unlabelled``, with noise on the labels; None where it has no labels.
        calibration: As given, with errors; None where none is.
        query_rows: Rows of the shards to judge it on, apart in time.
    """

    unlabelled: RigBatch
    asked: RigBatch
    labelled: RigBatch | None
    calibration: Rig | None
    query_rows: np.ndarray


def draw_training_rigs(
    sampler: RigEpisodes, cameras: Sequence[str], views: Sequence[int], count: int, stream: str
) -> list[Cameras]:
    """Draw rigs of some cameras whose views share enough people.

    Args:
        sampler: Of the episodes.
        cameras: To draw from.
        views: Numbers of cameras of a rig, to draw from.
        count: How many rigs to draw.
        stream: Address of the draws.

    Raises:
        NotEnoughFramesError: No rig has samples for both a labelling period and a query.
    """
    cameras = sorted(cameras)
    sizes = [number for number in views if number <= len(cameras)] or [len(cameras)]
    rigs, left_out = [], 0
    for number in range(count):
        random = generator(sampler.seed, stream, number)
        size = int(random.choice(sizes))
        rig = tuple(str(name) for name in random.choice(cameras, size, replace=False))
        if min(len(rows) for rows in sampler.split(rig)) > 0:
            rigs.append(rig)
        else:
            left_out += 1
    if not rigs:
        raise NotEnoughFramesError(
            f"no rig of the training cameras of {sampler.shards.directory} has samples that two of"
            " its views see, for both labels and queries; record more, or raise problem.rigs",
            frames=0,
        )
    if left_out:
        _log.warning("%d of %d rigs left out: too few samples", left_out, count)
    return rigs


class RigEpisodes:
    """Draw the periods and queries of training rigs.

    Args:
        shards: Where the samples are.
        settings: Sizes and errors.
        seed: The run's seed.
    """

    def __init__(self, shards: ShardSet, settings: PlusSettings, seed: int) -> None:
        self.shards = shards
        self._settings = settings
        self.seed = seed

    def split(self, rig: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a rig's labelling period and those it is judged on.

        The period is one clip; where there is no other, all but one block of its time.
        """
        rows = rig_rows(self.shards, rig, self.shards.rows(TRAIN))
        random = generator(self.seed, "period", *rig)
        clip_of = self.shards.samples.clip[rows]
        clips = np.unique(clip_of)
        if len(clips) > 1:
            inside = clip_of == random.choice(clips)
        else:
            block_of = time_blocks(self.shards.samples.frame[rows], _BLOCKS)
            inside = block_of != random.integers(_BLOCKS)
        return rows[inside], rows[~inside]

    def period(self, rig: Sequence[str]) -> RigPeriod:
        """Draw what a method may know of a rig."""
        settings = self._settings
        rows, query_rows = self.split(rig)
        random = generator(self.seed, "rig period", *rig)
        unlabelled = load_rig_batch(self.shards, rig, thinned(rows, settings.unlabelled))
        return RigPeriod(
            unlabelled,
            load_rig_batch(self.shards, rig, thinned(query_rows, settings.unlabelled)),
            self._labelled(unlabelled, random),
            self._calibration(unlabelled.rig, random),
            query_rows,
        )

    def query(
        self, round_number: int, index: int, rows: np.ndarray, rig: Sequence[str]
    ) -> RigBatch:
        """Draw the samples that a rig is judged on in one round."""
        random = generator(self.seed, "query", round_number, index)
        count = min(self._settings.queries, len(rows))
        return load_rig_batch(self.shards, rig, random.choice(rows, count, replace=False))

    def _labelled(self, batch: RigBatch, random: np.random.Generator) -> RigBatch | None:
        """Some consecutive samples, log-uniform in number, or none."""
        most = min(self._settings.labels, len(batch))
        frames = math.floor(math.exp(random.uniform(0, math.log(most + 1)))) - random.integers(2)
        if frames <= 0:
            return None
        rows = np.sort(np.roll(np.arange(len(batch)), -int(random.integers(len(batch))))[:frames])
        labelled = batch.take(rows)
        noise_px = random.uniform(0, self._settings.label_noise_px)
        return labelled.with_label_noise(noise_px, random.normal(size=labelled.label_VBJ2.shape))

    def _calibration(self, true: Rig, random: np.random.Generator) -> Rig | None:
        degrees = random.uniform(0, self._settings.degrees)
        return None if random.random() < 0.5 else turn_cameras(true, degrees, random)
