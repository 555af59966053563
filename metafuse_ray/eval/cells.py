"""One cell of the evaluation: a method on a rig with N labelled frames of one draw."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from metafuse_ray.adapt.joints import rig_detections, rig_errors
from metafuse_ray.adapt.methods import make_method
from metafuse_ray.adapt.rig import AdaptedRig, adapt_rig
from metafuse_ray.config.schema import Method, RunConfig
from metafuse_ray.data.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.eval.rigs import labelled_rows, test_rows
from metafuse_ray.models.start import FusionWeights
from metafuse_ray.pose.skeleton import Skeleton

_log = logging.getLogger(__name__)
JDR_GROUPS = ("shoulder", "knee", "ankle")


@dataclass(frozen=True)
class Cell:
    """What to evaluate; together with the configuration it fixes every number.

    Attributes:
        labelled_frames: N; 0 for a method that uses none.
        draw: Which draw of the labelled frames.
    """

    rig: tuple[str, ...]
    labelled_frames: int
    draw: int
    method: Method


@dataclass(frozen=True)
class CellResult:
    """Scores of a cell on test frames.

    Attributes:
        jdr: Percent of joints found, by joint group, and ``average`` over all joints.
        mpjpe_mm: Mean 3D joint error by robust triangulation, in mm.
        choice: What held-out labelled frames chose (`metafuse_ray.adapt.rig.Choice`).
        test_samples: Person-frames judged.
    """

    cell: Cell
    jdr: dict[str, float]
    mpjpe_mm: float
    choice: dict[str, float]
    test_samples: int


class CellWorker:
    """Evaluates cells; the test samples of the last rig stay loaded.

    Args:
        config: The run.
        weights: The meta-learned start.
    """

    def __init__(self, config: RunConfig, weights: FusionWeights | None) -> None:
        self._config = config
        self._weights = weights
        self._shards = ShardSet.open(config.data.shards)
        other = config.evaluate.test_shards
        self._test_shards = ShardSet.open(other) if other else self._shards
        self._test_batch = lru_cache(maxsize=1)(self._load_test_batch)

    def __call__(self, cell: Cell) -> CellResult:
        """Adapt the cell's method to its rig and judge it on test frames."""
        adapted, test = self.adapt(cell)
        joints_2d, joints_3d = adapted.joints(test)
        errors = rig_errors(test, joints_3d, self._config.evaluate.robust_threshold_px)
        return CellResult(
            cell=cell,
            jdr=jdr_percent(rig_detections(test, joints_2d), self._shards.skeleton),
            mpjpe_mm=float(np.nanmean(errors)) * test.rig.mm_per_unit,
            choice=asdict(adapted.choice),
            test_samples=len(test),
        )

    def adapt(self, cell: Cell) -> tuple[AdaptedRig, RigBatch]:
        """Adapt the cell's method to its rig; return it with the test samples to judge it on."""
        labelled = self._load_labelled(cell)
        method = make_method(cell.method, self._config, self._weights)
        address = (*cell.rig, cell.labelled_frames, cell.draw)
        adapted = adapt_rig(method, labelled, self._config, address)
        return adapted, self._test_batch(cell.rig)

    def _load_labelled(self, cell: Cell) -> RigBatch:
        # A method without labels still has a batch, of which it uses the views alone.
        frames = max(cell.labelled_frames, 1)
        address = (self._config.seed, cell.draw)
        clips = self._config.evaluate.label_clips
        rows = labelled_rows(self._shards, cell.rig, frames, clips, address)
        return load_rig_batch(self._shards, cell.rig, rows)

    def _load_test_batch(self, rig: tuple[str, ...]) -> RigBatch:
        most = self._config.evaluate.test_frames
        whole = self._config.evaluate.test_shards is not None
        return load_rig_batch(
            self._test_shards, rig, test_rows(self._test_shards, rig, most, whole)
        )


def jdr_percent(detections_VBJ: np.ndarray, skeleton: Skeleton) -> dict[str, float]:
    """Average detections to the joint detection rate of each group and of all joints, percent."""
    rates = {}
    with warnings.catch_warnings():
        # A group that no view sees has no rate: NaN is the answer, not a warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        for name in JDR_GROUPS:
            group = list(skeleton.groups[name])
            rates[name] = 100 * float(np.nanmean(detections_VBJ[:, :, group]))
        rates["average"] = 100 * float(np.nanmean(detections_VBJ))
    return rates
