"""One cell of the benchmark: a method on a rig with N labelled frames of one draw."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from metafuse_ray.benchmark.judged_samples import JudgedSamples
from metafuse_ray.benchmark.positions import position_errors
from metafuse_ray.benchmark.rig_task import make_task
from metafuse_ray.benchmark.settings import Calibration
from metafuse_ray.benchmark.setup import Setup, Weights
from metafuse_ray.methods.interface import AdaptedMethod, RigTask
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.joints import own_joints, rig_detections
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet

JDR_GROUPS = ("shoulder", "knee", "ankle")


@dataclass(frozen=True)
class Cell:
    """What to evaluate; together with the configuration it fixes every number.

    Attributes:
        labelled_frames: N; 0 for a method that uses none.
        draw: Which draw of the labelled frames, their noise and the calibration's errors.
        calibration: What the method is given; None for one that uses no calibration.
        fold: Which block of time is for testing.
        data: Name of the data set, of ``evaluate.data_sets``.
    """

    rig: tuple[str, ...]
    labelled_frames: int
    draw: int
    method: str
    calibration: Calibration | None = None
    fold: int = 0
    data: str = ""


@dataclass(frozen=True)
class CellResult:
    """Scores of a cell on test frames.

    Attributes:
        jdr: Percent of joints found, by joint group, and ``average`` over all joints.
        mpjpe_mm: Mean 3D joint error in mm by robust triangulation with the method's calibration;
            NaN where it has none.
        choice: What the method chose (`AdaptedMethod.chosen`).
        test_samples: Person-frames judged.
        positions_mm: The same error by every one of ``evaluate.positions``.
        missed: Number of views ("0" and up) -> percent of all joints that are missed although that
            many views find them by themselves; their sum is 100 minus the average JDR.
    """

    cell: Cell
    jdr: dict[str, float]
    mpjpe_mm: float
    choice: dict[str, float]
    test_samples: int
    positions_mm: dict[str, float]
    missed: dict[str, float]

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> CellResult:
        """Build a result from its ``asdict`` as JSON holds it, where null stands for NaN."""
        cell = Cell(**{**tree["cell"], "rig": tuple(tree["cell"]["rig"])})
        names = ("jdr", "choice", "positions_mm", "missed")
        numbers = {key: _with_nan(tree.get(key, {})) for key in names}
        return cls(
            cell=cell,
            mpjpe_mm=_number(tree["mpjpe_mm"]),
            test_samples=int(tree["test_samples"]),
            **numbers,
        )


class CellWorker:
    """Evaluates cells; the test samples of the last rig stay loaded, and the last task.

    Args:
        setups: Of every data set by name.
        weights: The meta-learned weights of every data set and fold.
    """

    def __init__(
        self, setups: Mapping[str, Setup], weights: Mapping[tuple[str, int], Weights]
    ) -> None:
        self._setups = setups
        self._weights = weights
        self._shards = lru_cache(maxsize=None)(self._open_shards)
        self._test = lru_cache(maxsize=1)(self._load_judged)
        self._own = lru_cache(maxsize=1)(self._found_alone)
        self._task = lru_cache(maxsize=1)(self._make_task)

    def __call__(self, cells: Sequence[Cell]) -> list[CellResult]:
        """Adapt every cell's method to its rig and judge it on test frames."""
        return [self._judged(cell) for cell in cells]

    def _judged(self, cell: Cell) -> CellResult:
        adapted, test, task = self._adapt(cell)
        joints_2d, joints_3d = self._test(cell.data, cell.fold, cell.rig).joints(adapted)
        setup = self._setups[cell.data]
        skeleton = self._shards(cell.data, 0).skeleton
        positions = position_errors(
            setup.positions,
            setup.triangulate,
            adapted,
            test,
            joints_3d,
            cell.calibration,
            task.labelled,
        )
        detections_VBJ = rig_detections(test, joints_2d)
        return CellResult(
            cell=cell,
            jdr=jdr_percent(detections_VBJ, skeleton),
            mpjpe_mm=positions["robust"],
            choice=dict(adapted.chosen),
            test_samples=len(test),
            positions_mm=positions,
            missed=missed_percent(detections_VBJ, self._own(cell.data, cell.fold, cell.rig)),
        )

    def adapt(self, cell: Cell) -> tuple[AdaptedMethod, RigBatch]:
        """Adapt the cell's method to its rig; return it with the test samples to judge it on."""
        return self._adapt(cell)[:2]

    def _adapt(self, cell: Cell) -> tuple[AdaptedMethod, RigBatch, RigTask]:
        learned = self._weights.get((cell.data, cell.fold), {}).get(cell.method)
        method = self._setups[cell.data].method(cell.method, learned)
        task = self._task(task_of(cell))
        return method.adapt(task), self._test(cell.data, cell.fold, cell.rig).batch, task

    def _found_alone(self, data: str, fold: int, rig: tuple[str, ...]) -> np.ndarray:
        test = self._test(data, fold, rig).batch
        return rig_detections(test, own_joints(test))

    def _make_task(self, cell: Cell) -> RigTask:
        setup = self._setups[cell.data]
        return make_task(
            setup.samples,
            setup.seed,
            self._shards(cell.data, cell.fold),
            cell.rig,
            cell.labelled_frames,
            cell.draw,
            # A method that uses no calibration still has its peaks triangulated with one.
            "exact" if cell.calibration is None else cell.calibration,
            self._test(cell.data, cell.fold, cell.rig).batch if setup.samples.look_ahead else None,
            label_noise_px=setup.samples.label_noise_px if cell.labelled_frames else 0.0,
        )

    def _open_shards(self, data: str, fold: int) -> ShardSet:
        return open_shards(self._setups[data].data, fold)

    def _load_judged(self, data: str, fold: int, rig: tuple[str, ...]) -> JudgedSamples:
        setup = self._setups[data]
        other = setup.data.test_shards
        shards = self._shards(data, fold)
        if other:
            shards = ShardSet.open(other, setup.data.cache_dir)
        return JudgedSamples.load(shards, rig, setup.samples, whole=other is not None)


def task_of(cell: Cell) -> Cell:
    """Return what the cells of a task have in common, as the first method's cell."""
    return replace(cell, method="No-Fusion")


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


def missed_percent(detections_VBJ: np.ndarray, own_VBJ: np.ndarray) -> dict[str, float]:
    """Count the missed joints by the number of views that find them by themselves, in percent.

    Args:
        detections_VBJ: Of a method; NaN where a joint does not count.
        own_VBJ: Of every view by itself.
    """
    counts_VBJ = np.isfinite(detections_VBJ)
    finding_BJ = np.nansum(own_VBJ, axis=0)
    missed_VBJ = counts_VBJ & (detections_VBJ == 0)
    total = max(int(counts_VBJ.sum()), 1)
    return {
        str(views): 100 * float((missed_VBJ & (finding_BJ == views)).sum()) / total
        for views in range(len(own_VBJ) + 1)
    }


def _with_nan(tree: Mapping[str, float | None]) -> dict[str, float]:
    return {key: _number(value) for key, value in tree.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
