"""MetaFuse+ once more, as its maths is worded and without its code: loops, in float64.

Shapes: V views, B samples, J joints, K modes, H rows, W columns. Lengths are px64, 1/64 of a crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.plain_evidence import (
    INLIER,
    WORST_DOUBT,
    PlainEvidence,
    plain_evidence,
)
from tests.support.plain_offsets import moved, plain_shift
from tests.support.plain_time import plain_steadied
from tests.support.plain_views import (
    PX64,
    highest_peak,
    ideal_from_px64,
    ideal_px,
    met_robustly,
    px64_of,
    seen_at,
)

FAINT = 0.02
LEAST_SHARE = 1e-9
FAINTEST = 0.02
AROUND_SIGMA = 1.5

Scalars = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class PlainFusion:
    """Voices add up, over the sum of their weights.

    Attributes:
        batch: The samples.
        evidence: What their views say of each other.
        doubt_VV: Of every pair.
        scalars: See `metafuse_ray.methods.plus.weights`.
    """

    batch: RigBatch
    evidence: PlainEvidence
    doubt_VV: np.ndarray
    scalars: Scalars

    def fused(self) -> np.ndarray:
        """Fused heatmaps (V, B, J, H, W)."""
        shape = self.batch.heatmaps_VBJhw.shape
        fused_VBJHW = np.zeros(shape)
        for v, b, j in product(*map(range, shape[:3])):
            voices = [self._own(v, b, j), *self._lines(v, b, j), *self._points(v, b, j)]
            total = sum(weight for weight, _ in voices)
            fused_VBJHW[v, b, j] = sum(weight * map_HW for weight, map_HW in voices) / total
        return fused_VBJHW

    def _own(self, v: int, b: int, j: int) -> tuple[float, np.ndarray]:
        peak = self.evidence.height_VBJK[v, b, j, 0] + FAINT
        map_HW = self.batch.heatmaps_VBJhw[v, b, j].double().numpy()
        return self._by_shape("own", v, b, j), map_HW / peak

    def _lines(self, v: int, b: int, j: int) -> list[tuple[float, np.ndarray]]:
        x_HW, y_HW = grid_px64(self.batch)
        voices = []
        for source in range(len(self.doubt_VV)):
            if source == v or self.evidence.height_VBJK[source, b, :, 0].max() == 0:
                continue
            doubts = self._doubt(v, source), self.evidence.doubt_VVB[v, source, b]
            sigma = self._sigma("line", *doubts)
            heights_K = self.evidence.height_VBJK[source, b, j]
            lines_K3 = self.evidence.lines_VVBJK3[v, source, b, j]
            ridge_HW = np.zeros_like(x_HW)
            for height, (x, y, constant) in zip(heights_K, lines_K3, strict=True):
                share = max(height / (heights_K[0] + FAINT), LEAST_SHARE)
                off_HW = (x * x_HW + y * y_HW + constant) / sigma
                ridge_HW = np.maximum(ridge_HW, share * np.exp(-(off_HW**2) / 2))
            weight = self._by_shape("line", source, b, j) * self._faded("line", *doubts)
            voices.append((weight, ridge_HW))
        return voices

    def _points(self, v: int, b: int, j: int) -> list[tuple[float, np.ndarray]]:
        others = self.evidence.others
        # How far the points of the others are off is told by all views together.
        miss_of_others = sum(points.miss_B[b] for points in others) / len(others)
        pairs = [self._doubt(v, w) for w in range(len(self.doubt_VV)) if w != v]
        doubt = sum(pairs) / len(pairs)
        peak = self.evidence.height_VBJK[v, b, j, 0] + FAINT
        voices = []
        for name, points, miss in (
            ("every", self.evidence.every, self.evidence.every.miss_B[b]),
            ("others", others[v], miss_of_others),
        ):
            if points.known_VBJ[v, b, j]:
                weight = np.exp(self.scalars[f"{name}_bias"])
                weight *= (points.support_BJ[b, j] + FAINT) ** self.scalars[f"{name}_support"]
                weight *= peak ** self.scalars[f"{name}_peak"]
                weight *= self._faded("point", doubt, miss)
                sigma = self._sigma("point", doubt, miss)
                voices.append((weight, bell(self.batch, points.px64_VBJ2[v, b, j], sigma)))
        return voices

    def _by_shape(self, name: str, v: int, b: int, j: int) -> float:
        """What the shape of a heatmap makes its word weigh."""
        first, second = self.evidence.height_VBJK[v, b, j]
        peak = first + FAINT
        by_peak = np.exp(self.scalars[f"{name}_bias"]) * peak ** self.scalars[f"{name}_peak"]
        return by_peak * np.exp(self.scalars[f"{name}_second"] * second / peak)

    def _doubt(self, v: int, w: int) -> float:
        return min(self.doubt_VV[v, w], WORST_DOUBT)

    def _faded(self, name: str, doubt: float, now: float) -> float:
        floor = np.exp(self.scalars["log_floor"])
        lasting = (doubt + floor) ** -self.scalars[f"{name}_fade"]
        return lasting * (now + floor) ** -self.scalars[f"{name}_fade_now"]

    def _sigma(self, name: str, doubt: float, now: float) -> float:
        sure, slope, slope_now = (
            np.exp(self.scalars[f"{name}_{part}"]) for part in ("sigma", "slope", "slope_now")
        )
        return np.sqrt(sure**2 + (slope * doubt) ** 2 + (slope_now * now) ** 2)


def grid_px64(batch: RigBatch) -> tuple[np.ndarray, np.ndarray]:
    """Where the grid's pixels are, x and y (H, W)."""
    height, width = batch.heatmaps_VBJhw.shape[-2:]
    rows_HW, columns_HW = np.indices((height, width))
    px64_HW2 = px64_of(np.stack([columns_HW, rows_HW], -1), (height, width))
    return px64_HW2[..., 0], px64_HW2[..., 1]


