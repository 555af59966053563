"""3D joints by every way of finding them, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metafuse_ray.benchmark.settings import Calibration, Position
from metafuse_ray.geometry.miscalibrate import align_rig
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import (
    AdaptedMethod,
    SeesHeatmaps,
    hide_truth,
    with_label_points,
)
from metafuse_ray.methods.rivals.limbs import LimbModel, limb_model
from metafuse_ray.methods.rivals.pictorial import pictorial_joints
from metafuse_ray.pose.metrics import joint_errors
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.joints import Joints2D, triangulate_rig, triangulate_rig_dlt
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.samples.settings import TriangulateConfig

_CHUNK = 16
"""Samples that the pictorial structure model takes at a time."""


def position_errors(
    ways: Sequence[Position],
    triangulate: TriangulateConfig,
    adapted: AdaptedMethod,
    test: RigBatch,
    joints: Joints2D,
    calibration: Calibration | None,
    labelled: RigBatch | None = None,
) -> dict[str, float]:
    """Return the mean 3D joint error in mm by each of ``evaluate.positions``.

    Args:
        ways: Of ``evaluate.positions``; robust triangulation is found in any case.
        triangulate: Its threshold.
        adapted: The method; its calibration is used.
        test: Samples with their truth.
        joints: What the method found there.
        calibration: What the method was given; an estimated rig is first aligned with the true one.
        labelled: Samples that limbs are measured on, for ``pictorial``.

    Returns:
        Errors by name, ``robust`` among them; NaN without a calibration, and of ``pictorial``
        also without limbs, and for methods that have no heatmaps.
    """
    rig = adapted.calibration
    if rig is not None and calibration == "none":
        rig = align_rig(rig, test.rig)
    limbs = None
    if "pictorial" in ways and test.skeleton is not None:
        limbs = rig_limbs(labelled, rig, test.skeleton)
    found: dict[str, float] = {}
    for way in dict.fromkeys(("robust", *ways)):
        if rig is None:
            found[way] = float("nan")
            continue
        points = _points(way, triangulate, replace(test, rig=rig), joints, (adapted, limbs))
        found[way] = _mean_mm(joint_errors(points, test.joints_world_BJ3), test.rig)
    return found


def rig_limbs(labelled: RigBatch | None, rig: Rig | None, skeleton: Skeleton) -> LimbModel | None:
    """Measure limbs on labelled samples with a method's calibration; None where either is missing.

    Only labels are used: their triangulation replaces a 3D truth.
    """
    if labelled is None or rig is None:
        return None
    return limb_model(with_label_points(labelled, rig).joints_world_BJ3, skeleton)


def _points(
    way: str,
    triangulate: TriangulateConfig,
    batch: RigBatch,
    joints: Joints2D,
    pictorial: tuple[AdaptedMethod, LimbModel | None],
) -> np.ndarray:
    if way == "weighted":
        return triangulate_rig_dlt(batch, joints)
    robust = triangulate_rig(batch, joints, triangulate.inlier_px)
    return robust if way == "robust" else _pictorial(batch, robust, *pictorial)


def _pictorial(
    batch: RigBatch, robust_BJ3: np.ndarray, adapted: AdaptedMethod, limbs: LimbModel | None
) -> np.ndarray:
    points = np.full_like(robust_BJ3, np.nan)
    if limbs is None or not isinstance(adapted, SeesHeatmaps):
        return points
    some = np.isfinite(robust_BJ3).all(-1).any(-1)
    rows = np.flatnonzero(some)
    centre_B3 = np.full((len(batch), 3), np.nan)
    centre_B3[rows] = np.nanmedian(robust_BJ3[rows], axis=1)
    for part in np.split(rows, np.arange(_CHUNK, len(rows), _CHUNK)):
        samples = batch.take(part)
        heatmaps = adapted.heatmaps(hide_truth(samples, labels=True))
        points[part] = pictorial_joints(samples, heatmaps, limbs, centre_B3[part])
    return points


def _mean_mm(errors: np.ndarray, rig: Rig) -> float:
    known = errors[np.isfinite(errors)]
    return float(known.mean()) * rig.mm_per_unit if len(known) else float("nan")
