"""The frames around once more, frame by frame and in float64: robust polynomials over time.

Shapes: B samples, J joints, N samples in a window, D powers of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metafuse_ray.pose.skeleton import Skeleton
from tests.support.plain_offsets import body_axes

WIDTHS = (1.5, 3.0, 6.0)
AS_GOOD = 1.3
DOUBTFUL = 1.5  # tenths of the torso, as the next one
OUTLIER = 0.8
REACH = 2.0
DEGREE = 2
FITS = 6
LEAST_TRUST = 0.3
RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class PlainSteadied:
    """Joints by the frames around, how far off they are, and which window was taken."""

    points_BJ3: np.ndarray
    doubt: float
    width: float = np.nan

    @property
    def weight(self) -> float:
        """1 without doubt, a quarter at DOUBTFUL."""
        return (1 + (self.doubt / DOUBTFUL) ** 2) ** -2


def plain_steadied(
    points_BJ3: np.ndarray,
    trust_BJ: np.ndarray,
    time_B2: np.ndarray,
    person_B: np.ndarray,
    skeleton: Skeleton,
) -> PlainSteadied:
    """Fit every joint over time, in the widest window that foretells frames well."""
    torsos = [np.linalg.norm(body_axes(points, skeleton)[1]) for points in points_BJ3]
    nothing = PlainSteadied(np.full_like(points_BJ3, np.nan), np.inf)
    if np.isnan(torsos).all():
        return nothing
    tenth = float(np.nanmedian(torsos))  # the axes are a tenth of the torso long
    data = points_BJ3, trust_BJ, time_B2, person_B, tenth
    doubts = {}
    for width in WIDTHS:
        foretold_BJ3 = _fitted(*data, width, itself=False)
        off_BJ = np.linalg.norm(points_BJ3 - foretold_BJ3, axis=-1) / tenth
        known = off_BJ[np.isfinite(off_BJ)]
        doubts[width] = float(np.median(known)) if len(known) else np.inf
    if np.isinf(min(doubts.values())):
        return nothing
    good = [width for width in WIDTHS if doubts[width] <= AS_GOOD * min(doubts.values())]
    widest = max(good)
    return PlainSteadied(_fitted(*data, widest, itself=True), doubts[widest], widest)


def _fitted(
    points_BJ3: np.ndarray,
    trust_BJ: np.ndarray,
    time_B2: np.ndarray,
    person_B: np.ndarray,
    tenth: float,
    width: float,
    *,
    itself: bool,
) -> np.ndarray:
    fitted_BJ3 = np.full_like(points_BJ3, np.nan)
    for b in range(len(points_BJ3)):
        track = [
            other
            for other in range(len(points_BJ3))
            if time_B2[other, 0] == time_B2[b, 0] and person_B[other] == person_B[b]
        ]
        steps = np.diff(np.sort(time_B2[track, 1]))
        step = np.median(steps[steps > 0]) if (steps > 0).any() else 1.0
        away = {other: (time_B2[other, 1] - time_B2[b, 1]) / (width * step) for other in track}
        for j in range(points_BJ3.shape[1]):
            near = [
                other
                for other in track
                if abs(away[other]) <= REACH
                and (itself or away[other] != 0)
                and np.isfinite(points_BJ3[other, j]).all()
                and trust_BJ[other, j] > 0
            ]
            if near:
                time_N = np.array([away[other] for other in near])
                base_N = trust_BJ[near, j] * np.exp(-(time_N**2) / 2)
                fitted_BJ3[b, j] = _curve_now(time_N, points_BJ3[near, j], base_N, tenth)
    return fitted_BJ3


def _curve_now(
    time_N: np.ndarray, points_N3: np.ndarray, base_N: np.ndarray, tenth: float
) -> np.ndarray:
    """Value at time 0 of a polynomial, fitted again and again with outliers weighed down."""
    powers_ND = np.array([[time**power for power in range(DEGREE + 1)] for time in time_N])
    weight_N = base_N
    for _ in range(FITS):
        # A faint pull to 0 keeps the fit unique: RIDGE is the weight of rows that ask for 0.
        root_N = np.sqrt(weight_N)[:, None]
        rows = np.vstack([root_N * powers_ND, np.sqrt(RIDGE) * np.eye(DEGREE + 1)])
        asked = np.vstack([root_N * points_N3, np.zeros((DEGREE + 1, 3))])
        curve_D3 = np.linalg.lstsq(rows, asked, rcond=None)[0]
        off_N = np.linalg.norm(points_N3 - powers_ND @ curve_D3, axis=-1)
        weight_N = base_N / (1 + (off_N / (OUTLIER * tenth)) ** 2)
    if len(time_N) <= DEGREE + 1 or weight_N.sum() <= LEAST_TRUST:
        return np.full(3, np.nan)
    return curve_D3[0]
