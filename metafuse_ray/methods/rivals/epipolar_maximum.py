"""Epipolar maximum: for every pixel, a view collects the other views' maximum on its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from metafuse_ray.geometry.crop import apply_affine, invert_affine
from metafuse_ray.geometry.eight_point import fundamental_from_points
from metafuse_ray.geometry.epipolar import fundamental_matrix
from metafuse_ray.geometry.pencil import pencil_angles
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, label_joints
from metafuse_ray.methods.rivals.triangulation import given_rig
from metafuse_ray.pose.heatmap import crop_from_heatmap
from metafuse_ray.samples.joints import Joints2D, seen_rows
from metafuse_ray.samples.rig_batch import RigBatch

Fundamentals = Mapping[tuple[int, int], np.ndarray]
"""(target view, source view) -> F; a pair of unknown geometry is left out."""
_SELF_WEIGHT_2D, _SELF_WEIGHT_3D = 0.3, 0.7
"""Lambda for the JDR and for the MPJPE, where they do best on training cameras."""
_FINER = 2
"""Factor by which source heatmaps are upsampled: a line then passes near a pixel's middle."""
_CHUNK = 16
"""Samples at a time."""


@dataclass(frozen=True, eq=False)
class EpipolarRig:
    """A rig whose pairs' epipolar geometry is known.

    fused_u(i) = lambda p_u^2 H_u(i)^.5 + (1 - lambda) mean_v p_v^2 max_(y on i's line) H_v(y)^.5,
    where p is the height of a joint's peak. The root gains .3 points on training cameras.

    Attributes:
        fundamentals: The pairs' geometry, in ideal pixels of ``lenses``.
        lenses: Cameras whose distortion is known; none where image pixels are taken as ideal.
        calibration: What to triangulate with.
        self_weights: Lambda for 2D and for 3D.
    """

    fundamentals: Fundamentals
    lenses: Rig | None
    calibration: Rig | None
    self_weights: tuple[float, float] = (_SELF_WEIGHT_2D, _SELF_WEIGHT_3D)

    @property
    def chosen(self) -> Mapping[str, float]:
        """Lambda for 2D and for 3D."""
        return dict(zip(("self_weight_2d", "self_weight_3d"), self.self_weights, strict=True))

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints, with the lambda for 2D and with that for 3D."""
        found_2d, found_3d = self.joints_by(batch, self.self_weights)
        return found_2d, found_3d

    def heatmaps(self, batch: RigBatch) -> torch.Tensor:
        """Return the fused heatmaps (V, B, J, H, W), with the lambda for 3D."""
        fused = torch.zeros_like(batch.heatmaps_VBJhw)
        weight = self.self_weights[1]
        for view, rows, own, collected in self._parts(batch):
            fused[view, rows] = weight * own + (1 - weight) * collected
        return fused

    def joints_by(self, batch: RigBatch, self_weights: tuple[float, ...]) -> list[Joints2D]:
        """Find the joints with each of some lambdas."""
        found = [Joints2D.empty(batch) for _ in self_weights]
        for view, rows, own, collected in self._parts(batch):
            for joints, weight in zip(found, self_weights, strict=True):
                fused = weight * own + (1 - weight) * collected
                joints.put(view, rows, fused, batch.crop_px)
        return found

    def _parts(
        self, batch: RigBatch
    ) -> Iterator[tuple[int, np.ndarray, torch.Tensor, torch.Tensor]]:
        """Yield (view, rows, own heatmaps, collected ones), some samples at a time."""
        ideal = self._ideal_pixels(batch, 1), self._ideal_pixels(batch, _FINER)
        for view in batch.views:
            for rows in np.split(seen_rows(batch, view), _cuts(batch, view)):
                yield view, rows, *self._collect(batch, ideal, view, rows)

    def _ideal_pixels(self, batch: RigBatch, finer: int) -> np.ndarray:
        """Return where every heatmap pixel lies in the image, ideal, (V, B, pixels, 2)."""
        height, width = (side * finer for side in batch.heatmaps_VBJhw.shape[-2:])
        rows, columns = np.indices((height, width))
        pixels = np.stack([columns.ravel(), rows.ravel()], -1).astype(float)
        crop_px = crop_from_heatmap(pixels, batch.crop_px, (height, width))
        image_px = apply_affine(invert_affine(batch.crop_from_image_VB23), crop_px)
        if self.lenses is None:
            return image_px
        cameras = zip(self.lenses.cameras, image_px, strict=True)
        # Corners of a crop may lie beyond what the lens model covers: no line meets them.
        return np.stack([camera.undistort(px) for camera, px in cameras])

    def _collect(
        self, batch: RigBatch, ideal: tuple[np.ndarray, np.ndarray], view: int, rows: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = _weighed(batch.heatmaps_VBJhw[view, rows])
        total, count = torch.zeros_like(own), torch.zeros(len(rows))
        for source in batch.views:
            fundamental = self.fundamentals.get((view, source))
            if fundamental is None:
                continue
            pixels = ideal[0][view, rows], ideal[1][source, rows]
            target_bin, source_bin, bins = _bins(fundamental, batch, pixels, source, rows)
            heatmaps = _weighed(batch.heatmaps_VBJhw[source, rows])
            total += _line_maximum(heatmaps, target_bin, source_bin, bins)
            count += batch.seen_VB[source, rows].float()
        collected = total / count.clamp(min=1)[:, None, None, None]
        alone = (count == 0)[:, None, None, None]
        return own, torch.where(alone, own, collected)


@dataclass(frozen=True)
class EpipolarMaximum:
    """Epipolar maximum by a given calibration, or by fundamental matrices from the labels alone.

    Attributes:
        from_labels: Take the geometry from the labels; the calibration then only triangulates.
    """

    from_labels: bool = False

    def adapt(self, task: RigTask) -> EpipolarRig:
        """Find the pairs' geometry."""
        if self.from_labels:
            return EpipolarRig(label_geometry(task), None, task.calibration)
        rig = given_rig(task)
        return EpipolarRig(true_geometry(rig), rig, rig)


