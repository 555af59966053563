"""Triangulation as a method: every view's peaks to 3D, and the 3D joints back into the views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask
from metafuse_ray.methods.plus.across_time import Moments
from metafuse_ray.samples.joints import Joints2D, own_joints, triangulate_rig, triangulate_rig_dlt
from metafuse_ray.samples.rig_batch import RigBatch

_BELIEVED = 0.1
"""Weight of the frames around above which their joint replaces that of the frame."""

Triangulate = Callable[[RigBatch, Joints2D], np.ndarray]
"""Samples with their rig, and joints in 2D -> (B, J, 3)."""


@dataclass(frozen=True, eq=False)
class Reprojection:
    """A calibrated rig whose joints in every view are the projected 3D joints."""

    triangulate: Triangulate
    calibration: Rig
    chosen: Mapping[str, float] = field(default_factory=dict)
    across_time: bool = False

    def joints(self, batch: RigBatch, around: Iterable[RigBatch] = ()) -> tuple[Joints2D, Joints2D]:
        """Return the triangulated joints in every view, the same for 2D and for 3D.

        A joint that cannot be triangulated stays where the view itself found it.
        """
        own = own_joints(batch)
        points = self._points(batch, own, around)
        image_px = [camera.project(points) for camera in self.calibration.cameras]
        crop_px = apply_affine(batch.crop_from_image_VB23, np.stack(image_px))
        seen = batch.seen_VB.numpy()[:, :, None, None]
        known = np.isfinite(crop_px).all(-1, keepdims=True) & seen
        found = Joints2D(
            np.where(known, crop_px, own.argmax_VBJ2),
            np.where(known, crop_px, own.refined_VBJ2),
            own.peak_VBJ,
        )
        return found, found

    def _points(self, batch: RigBatch, own: Joints2D, around: Iterable[RigBatch]) -> np.ndarray:
        points_BJ3 = self.triangulate(replace(batch, rig=self.calibration), own)
        if not self.across_time:
            return points_BJ3
        moments = []
        for part in around:
            joints = own_joints(part)
            points = self.triangulate(replace(part, rig=self.calibration), joints)
            moments.append(Moments.of(part, joints, points))
        steady = Moments.of(batch, own, points_BJ3).steadied(moments)
        told_BJ1 = np.isfinite(steady.points_BJ3).all(-1, keepdims=True)
        return np.where(told_BJ1 & (steady.weight > _BELIEVED), steady.points_BJ3, points_BJ3)


@dataclass(frozen=True)
class RobustTriangulation:
    """Robust triangulation of all views' peaks, each weighed by the square of its height."""

    inlier_px: float

    def adapt(self, task: RigTask) -> Reprojection:
        """Take the calibration as given."""
        threshold_px = self.inlier_px
        return Reprojection(
            lambda batch, joints: triangulate_rig(batch, joints, threshold_px), given_rig(task)
        )


@dataclass(frozen=True)
class TriangulationOverTime:
    """Robust triangulation, corrected by the frames before and after."""

    inlier_px: float
    across_time: bool

    def adapt(self, task: RigTask) -> Reprojection:
        """Take the calibration as given."""
        robust = RobustTriangulation(self.inlier_px).adapt(task)
        return replace(robust, across_time=self.across_time)


@dataclass(frozen=True)
class WeightedTriangulation:
    """Linear triangulation of all views' peaks, each weighed by the square of its height."""

    def adapt(self, task: RigTask) -> Reprojection:
        """Take the calibration as given."""
        return Reprojection(triangulate_rig_dlt, given_rig(task))


def given_rig(task: RigTask) -> Rig:
    """Return the given calibration.

    Raises:
        CalibrationError: None is given.
    """
    if task.calibration is None:
        raise CalibrationError("this method needs a calibrated rig; give it one, or choose another")
    return task.calibration
