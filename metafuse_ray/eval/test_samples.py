"""The samples that a rig is judged on, and the frames around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metafuse_ray.adapt.joints import Joints2D
from metafuse_ray.adapt.rig_method import AcrossTime, AdaptedMethod, hide_truth
from metafuse_ray.config.schema import EvaluateConfig
from metafuse_ray.data.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.eval.rigs import rows_around, test_rows


@dataclass(frozen=True, eq=False)
class TestSamples:
    """Test samples of a rig.

    Attributes:
        batch: The samples that count.
        around: Those and the frames before and after, without truth: for methods that listen to
            these.
        rows: Where those that count are in ``around``.
    """

    __test__ = False  # no test, whatever pytest makes of the name
    batch: RigBatch
    around: RigBatch
    rows: np.ndarray

    @classmethod
    def load(cls, shards: ShardSet, rig: tuple[str, ...], settings: EvaluateConfig) -> TestSamples:
        """Read them: of the test part, or of all of ``evaluate.test_shards``.

        Raises:
            NotEnoughFramesError: See `test_rows`.
        """
        whole = settings.test_shards is not None
        rows = test_rows(shards, rig, settings.test_frames, whole)
        wide = rows
        if settings.look_ahead:
            wide = rows_around(shards, rig, rows, settings.around_frames, whole)
        around = load_rig_batch(shards, rig, wide)
        at = np.searchsorted(wide, rows)
        return cls(around.take(at), hide_truth(around, labels=True), at)

    def joints(self, adapted: AdaptedMethod) -> tuple[Joints2D, Joints2D]:
        """Let an adapted method find the joints: for the JDR, and for triangulation."""
        if isinstance(adapted, AcrossTime) and adapted.across_time:
            for_2d, for_3d = adapted.joints(self.around)
            return for_2d.take(self.rows), for_3d.take(self.rows)
        return adapted.joints(hide_truth(self.batch, labels=True))
