"""A rig's cameras as seen from person crops: pinholes whose pixels are 1/64 of a crop.

Evidence from several views is weighed in one unit of length for any grid and any distance of the
person: the *px64*, 1/64 of the crop's side. Its coordinates are those of a 64 x 64 heatmap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metafuse_ray.geometry.crop import apply_affine, invert_affine
from metafuse_ray.geometry.epipolar import homogeneous
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.samples.rig_batch import RigBatch

FloatArray = npt.NDArray[np.float64]

PX64 = 64
"""Side of the crop, px64."""
_PROBES = np.stack(np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]), -1).reshape(-1, 2)
"""Where a crop's lens is sampled, as shares of its sides."""


def px64_from_grid(px: FloatArray, grid: tuple[int, int]) -> FloatArray:
    """Turn heatmap pixels (..., 2) of a grid (h, w) into px64."""
    return (px + 0.5) * (PX64 / np.array([grid[1], grid[0]])) - 0.5


def ideal_from_px64(batch: RigBatch, rig: Rig) -> FloatArray:
    """Return the affines from px64 to ideal image pixels of every crop, ``(V, B, 3, 3)``.

    A lens bends little across a crop: the best affine of nine of its points replaces it. Where
    some lie beyond the lens model, the lens is left out.

    Args:
        batch: The samples.
        rig: The cameras to take the lenses of.
    """
    crop_px = _PROBES * batch.crop_px - 0.5
    px64_P2 = _PROBES * PX64 - 0.5
    design_P3 = np.column_stack([px64_P2, np.ones(len(px64_P2))])
    image_from_crop = invert_affine(batch.crop_from_image_VB23)
    matrices = []
    for camera, affine_B23 in zip(rig.cameras, image_from_crop, strict=True):
        image_BP2 = apply_affine(affine_B23, np.broadcast_to(crop_px, (len(batch), *crop_px.shape)))
        ideal_BP2 = camera.undistort(image_BP2)
        whole_B = np.asarray(np.isfinite(ideal_BP2).all((1, 2)))
        ideal_BP2 = np.where(whole_B[:, None, None], ideal_BP2, image_BP2)
        affine_B32 = np.linalg.pinv(design_P3) @ ideal_BP2
        last_B13 = np.broadcast_to([[0.0, 0.0, 1.0]], (len(batch), 1, 3))
        matrices.append(np.concatenate([np.swapaxes(affine_B32, 1, 2), last_B13], 1))
    return np.stack(matrices)


def ideal_px_per_px64(ideal_from_px64_VB33: FloatArray) -> FloatArray:
    """Return how many ideal image pixels a px64 is wide, ``(V, B)``."""
    return np.sqrt(np.abs(np.linalg.det(ideal_from_px64_VB33[:, :, :2, :2])))


def px64_from_world(
    world_BJ3: FloatArray, rig: Rig, ideal_from_px64_VB33: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return where every view should see some points.

    Args:
        world_BJ3: Points; NaN where not known.
        rig: The cameras.
        ideal_from_px64_VB33: See `ideal_from_px64`.

    Returns:
        Places ``(V, B, J, 2)`` in px64, and whether they are known ``(V, B, J)``: the point is
        known, and it lies in front of the camera.
    """
    projections_V34 = np.stack([camera.projection_matrix for camera in rig.cameras])
    image_VBJ3 = homogeneous(world_BJ3) @ np.swapaxes(projections_V34, 1, 2)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        ideal_VBJ3 = image_VBJ3 / image_VBJ3[..., 2:]
        px64_VBJ3 = ideal_VBJ3 @ np.swapaxes(np.linalg.inv(ideal_from_px64_VB33), -1, -2)
    depth_VBJ = np.stack([camera.depth(world_BJ3) for camera in rig.cameras])
    known_VBJ = np.isfinite(px64_VBJ3).all(-1) & (depth_VBJ > 0)
    return px64_VBJ3[..., :2], known_VBJ