def true_geometry(rig: Rig) -> Fundamentals:
    """Return the fundamental matrices of a calibrated rig."""
    views = range(len(rig))
    return {
        (target, source): fundamental_matrix(rig.cameras[target], rig.cameras[source])
        for target in views
        for source in views
        if target != source
    }


def label_geometry(task: RigTask) -> Fundamentals:
    """Return the fundamental matrices of the labels, in image pixels as they are."""
    if task.labelled is None:
        return {}
    labels = label_joints(task.labelled)
    to_image = invert_affine(task.labelled.crop_from_image_VB23)
    image_px = apply_affine(to_image, labels.argmax_VBJ2)
    found = {}
    for target in task.labelled.views:
        for source in task.labelled.views:
            both = (labels.peak_VBJ[target] > 0) & (labels.peak_VBJ[source] > 0)
            if target != source:
                matrix = fundamental_from_points(image_px[target][both], image_px[source][both])
                if matrix is not None:
                    found[target, source] = matrix
    return found


def _weighed(heatmaps_BJhw: torch.Tensor) -> torch.Tensor:
    """Weigh heatmaps by their squared peaks; the root helps lines that pass close to a peak."""
    heat = heatmaps_BJhw.clamp(min=0)
    return heat.sqrt() * heat.amax((-2, -1), keepdim=True) ** 2


def _bins(
    fundamental: np.ndarray,
    batch: RigBatch,
    pixels: tuple[np.ndarray, np.ndarray],
    source: int,
    rows: np.ndarray,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the bin of every target and source pixel's line, and how many there are."""
    unit = np.zeros((len(rows), 3, 3))
    unit[:, :2] = batch.crop_from_image_VB23[source, rows] * (2 / batch.crop_px)
    unit[:, :2, 2] -= 1
    unit[:, 2, 2] = 1
    angles = pencil_angles(fundamental, *pixels, unit)
    # A heatmap pixel is 2 / w wide there; lines that cross the middle turn by about as much.
    bins = int(np.pi * max(batch.heatmaps_VBJhw.shape[-2:]) / 2)
    target, near = (np.nan_to_num(values, nan=0.0) * (bins / np.pi) for values in angles)
    return torch.from_numpy(target).float(), torch.from_numpy(near).float(), bins


def _line_maximum(
    heatmaps_BJhw: torch.Tensor, target_bin_BP: torch.Tensor, source_bin_BQ: torch.Tensor, bins: int
) -> torch.Tensor:
    """Return the maximum over source pixels on every target pixel's line, like the heatmaps."""
    fine = nn.functional.interpolate(heatmaps_BJhw, scale_factor=_FINER, mode="bilinear")
    flat = fine.flatten(-2)
    joints = flat.shape[1]
    nearest = source_bin_BQ.long().clamp(max=bins - 1)[:, None].expand(-1, joints, -1)
    best = torch.zeros(len(flat), joints, bins).scatter_reduce(2, nearest, flat, "amax")
    # Between the middles of two bins, a mean of both: lines do not jump from bin to bin.
    place = target_bin_BP - 0.5
    below = place.floor()
    share = (place - below)[:, None]
    low, high = (
        torch.gather(best, 2, (below.long() + step).remainder(bins)[:, None].expand(-1, joints, -1))
        for step in (0, 1)
    )
    return ((1 - share) * low + share * high).unflatten(-1, heatmaps_BJhw.shape[-2:])


def _cuts(batch: RigBatch, view: int) -> np.ndarray:
    return np.arange(_CHUNK, len(seen_rows(batch, view)), _CHUNK)
