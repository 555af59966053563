"""What views say of each other once more, joint by joint and in float64: lines, points, doubts.

Shapes: V views, B samples, J joints, K modes, H rows, W columns. Lengths are px64, 1/64 of a crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.plain_views import (
    FAR,
    MODES,
    ideal_from_px64,
    line_of,
    mapped,
    met_robustly,
    modes,
    px64_of,
    seen_at,
)

WORST_DOUBT = 16.0
INLIER = 5.0
AGREE = 2.5
FEWEST_JOINTS = 5


@dataclass(frozen=True, eq=False)
class PlainPoints:
    """Triangulated joints, as every view should see them."""

    px64_VBJ2: np.ndarray
    known_VBJ: np.ndarray
    support_BJ: np.ndarray
    miss_B: np.ndarray


@dataclass(frozen=True, eq=False)
class PlainEvidence:
    """What the views say of each other's joints; `others` holds one entry for every view."""

    ideal_VB33: np.ndarray
    px64_VBJK2: np.ndarray
    height_VBJK: np.ndarray
    lines_VVBJK3: np.ndarray
    doubt_VVB: np.ndarray
    world_BJ3: np.ndarray
    every: PlainPoints
    others: tuple[PlainPoints, ...]


def plain_evidence(batch: RigBatch, rig: Rig) -> PlainEvidence:
    """Lines, points and doubts of every sample."""
    maps_VBJHW = batch.heatmaps_VBJhw.double().numpy()
    views, samples, joints, *grid = maps_VBJHW.shape
    ideal_VB33 = np.zeros((views, samples, 3, 3))
    px64_VBJK2 = np.zeros((views, samples, joints, MODES, 2))
    height_VBJK = np.zeros((views, samples, joints, MODES))
    for v, b in product(range(views), range(samples)):
        ideal_VB33[v, b] = ideal_from_px64(
            rig.cameras[v], batch.crop_from_image_VB23[v, b], batch.crop_px
        )
        for j in range(joints):
            place_K2, height_K = modes(maps_VBJHW[v, b, j])
            px64_VBJK2[v, b, j] = px64_of(place_K2, (grid[0], grid[1]))
            height_VBJK[v, b, j] = height_K * bool(batch.seen_VB[v, b])
    lines = _lines(rig, ideal_VB33, px64_VBJK2)
    first_VBJ2, trust_VBJ = px64_VBJK2[..., 0, :], height_VBJK[..., 0] ** 2
    world_BJ3 = _world(rig, ideal_VB33, first_VBJ2, trust_VBJ)
    others = []
    for looking in range(views):
        trust_without_VBJ = trust_VBJ.copy()
        trust_without_VBJ[looking] = 0
        alone_BJ3 = _world(rig, ideal_VB33, first_VBJ2, trust_without_VBJ)
        others.append(_points(rig, ideal_VB33, first_VBJ2, trust_without_VBJ, alone_BJ3))
    return PlainEvidence(
        ideal_VB33,
        px64_VBJK2,
        height_VBJK,
        lines,
        _doubt(lines[..., 0, :], first_VBJ2, trust_VBJ),
        world_BJ3,
        _points(rig, ideal_VB33, first_VBJ2, trust_VBJ, world_BJ3),
        tuple(others),
    )


def _lines(rig: Rig, ideal_VB33: np.ndarray, px64_VBJK2: np.ndarray) -> np.ndarray:
    """[target, source]: the peaks of the source as lines in the target; FAR on the diagonal."""
    views, samples, joints, number, _ = px64_VBJK2.shape
    lines_VVBJK3 = np.zeros((views, views, samples, joints, number, 3))
    lines_VVBJK3[..., 2] = FAR
    for target, source in product(range(views), repeat=2):
        if target == source:
            continue
        for b, j, k in product(range(samples), range(joints), range(number)):
            lines_VVBJK3[target, source, b, j, k] = line_of(
                rig.cameras[target],
                rig.cameras[source],
                ideal_VB33[target, b],
                mapped(ideal_VB33[source, b], px64_VBJK2[source, b, j, k]),
            )
    return lines_VVBJK3


def _doubt(lines_VVBJ3: np.ndarray, first_VBJ2: np.ndarray, trust_VBJ: np.ndarray) -> np.ndarray:
    """Weighted median over the joints of how far first peaks lie off each other's lines."""
    views, samples, joints = trust_VBJ.shape
    doubt_VVB = np.zeros((views, views, samples))
    for v, w, b in product(range(views), range(views), range(samples)):
        if v == w:
            continue
        told = []
        for j in range(joints):
            there = abs(lines_VVBJ3[v, w, b, j] @ [*first_VBJ2[v, b, j], 1.0])
            back = abs(lines_VVBJ3[w, v, b, j] @ [*first_VBJ2[w, b, j], 1.0])
            weight = trust_VBJ[v, b, j] * trust_VBJ[w, b, j]
            if weight > 0:
                told.append(((there + back) / 2, weight))
        doubt_VVB[v, w, b] = WORST_DOUBT
        if len(told) >= FEWEST_JOINTS:
            doubt_VVB[v, w, b] = min(_weighted_median(told), WORST_DOUBT)
    return doubt_VVB


def _weighted_median(told: list[tuple[float, float]]) -> float:
    half, reached = sum(weight for _, weight in told) / 2, 0.0
    for value, weight in sorted(told):
        reached += weight
        if reached >= half:
            return value
    raise AssertionError("weights are positive")


def _world(
    rig: Rig, ideal_VB33: np.ndarray, first_VBJ2: np.ndarray, trust_VBJ: np.ndarray
) -> np.ndarray:
    views, samples, joints = trust_VBJ.shape
    world_BJ3 = np.zeros((samples, joints, 3))
    for b, j in product(range(samples), range(joints)):
        ideal_V2 = np.array([mapped(ideal_VB33[v, b], first_VBJ2[v, b, j]) for v in range(views)])
        px_per_px64_V = np.sqrt(np.abs(np.linalg.det(ideal_VB33[:, b, :2, :2])))
        world_BJ3[b, j] = met_robustly(rig, ideal_V2, trust_VBJ[:, b, j], INLIER * px_per_px64_V)
    return world_BJ3


def _points(
    rig: Rig,
    ideal_VB33: np.ndarray,
    first_VBJ2: np.ndarray,
    trust_VBJ: np.ndarray,
    world_BJ3: np.ndarray,
) -> PlainPoints:
    views, samples, joints = trust_VBJ.shape
    px64_VBJ2 = np.zeros((views, samples, joints, 2))
    known_VBJ = np.zeros((views, samples, joints), bool)
    support_BJ = np.zeros((samples, joints))
    miss_B = np.zeros(samples)
    for b in range(samples):
        missed = heard = 0.0
        for v, j in product(range(views), range(joints)):
            px64_2, known = seen_at(rig.cameras[v], ideal_VB33[v, b], world_BJ3[b, j])
            px64_VBJ2[v, b, j] = px64_2.clip(-FAR, FAR)
            known_VBJ[v, b, j] = known
            if known:
                off = np.linalg.norm(px64_VBJ2[v, b, j] - first_VBJ2[v, b, j])
                trust = trust_VBJ[v, b, j]
                support_BJ[b, j] += trust * np.exp(-((off / AGREE) ** 2) / 2)
                missed += trust * min(off, WORST_DOUBT)
                heard += trust
        miss_B[b] = missed / heard if heard > 0 else WORST_DOUBT
    return PlainPoints(px64_VBJ2, known_VBJ, support_BJ, miss_B)
