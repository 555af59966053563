"""The doubt of a rig's calibration, pair by pair, estimated without ground truth.

Two different figures, both in a unit of the caller's (such as a heatmap pixel):

- the *residual*, how far detections lie from the epipolar lines of the other view, judged on
  blocks of time that the calibration was not adjusted to. It contains every error: of
  detector, geometry and lens. A calibration that was only given is judged on all of the time;
- the *spread*, the standard error of the lines themselves, by the jackknife: how far they move
  when one block of time after the other is left out. It contains what too few detections leave
  uncertain, with errors that last for a while, but no error that every block repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metafuse_ray.calibration.bundle import Observations
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.epipolar import epipolar_line, pair_fundamentals

FloatArray = npt.NDArray[np.float64]
Refit = Callable[[Observations], Sequence[Camera]]
"""Adjusts the calibration to some of the observations."""

LEAST_SHARED = 8
"""Points that a pair must share for its residual to mean anything."""


@dataclass(frozen=True, eq=False)
class PairDoubt:
    """Doubt of every pair of views; symmetric, 0 on the diagonal.

    Attributes:
        residual_VV: Median distance of a point from its epipolar line; infinite where a pair
            shares too few points.
        spread_VV: Standard error of the lines' places; infinite where it is unknown, 0 where
            nothing was adjusted.
        shared_VV: Points that both views have.
    """

    residual_VV: FloatArray
    spread_VV: FloatArray
    shared_VV: npt.NDArray[np.intp]


def doubt_given(seen: Observations, unit_VN: FloatArray, cameras: Sequence[Camera]) -> PairDoubt:
    """Judge a calibration that was not adjusted to the observations.

    Args:
        seen: Ideal pixels.
        unit_VN: Pixels of one unit at every point.
        cameras: The calibration.
    """
    return _doubt(_distances(seen, unit_VN, cameras), None)


def doubt_adjusted(
    seen: Observations,
    unit_VN: FloatArray,
    block_N: npt.NDArray[np.intp],
    cameras: Sequence[Camera],
    refit: Refit,
) -> PairDoubt:
    """Judge a calibration that was adjusted to the observations themselves.

    Args:
        seen: Ideal pixels.
        unit_VN: Pixels of one unit at every point.
        block_N: Which block of time a point is of; blocks should be so long that they do
            not repeat each other; a few are enough.
        cameras: Adjusted to all of them.
        refit: Called once a block, with the points of this block hidden.
    """
    whole = _distances(seen, unit_VN, cameras)
    held_out, moved = np.full_like(whole, np.nan), []
    for block in np.unique(block_N):
        inside = block_N == block
        rest = seen._replace(sigma_VN=np.where(inside, np.nan, seen.sigma_VN))
        without = _distances(seen, unit_VN, refit(rest))
        held_out[..., inside] = without[..., inside]
        moved.append(without - whole)
    return _doubt(held_out, np.stack(moved))


def _doubt(distance_VVN: FloatArray, moved_KVVN: FloatArray | None) -> PairDoubt:
    views = len(distance_VVN)
    shared_VV = np.isfinite(distance_VVN).sum(-1)
    enough = (shared_VV >= LEAST_SHARED) & ~np.eye(views, dtype=bool)
    residual_VV = _median(np.abs(distance_VVN), enough)
    if moved_KVVN is None:
        return PairDoubt(residual_VV, np.zeros((views, views)), shared_VV)
    blocks = len(moved_KVVN)
    variance_VVN = (blocks - 1) / blocks * np.square(moved_KVVN).sum(0)
    spread_VV = _median(np.sqrt(variance_VVN), enough & (blocks > 1))
    return PairDoubt(residual_VV, spread_VV, shared_VV)


def _median(values_VVN: FloatArray, told_VV: npt.NDArray[np.bool_]) -> FloatArray:
    """Median of a pair, both directions together; 0 on the diagonal, infinite where unknown."""
    views = len(values_VVN)
    result = np.where(np.eye(views, dtype=bool), 0.0, np.inf)
    for target in range(views):
        for source in range(target):
            if told_VV[target, source]:
                both = np.concatenate([values_VVN[target, source], values_VVN[source, target]])
                result[target, source] = result[source, target] = np.nanmedian(both)
    return result


def _distances(seen: Observations, unit_VN: FloatArray, cameras: Sequence[Camera]) -> FloatArray:
    """Signed distances (target, source, point) of source points from the target points' lines."""
    known_VN = seen.known
    views = len(cameras)
    distance_VVN = np.full((views, views, known_VN.shape[1]), np.nan)
    for (target, source), matrix in pair_fundamentals(cameras):
        both = known_VN[target] & known_VN[source]
        line_N3 = epipolar_line(matrix, seen.points_VN2[target][both])
        at_N2 = seen.points_VN2[source][both]
        pixels = np.sum(line_N3[:, :2] * at_N2, axis=-1) + line_N3[:, 2]
        distance_VVN[target, source, both] = pixels / unit_VN[source][both]
    return distance_VVN
