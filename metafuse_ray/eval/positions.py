"""3D joints by every way of finding them, and their errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metafuse_ray.adapt.joints import Joints2D, triangulate_rig, triangulate_rig_dlt
from metafuse_ray.adapt.rig_method import AdaptedMethod
from metafuse_ray.config.schema import Calibration, EvaluateConfig, Position
from metafuse_ray.data.rig_batch import RigBatch
from metafuse_ray.geometry.miscalibrate import align_points
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.metrics import joint_errors


def position_errors(
    settings: EvaluateConfig,
    adapted: AdaptedMethod,
    test: RigBatch,
    joints: Joints2D,
    calibration: Calibration | None,
) -> dict[str, float]:
    """Return the mean 3D joint error in mm by each of ``evaluate.positions``.

    Args:
        settings: Which ways, and their thresholds.
        adapted: The method; its calibration is used.
        test: Samples with their truth.
        joints: What the method found there.
        calibration: What the method was given; an estimated rig is first laid on the true one.

    Returns:
        Errors by name, ``robust`` among them; NaN without a calibration.
    """
    rig = adapted.calibration
    ways: dict[Position, float] = {}
    for way in dict.fromkeys(("robust", *settings.positions)):
        if rig is None:
            ways[way] = float("nan")
            continue
        points = _points(way, settings, replace(test, rig=rig), joints)
        if calibration == "none":
            points = align_points(points, rig, test.rig)
        ways[way] = _mean_mm(joint_errors(points, test.joints_world_BJ3), test.rig)
    return {str(way): value for way, value in ways.items()}


def _points(
    way: Position, settings: EvaluateConfig, batch: RigBatch, joints: Joints2D
) -> np.ndarray:
    if way == "weighted":
        return triangulate_rig_dlt(batch, joints)
    return triangulate_rig(batch, joints, settings.robust_threshold_px)


def _mean_mm(errors: np.ndarray, rig: Rig) -> float:
    known = errors[np.isfinite(errors)]
    return float(known.mean()) * rig.mm_per_unit if len(known) else float("nan")
