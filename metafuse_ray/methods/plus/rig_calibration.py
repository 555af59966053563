"""The best calibration of a new rig that its detections and labels allow.

    found = calibrate_rig(task)
    found.rig, found.doubt.residual_VV, found.doubt.spread_VV

A calibration that is given is refined, a missing one is estimated. Where that is not possible the
result names the reason, and the method uses what is known. Nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from metafuse_ray.calibration.bundle import Bundle, Observations, Views
from metafuse_ray.calibration.calibrate import refine, refit, self_calibrate
from metafuse_ray.calibration.doubt import PairDoubt, doubt_adjusted, doubt_given
from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.crop import apply_affine, invert_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, label_joints
from metafuse_ray.methods.plus.crop_cameras import PX64
from metafuse_ray.samples.joints import image_px_per_crop_px, own_joints
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.samples.time_blocks import time_blocks

_CONFIDENT = 0.65
"""Peaks below this share of a high peak are left out: they err together (see docs)."""
_HIGH = 0.95
"""Quantile of the peaks that counts as a high peak: heights differ between backbones."""
_DETECTION, _LABEL = (2.0, 0.5), (1.0, 4.0)
"""Standard deviation, in px64, and tail (see `Observations`). Detections repeat their
errors for a while, so each is worth less than its error suggests, and some are gross errors; labels
have neither problem."""
_BLOCKS = 4
"""Blocks of time that are left out in turn to judge a calibration."""


Origin = Literal["given", "refined", "estimated", "none"]
"""Where a calibration comes from."""


@dataclass(frozen=True, eq=False)
class RigCalibration:
    """What is known of a rig's calibration after looking at its detections.

    Attributes:
        rig: The calibration to work with; None where none was given and none could be estimated.
            An estimated one has a world of its own: frame and scale are not known.
        origin: ``given`` (as it was: it could not be refined), ``refined``, ``estimated`` or
            ``none``.
        doubt: Of every pair, in pixels of a 64 x 64 heatmap.
        reason: Why it could not be refined or estimated; empty where it could.
    """

    rig: Rig | None
    origin: Origin
    doubt: PairDoubt
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Sight:
    """Detections and labels of all available samples, in image pixels; NaN is unknown.

    Attributes:
        points_VN2: Positions.
        sigma_VN: Their standard deviations, NaN for what is not used.
        tail_VN: See `Observations`.
        unit_VN: Image pixels of one px64.
        block_N: Block of time.
    """

    points_VN2: np.ndarray
    sigma_VN: np.ndarray
    tail_VN: np.ndarray
    unit_VN: np.ndarray
    block_N: np.ndarray

    def observations(self, cameras: Sequence[Camera] | None) -> Observations:
        """Return them in ideal pixels of the cameras; in image pixels where no lens is known."""
        if cameras is None:
            return Observations(self.points_VN2, self.sigma_VN, self.tail_VN)
        pairs = zip(cameras, self.points_VN2, strict=True)
        ideal_VN2 = np.stack([camera.undistort(px) for camera, px in pairs])
        return Observations(ideal_VN2, self.sigma_VN, self.tail_VN)


_FOUND: WeakKeyDictionary[RigTask, RigCalibration] = WeakKeyDictionary()
"""Methods that differ only in their weights get the same task: it is calibrated once."""


def calibrate_rig(task: RigTask) -> RigCalibration:
    """Refine the given calibration of a rig, or estimate the missing one."""
    if task not in _FOUND:
        _FOUND[task] = _calibrated(task)
    return _FOUND[task]


def _calibrated(task: RigTask) -> RigCalibration:
    sight = _look(task)
    if task.calibration is None:
        return _estimated(task, sight)
    cameras = task.calibration.cameras
    seen = sight.observations(cameras)
    try:
        found = refine(seen, cameras)
        return _judged(sight, seen, found, cameras, task.calibration)
    except CalibrationError as error:
        doubt = doubt_given(seen, sight.unit_VN, cameras)
        return RigCalibration(task.calibration, "given", doubt, str(error))


def _estimated(task: RigTask, sight: _Sight) -> RigCalibration:
    seen = sight.observations(None)
    blank = [
        Camera(f"view_{view}", np.eye(3), np.zeros(5), np.eye(3), np.zeros(3), *size)
        for view, size in enumerate(task.image_sizes)
    ]
    try:
        found = self_calibrate(seen, task.image_sizes)
        return _judged(sight, seen, found, blank, None)
    except CalibrationError as error:
        known = seen.known.astype(int)
        unknown = np.where(np.eye(len(known), dtype=bool), 0.0, np.inf)
        return RigCalibration(
            None, "none", PairDoubt(unknown, unknown, known @ known.T), str(error)
        )


def _judged(
    sight: _Sight,
    seen: Observations,
    found: Bundle,
    cameras: Sequence[Camera],
    given: Rig | None,
) -> RigCalibration:
    adjusted = _placed(cameras, found.views)
    doubt = doubt_adjusted(
        seen,
        sight.unit_VN,
        sight.block_N,
        adjusted,
        lambda rest: _placed(cameras, refit(rest, found).views),
    )
    if given is None:
        return RigCalibration(Rig(adjusted), "estimated", doubt)
    return RigCalibration(replace(given, cameras=adjusted), "refined", doubt)


def _placed(cameras: Sequence[Camera], views: Views) -> tuple[Camera, ...]:
    """Give cameras other intrinsics and places; names, sizes and lenses stay."""
    t_V3 = -np.einsum("vij,vj->vi", views.R_V33, views.centre_V3)
    return tuple(
        replace(camera, K=K, R=R, t=t)
        for camera, K, R, t in zip(cameras, views.K_V33, views.R_V33, t_V3, strict=True)
    )


def _look(task: RigTask) -> _Sight:
    """Gather confident detections of all available samples, and the labels."""
    batches = [task.unlabelled] + ([] if task.asked is None else [task.asked])
    found = [own_joints(batch) for batch in batches]
    heights = np.concatenate([joints.peak_VBJ.ravel() for joints in found])
    high = float(np.quantile(heights[heights > 0], _HIGH)) if (heights > 0).any() else 1.0
    parts = []
    for batch, joints in zip(batches, found, strict=True):
        share_VBJ = joints.peak_VBJ / high
        with np.errstate(divide="ignore"):
            sigma_VBJ = np.where(share_VBJ > _CONFIDENT, _DETECTION[0] / share_VBJ, np.nan)
        parts.append(_in_image(batch, joints.refined_VBJ2, sigma_VBJ, _DETECTION[1]))
    if task.labelled is not None:
        labels = label_joints(task.labelled)
        sigma_VBJ = np.where(labels.peak_VBJ > 0, _LABEL[0], np.nan)
        parts.append(_in_image(task.labelled, labels.refined_VBJ2, sigma_VBJ, _LABEL[1]))
    points, sigma, tail, unit = (np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True))
    batches += [] if task.labelled is None else [task.labelled]
    times = np.concatenate([batch.time_B2 for batch in batches])
    block_N = np.repeat(time_blocks(times, _BLOCKS), len(points[0]) // len(times))
    return _Sight(points, sigma, tail, unit, block_N)


def _in_image(
    batch: RigBatch, crop_VBJ2: np.ndarray, sigma_VBJ: np.ndarray, tail: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return points (V, B J, 2), sigmas, tails and units; sigmas are given in px64."""
    views, _, joints = sigma_VBJ.shape
    points = apply_affine(invert_affine(batch.crop_from_image_VB23), crop_VBJ2)
    unit_VN = np.repeat(image_px_per_crop_px(batch) * batch.crop_px / PX64, joints, axis=1)
    sigma_VN = sigma_VBJ.reshape(views, -1) * unit_VN
    return points.reshape(views, -1, 2), sigma_VN, np.full_like(sigma_VN, tail), unit_VN
