"""What the other views show of a joint, and how far they and the calibration can be trusted.

Every view is reduced to the highest peaks of its heatmaps. A peak is a line in each other view;
the first peaks of all views, triangulated robustly, are a point, and so are those of all views but
the one to be fused. The error of a calibration shows without labels, as the distance of confident
peaks from each other's lines: over all available samples (the doubt that
`metafuse_ray.methods.plus.rig_calibration` computes), and in the sample that is fused.

All lengths are in px64, 1/64 of a crop's side (`metafuse_ray.methods.plus.crop_cameras`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from metafuse_ray.geometry.epipolar import homogeneous, pair_fundamentals
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.geometry.triangulate import triangulate_robust
from metafuse_ray.methods.plus.crop_cameras import (
    ideal_from_px64,
    ideal_px_per_px64,
    px64_from_grid,
    px64_from_world,
)
from metafuse_ray.pose.modes import find_modes
from metafuse_ray.samples.joints import refine_window
from metafuse_ray.samples.rig_batch import RigBatch

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MODES = 2
"""Peaks of a heatmap that are used."""
WORST_DOUBT = 16.0
"""px64: larger doubts, and unknown ones, count as this one."""
INLIER = 5.0
"""px64: inlier threshold of the triangulated points (20 px of a crop of 256)."""
_AGREE = 2.5
"""px64: standard deviation of the agreement of a view with a point."""
_FEWEST = 5
"""Least number of common joints that the doubt of a sample is computed from."""
_OUTSIDE = 1e3
"""px64: where a point that is not known is put."""


@dataclass(frozen=True, eq=False)
class Peaks:
    """The highest peaks of every heatmap of a rig's samples.

    Attributes:
        px64_VBJK2: Where.
        height_VBJK: Height; 0 where the view sees nobody.
    """

    px64_VBJK2: FloatArray
    height_VBJK: FloatArray

    @classmethod
    def of(cls, batch: RigBatch) -> Peaks:
        """Find them."""
        grid = batch.heatmaps_VBJhw.shape[-2], batch.heatmaps_VBJhw.shape[-1]
        window = refine_window(grid[1])
        found = [find_modes(heatmaps, MODES, window) for heatmaps in batch.heatmaps_VBJhw]
        px_VBJK2 = torch.stack([px for px, _ in found]).double().numpy()
        height_VBJK = torch.stack([height for _, height in found]).double()
        height_VBJK = height_VBJK * batch.seen_VB[:, :, None, None]
        return cls(px64_from_grid(px_VBJK2, grid), height_VBJK.numpy())

    @property
    def first(self) -> FloatArray:
        """Where the highest peaks are, (V, B, J, 2)."""
        return self.px64_VBJK2[..., 0, :]

    @property
    def trust(self) -> FloatArray:
        """Weight of a view, (V, B, J): the square of its highest peak."""
        return np.square(self.height_VBJK[..., 0])


@dataclass(frozen=True, eq=False)
class Points:
    """Triangulated joints as every view should see them.

    Attributes:
        px64_VBJ2: Where; far outside where it is not known.
        known_VBJ: Whether it is known.
        support_VBJ: Sum of the trust of the views that took part and agree with it.
        miss_B: Mean distance of the peaks that took part, by their trust.
    """

    px64_VBJ2: FloatArray
    known_VBJ: BoolArray
    support_VBJ: FloatArray
    miss_B: FloatArray


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the views of a rig show of each other's joints.

    Attributes:
        peaks: What every view saw.
        lines_VVBJK3: [target, source]: the source's peaks as lines (a, b, c) in the target's
            px64, of unit normal.
        doubt_VVB: Of every pair in every sample; 0 on the diagonal.
        every: The points that all views give.
        others: The points that all views but the one to be fused give.
        world_BJ3: The points that all views give, in the rig's unit; NaN where not known.
        ideal_VB33: From px64 to ideal image pixels: see `ideal_from_px64`.
    """

    peaks: Peaks
    lines_VVBJK3: FloatArray
    doubt_VVB: FloatArray
    every: Points
    others: Points
    world_BJ3: FloatArray
    ideal_VB33: FloatArray


def gather_evidence(batch: RigBatch, rig: Rig) -> Evidence:
    """Compute what the views show of each other's joints.

    Args:
        batch: Samples; their own rig and labels are not used.
        rig: The calibration to use.
    """
    peaks = Peaks.of(batch)
    ideal_VB33 = ideal_from_px64(batch, rig)
    lines = _lines(peaks, rig, ideal_VB33)
    world_BJ3 = _triangulated(peaks, rig, ideal_VB33, peaks.trust)
    alone = []
    for view in batch.views:
        trust_VBJ = peaks.trust
        trust_VBJ[view] = 0
        others_BJ3 = _triangulated(peaks, rig, ideal_VB33, trust_VBJ)
        alone.append(_points(peaks, rig, ideal_VB33, trust_VBJ, others_BJ3))
    return Evidence(
        peaks=peaks,
        lines_VVBJK3=lines,
        doubt_VVB=_sample_doubt(peaks, lines),
        every=_points(peaks, rig, ideal_VB33, peaks.trust, world_BJ3),
        others=Points(
            px64_VBJ2=np.stack([points.px64_VBJ2[view] for view, points in enumerate(alone)]),
            known_VBJ=np.stack([points.known_VBJ[view] for view, points in enumerate(alone)]),
            support_VBJ=np.stack([points.support_VBJ[view] for view, points in enumerate(alone)]),
            miss_B=np.mean([points.miss_B for points in alone], axis=0),
        ),
        world_BJ3=world_BJ3,
        ideal_VB33=ideal_VB33,
    )


