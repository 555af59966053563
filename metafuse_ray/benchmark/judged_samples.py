"""The samples that a rig is judged on, and the frames around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metafuse_ray.benchmark.rigs import judged_rows, rows_around
from metafuse_ray.methods.interface import AcrossTime, AdaptedMethod, hide_truth
from metafuse_ray.samples.joints import Joints2D
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.shards.shards import ShardSet

_CHUNK = 64
"""Samples around that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class JudgedSamples:
    """Test samples of a rig.

    Attributes:
        batch: The samples.
        shards: Where they come from.
        rig: Names of the cameras.
        rows_around: Rows of the frames before and after, for methods that use them.
    """

    batch: RigBatch
    shards: ShardSet
    rig: tuple[str, ...]
    rows_around: np.ndarray

    @classmethod
    def load(
        cls, shards: ShardSet, rig: tuple[str, ...], settings: SamplesConfig, *, whole: bool
    ) -> JudgedSamples:
        """Read them: of the test part, or of all (``whole``) of ``data.test_shards``.

        Raises:
            NotEnoughFramesError: See `judged_rows`.
        """
        rows = judged_rows(shards, rig, settings.test_frames, whole)
        most = settings.around_frames if settings.look_ahead else 0
        around = np.setdiff1d(rows_around(shards, rig, rows, most, whole), rows)
        return cls(load_rig_batch(shards, rig, rows), shards, rig, around)

    def around(self) -> Iterator[RigBatch]:
        """Read the frames before and after, some at a time, without truth."""
        for start in range(0, len(self.rows_around), _CHUNK):
            rows = self.rows_around[start : start + _CHUNK]
            yield hide_truth(load_rig_batch(self.shards, self.rig, rows), labels=True)

    def joints(self, adapted: AdaptedMethod) -> tuple[Joints2D, Joints2D]:
        """Let an adapted method find the joints: for the JDR, and for triangulation."""
        hidden = hide_truth(self.batch, labels=True)
        if isinstance(adapted, AcrossTime) and adapted.across_time:
            return adapted.joints(hidden, self.around())
        return adapted.joints(hidden)
