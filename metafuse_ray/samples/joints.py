"""From a rig's heatmaps to its joints in 2D and 3D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.geometry.crop import apply_affine, invert_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.geometry.triangulate import triangulate_dlt, triangulate_robust
from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_argmax, decode_refined
from metafuse_ray.pose.metrics import detections, joint_errors
from metafuse_ray.samples.rig_batch import RigBatch


@dataclass(frozen=True, eq=False)
class Joints2D:
    """Joints found in every view of a rig, in crop pixels; NaN where the view sees nobody.

    Attributes:
        argmax_VBJ2: Highest pixel, which the joint detection rate is defined on.
        refined_VBJ2: Weighted mean around it, for triangulation.
        peak_VBJ: Height of the heatmap there; 0 where the view sees nobody.
    """

    argmax_VBJ2: np.ndarray
    refined_VBJ2: np.ndarray
    peak_VBJ: np.ndarray

    @classmethod
    def empty(cls, batch: RigBatch) -> Joints2D:
        """Return joints of which none is found yet."""
        shape = batch.heatmaps_VBJhw.shape[:3]
        return cls(np.full((*shape, 2), np.nan), np.full((*shape, 2), np.nan), np.zeros(shape))

    def put(self, view: int, rows: np.ndarray, heatmaps_BJHW: torch.Tensor, crop_px: int) -> None:
        """Decode one view's heatmaps into some rows."""
        height, width = heatmaps_BJHW.shape[-2:]
        argmax, peak = decode_argmax(heatmaps_BJHW)
        refined, _ = decode_refined(heatmaps_BJHW, refine_window(width))
        for store, found in ((self.argmax_VBJ2, argmax), (self.refined_VBJ2, refined)):
            store[view, rows] = crop_from_heatmap(
                found.double().cpu().numpy(), crop_px, (height, width)
            )
        self.peak_VBJ[view, rows] = peak.cpu().numpy()


def seen_rows(batch: RigBatch, view: int) -> np.ndarray:
    """Return the rows that a view sees: those of ``batch.target(view)``, in its order."""
    return np.flatnonzero(batch.seen_VB[view].numpy())


def own_joints(batch: RigBatch) -> Joints2D:
    """Find the joints of every view in its own heatmaps."""
    return decoded_joints(batch, batch.heatmaps_VBJhw)


def decoded_joints(batch: RigBatch, heatmaps_VBJHW: torch.Tensor) -> Joints2D:
    """Find the joints of samples in given heatmaps, fused or not."""
    joints = Joints2D.empty(batch)
    for view in batch.views:
        rows = seen_rows(batch, view)
        joints.put(view, rows, heatmaps_VBJHW[view, rows], batch.crop_px)
    return joints


def rig_detections(batch: RigBatch, joints: Joints2D) -> np.ndarray:
    """Tell which joints every view finds, (V, B, J): 1, 0, or NaN where the joint does not count.

    See `metafuse_ray.pose.metrics.detections`.
    """
    height, width = batch.heatmaps_VBJhw.shape[-2:]
    truth = crop_from_heatmap(batch.label_VBJ2.double().numpy(), batch.crop_px, (height, width))
    visibility = batch.visibility_VBJ & batch.seen_VB[:, :, None]
    return detections(joints.argmax_VBJ2, truth, visibility.numpy(), batch.crop_px)


def triangulate_rig(batch: RigBatch, joints: Joints2D, threshold_px: float) -> np.ndarray:
    """Triangulate robustly, every view weighed by the square of its peak.

    Args:
        batch: The samples; its rig's calibration is used.
        joints: What the views found.
        threshold_px: Inlier threshold in crop pixels; every crop's scale turns it to image pixels.

    Returns:
        (B, J, 3) in the rig's unit; NaN where fewer than two views see the person.
    """
    count, total = joints.peak_VBJ.shape[1:]
    threshold_VN = np.repeat(threshold_px * image_px_per_crop_px(batch), total, axis=1)
    points = triangulate_robust(*_observations(batch, joints), threshold_px=threshold_VN)
    return points.reshape(count, total, 3)


def triangulate_rig_dlt(batch: RigBatch, joints: Joints2D) -> np.ndarray:
    """Triangulate by least squares; otherwise like `triangulate_rig`."""
    points = triangulate_dlt(*_observations(batch, joints))
    return points.reshape(*joints.peak_VBJ.shape[1:], 3)


def image_points(batch: RigBatch, crop_VBJ2: np.ndarray, rig: Rig) -> np.ndarray:
    """Turn crop pixels of every view (V, B, J, 2) into ideal image pixels of a rig's cameras."""
    image_px = apply_affine(invert_affine(batch.crop_from_image_VB23), crop_VBJ2)
    pairs = zip(rig.cameras, image_px, strict=True)
    return np.stack([camera.undistort(px) for camera, px in pairs])


def image_px_per_crop_px(batch: RigBatch) -> np.ndarray:
    """Return how many image pixels a crop pixel is wide, (V, B)."""
    return 1 / np.linalg.norm(batch.crop_from_image_VB23[:, :, 0, :2], axis=-1)


def rig_errors(batch: RigBatch, joints: Joints2D, threshold_px: float) -> np.ndarray:
    """Return 3D joint errors (B, J) in the rig's unit, NaN where not triangulated or unlabelled."""
    return joint_errors(triangulate_rig(batch, joints, threshold_px), batch.joints_world_BJ3)


def _observations(batch: RigBatch, joints: Joints2D) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (V, B J, 2), projections (V, 3, 4) and weights (V, B J) to triangulate."""
    weights_VBJ = joints.peak_VBJ.clip(0) ** 2 * batch.seen_VB.numpy()[:, :, None]
    ideal_px = image_points(batch, joints.refined_VBJ2, batch.rig)
    views = len(weights_VBJ)
    return (
        ideal_px.reshape(views, -1, 2),
        np.stack([camera.projection_matrix for camera in batch.rig.cameras]),
        weights_VBJ.reshape(views, -1),
    )


def refine_window(width: int) -> int:
    """Return the odd window nearest to 7 pixels of 64."""
    return max(3, 2 * round((7 * width / 64 - 1) / 2) + 1)