def _lines(peaks: Peaks, rig: Rig, ideal_VB33: FloatArray) -> FloatArray:
    views, count, joints, modes = peaks.height_VBJK.shape
    # Cameras that share their centre have no lines: nothing lies near these.
    lines_VVBJK3 = np.zeros((views, views, count, joints, modes, 3))
    lines_VVBJK3[..., 2] = _OUTSIDE
    peaks_VBJK3 = homogeneous(peaks.px64_VBJK2)
    for (target, source), fundamental in pair_fundamentals(rig.cameras):
        in_px64_B33 = np.swapaxes(ideal_VB33[source], 1, 2) @ fundamental @ ideal_VB33[target]
        line_BJK3 = np.einsum("bjki,bil->bjkl", peaks_VBJK3[source], in_px64_B33)
        length_BJK1 = np.linalg.norm(line_BJK3[..., :2], axis=-1, keepdims=True)
        lines_VVBJK3[target, source] = line_BJK3 / np.maximum(length_BJK1, 1e-12)
    return lines_VVBJK3


def _sample_doubt(peaks: Peaks, lines_VVBJK3: FloatArray) -> FloatArray:
    """Weighted median over the joints of the distance of first peaks from each other's lines."""
    first_VBJ3 = homogeneous(peaks.first)
    one_way = np.abs(np.einsum("tsbji,tbji->tsbj", lines_VVBJK3[..., 0, :], first_VBJ3))
    distance_VVBJ = (one_way + np.swapaxes(one_way, 0, 1)) / 2
    weight_VVBJ = peaks.trust[:, None] * peaks.trust[None]
    order = np.argsort(distance_VVBJ, axis=-1)
    distance_VVBJ = np.take_along_axis(distance_VVBJ, order, -1)
    weight_VVBJ = np.take_along_axis(weight_VVBJ, order, -1)
    reached_VVBJ = np.cumsum(weight_VVBJ, -1)
    middle = (reached_VVBJ >= reached_VVBJ[..., -1:] / 2).argmax(-1)
    found_VVB = np.take_along_axis(distance_VVBJ, middle[..., None], -1)[..., 0]
    known_VVB = (weight_VVBJ > 0).sum(-1) >= _FEWEST
    doubt_VVB = np.where(known_VVB, np.minimum(found_VVB, WORST_DOUBT), WORST_DOUBT)
    doubt_VVB[np.arange(len(doubt_VVB)), np.arange(len(doubt_VVB))] = 0.0
    return doubt_VVB


def _triangulated(
    peaks: Peaks, rig: Rig, ideal_VB33: FloatArray, trust_VBJ: FloatArray
) -> FloatArray:
    """Triangulate the first peaks of the views that are trusted, (B, J, 3)."""
    views, count, joints = trust_VBJ.shape
    ideal_VBJ3 = homogeneous(peaks.first) @ np.swapaxes(ideal_VB33, -1, -2)
    world_N3 = triangulate_robust(
        ideal_VBJ3[..., :2].reshape(views, -1, 2),
        np.stack([camera.projection_matrix for camera in rig.cameras]),
        trust_VBJ.reshape(views, -1),
        threshold_px=np.repeat(INLIER * ideal_px_per_px64(ideal_VB33), joints, axis=1),
    )
    return world_N3.reshape(count, joints, 3)


def _points(
    peaks: Peaks, rig: Rig, ideal_VB33: FloatArray, trust_VBJ: FloatArray, world_BJ3: FloatArray
) -> Points:
    """Look at triangulated points from every view."""
    there_VBJ2, known_VBJ = px64_from_world(world_BJ3, rig, ideal_VB33)
    there_VBJ2 = np.where(known_VBJ[..., None], there_VBJ2, _OUTSIDE).clip(-_OUTSIDE, _OUTSIDE)
    off_VBJ = np.linalg.norm(there_VBJ2 - peaks.first, axis=-1)
    agreeing_VBJ = trust_VBJ * np.exp(-np.square(off_VBJ / _AGREE) / 2) * known_VBJ
    used_VBJ = trust_VBJ * known_VBJ
    total_B = used_VBJ.sum((0, 2))
    miss_B = (used_VBJ * np.minimum(off_VBJ, WORST_DOUBT)).sum((0, 2)) / total_B.clip(1e-12)
    return Points(
        there_VBJ2,
        known_VBJ,
        np.broadcast_to(agreeing_VBJ.sum(0), agreeing_VBJ.shape),
        np.where(total_B > 0, miss_B, WORST_DOUBT),
    )