def bell(batch: RigBatch, px64_2: np.ndarray, sigma: float) -> np.ndarray:
    x_HW, y_HW = grid_px64(batch)
    return np.exp(-((x_HW - px64_2[0]) ** 2 + (y_HW - px64_2[1]) ** 2) / (2 * sigma**2))


@dataclass(frozen=True, eq=False)
class PlainPlus:
    """A calibrated rig: what `PlusRig` is."""

    scalars: Scalars
    rig: Rig
    doubt_VV: np.ndarray
    offsets_J3: np.ndarray
    across_time: bool = True

    def heatmaps(self, batch: RigBatch, around: Sequence[RigBatch] = ()) -> np.ndarray:
        """Fused heatmaps (V, B, J, H, W): frame by frame, moved, then with the frames around."""
        fused_VBJHW = self._frame_by_frame(batch)
        if not self.across_time or batch.skeleton is None:
            return fused_VBJHW
        every = [(batch, fused_VBJHW)]
        every += [(part, self._frame_by_frame(part)) for part in around]
        found = [self._moments(part, maps) for part, maps in every]
        steady = plain_steadied(
            np.concatenate([points for points, _ in found]),
            np.concatenate([trust for _, trust in found]),
            np.concatenate([part.time_B2 for part, _ in every]),
            np.concatenate([part.person_B for part, _ in every]),
            batch.skeleton,
        )
        if steady.weight < FAINTEST:
            return fused_VBJHW
        for v, b, j in product(*map(range, fused_VBJHW.shape[:3])):
            camera, crop_23 = self.rig.cameras[v], batch.crop_from_image_VB23[v, b]
            ideal_33 = ideal_from_px64(camera, crop_23, batch.crop_px)
            px64_2, known = seen_at(camera, ideal_33, steady.points_BJ3[b, j])
            if known:
                voice_HW = steady.weight * bell(batch, px64_2, AROUND_SIGMA)
                fused_VBJHW[v, b, j] = (fused_VBJHW[v, b, j] + voice_HW) / (1 + steady.weight)
        return fused_VBJHW

    def _frame_by_frame(self, batch: RigBatch) -> np.ndarray:
        evidence = plain_evidence(batch, self.rig)
        fused_VBJHW = PlainFusion(batch, evidence, self.doubt_VV, self.scalars).fused()
        shift_VBJ2 = plain_shift(batch, evidence, self.rig, self.offsets_J3)
        for at in product(*map(range, fused_VBJHW.shape[:3])):
            if shift_VBJ2[at].any():
                fused_VBJHW[at] = moved(fused_VBJHW[at], shift_VBJ2[at])
        return fused_VBJHW

    def _moments(self, batch: RigBatch, maps_VBJHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (B, J, 3) of fused heatmaps, and their trust (B, J)."""
        views, samples, joints = maps_VBJHW.shape[:3]
        points_BJ3, trust_BJ = np.zeros((samples, joints, 3)), np.zeros((samples, joints))
        for b, j in product(range(samples), range(joints)):
            ideal_V2, trust_V, reach_V = np.zeros((views, 2)), np.zeros(views), np.zeros(views)
            for v in range(views):
                if batch.seen_VB[v, b]:
                    px_2, height = highest_peak(maps_VBJHW[v, b, j])
                    ideal_V2[v] = ideal_px(batch, self.rig, v, b, px_2)
                    trust_V[v] = height**2 * bool(np.isfinite(ideal_V2[v]).all())
                    trust_BJ[b, j] += height**2
                crop_23 = batch.crop_from_image_VB23[v, b]
                reach_V[v] = INLIER * batch.crop_px / PX64 / np.linalg.norm(crop_23[0, :2])
            points_BJ3[b, j] = met_robustly(self.rig, ideal_V2, trust_V, reach_V)
        return points_BJ3, trust_BJ


def plain_joints(batch: RigBatch, maps_VBJHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of heatmaps in crop pixels (V, B, J, 2), NaN where a view sees nobody, and heights."""
    height, width = maps_VBJHW.shape[-2:]
    crop_VBJ2 = np.full((*maps_VBJHW.shape[:3], 2), np.nan)
    peak_VBJ = np.zeros(maps_VBJHW.shape[:3])
    for v, b, j in product(*map(range, maps_VBJHW.shape[:3])):
        if batch.seen_VB[v, b]:
            px_2, peak_VBJ[v, b, j] = highest_peak(maps_VBJHW[v, b, j])
            crop_VBJ2[v, b, j] = (px_2 + 0.5) * batch.crop_px / np.array([width, height]) - 0.5
    return crop_VBJ2, peak_VBJ
