"""From 3D joints to one camera's labels, crops and visibility.

Real recordings and the simulated dome share this, so that their shards have the same meaning.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.crop import apply_affine, crop_transform, person_box
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.shards.settings import DataConfig

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_MINIMUM_JOINTS = 2
"""Joints inside the image below which a box (and so a crop) has no meaningful size."""


class ProjectedLabels(NamedTuple):
    """What one camera sees of B people.

    Attributes:
        label_image_px: ``(B, J, 2)`` joints in image pixels, distortion included; may lie outside
            the image. NaN where unlabelled or not in front of the lens.
        crop_from_image: ``(B, 2, 3)`` affine to crop pixels; the identity where not seen.
        visibility: ``(B, J)`` joint is labelled, inside the image and inside the crop, of a person
            who is seen. Occlusion is not considered.
        seen: ``(B,)`` enough of the person's labelled joints lie inside the image.
    """

    label_image_px: FloatArray
    crop_from_image: FloatArray
    visibility: BoolArray
    seen: BoolArray


def project_labels(
    camera: Camera,
    joints_world: npt.ArrayLike,
    crop_px: int = 256,
    crop_scale: float = 1.25,
    min_visible_share: float = 0.5,
    cube: float | None = None,
) -> ProjectedLabels:
    """Project people into a camera and cut a square crop around each.

    Args:
        camera: The camera.
        joints_world: ``(B, J, 3)`` in the rig's unit; NaN for a missing joint.
        crop_px: Side of the crop in crop pixels.
        crop_scale: Side of the crop over the longer side of the box of the projected joints.
        min_visible_share: Share of a person's labelled joints that must lie inside the image for
            the person to count as seen (and at least two joints).
        cube: Side, in the rig's unit, of a cube about the middle of the person's joints in space;
            the crop is then its face towards the camera, whatever the posture. It makes crops of
            all views show the same piece of the world, as the ancestor's crops do on Human3.6M,
            where the box spans 2 m about the root [C].

    Returns:
        The labels; see ``ProjectedLabels``.
    """
    joints = np.asarray(joints_world, dtype=np.float64)
    label_image_px = camera.project(joints)
    inside = camera.contains(label_image_px)
    labelled = np.all(np.isfinite(joints), axis=-1)
    needed = np.maximum(min_visible_share * labelled.sum(-1), _MINIMUM_JOINTS)
    seen = inside.sum(-1) >= needed - 1e-9
    if cube is None:
        centre, side = _person_box(camera, label_image_px, crop_scale)
    else:
        centre, side = _cube_box(camera, joints, cube)
        seen = seen & np.isfinite(centre).all(-1)
    crop_from_image = np.where(
        seen[:, None, None], crop_transform(centre, side, crop_px), np.eye(2, 3)
    )
    with np.errstate(invalid="ignore"):
        in_crop = apply_affine(crop_from_image, label_image_px)
        in_crop = np.all((in_crop >= -0.5) & (in_crop <= crop_px - 0.5), axis=-1)
    return ProjectedLabels(label_image_px, crop_from_image, inside & in_crop & seen[:, None], seen)


def box_scale(data: DataConfig) -> float:
    """Return the side of a box crop over the longer side of the person's box; 1 for cube crops."""
    return data.crop_scale if data.crop == "box" else 1.0


def cube_side(data: DataConfig, rig: Rig) -> float | None:
    """Return the side of the crop's cube in the rig's unit, or None where crops are boxes."""
    return data.crop_cube_m * 1000 / rig.mm_per_unit if data.crop == "cube" else None


def _person_box(
    camera: Camera, label_image_px: FloatArray, scale: float
) -> tuple[FloatArray, FloatArray]:
    size = np.array([camera.width, camera.height])
    # A joint just in front of the lens plane projects arbitrarily far away: joints more than an
    # image size outside do not stretch the crop.
    with np.errstate(invalid="ignore"):
        near = np.all((label_image_px >= -size) & (label_image_px <= 2 * size), axis=-1)
    return person_box(np.where(near[..., None], label_image_px, np.nan), scale)


def _cube_box(camera: Camera, joints: FloatArray, side: float) -> tuple[FloatArray, FloatArray]:
    known = np.all(np.isfinite(joints), axis=-1, keepdims=True)
    low = np.min(np.where(known, joints, np.inf), axis=-2)
    high = np.max(np.where(known, joints, -np.inf), axis=-2)
    with np.errstate(invalid="ignore"):
        middle = np.where(np.any(known, axis=-2), (low + high) / 2, np.nan)
    centre_px = camera.project(middle)
    return centre_px, side * camera.K[0, 0] / camera.depth(middle)
