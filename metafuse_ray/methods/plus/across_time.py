"""Where joints should be, according to the frames before and after.

A joint that two views disagree about in one frame was often clear a moment before. The joints of a
person are triangulated frame by frame. A polynomial over time is fitted robustly around each frame,
and its value is one more term of the fusion. Neither the speed of people nor the frame rate is
known, so the width of the window is chosen: the widest of those that predict a frame well from its
neighbours, since a detector repeats its errors for some frames. The term's weight falls with the
error of that prediction, to nothing where frames are too far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metafuse_ray.methods.plus.joint_offsets import BodyFrames
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.joints import Joints2D
from metafuse_ray.samples.rig_batch import RigBatch

FloatArray = npt.NDArray[np.float64]

WIDTHS = (1.5, 3.0, 6.0)
"""Standard deviations of the window, in the usual distance between two frames."""
_AS_GOOD = 1.3
"""A wider window may have up to this many times the error of the best one."""
_DOUBTFUL = 1.5
"""Doubt, in tenths of the torso's length, at which the frames around weigh a quarter."""
_REACH = 2
"""Standard deviations beyond which frames do not count."""
_DEGREE = 2
_OUTLIER = 0.8
"""Distance, in tenths of the torso's length, beyond which a point does not count."""
_ITERATIONS = 6
_LEAST = 0.3
"""Trust of the frames around below which the joint is unknown."""
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Steadied:
    """Joints according to the frames around.

    Attributes:
        points_BJ3: Where; NaN where unknown.
        doubt: Median error of predicting a frame from its neighbours, in tenths of the torso's
            length; infinite where there are no neighbours.
    """

    points_BJ3: FloatArray
    doubt: float

    @property
    def weight(self) -> float:
        """How far to trust them, from 1 down to 0."""
        return 1 / (1 + (self.doubt / _DOUBTFUL) ** 2) ** 2


@dataclass(frozen=True, eq=False)
class Moments:
    """Samples triangulated one by one, to be fitted over time.

    Attributes:
        points_BJ3: Joints, NaN where not known.
        trust_BJ: Their weights.
        time_B2: (clip, frame).
        person_B: Person of every sample.
        skeleton: The names of the joints.
    """

    points_BJ3: FloatArray
    trust_BJ: FloatArray
    time_B2: npt.NDArray[np.int64]
    person_B: npt.NDArray[np.int64]
    skeleton: Skeleton | None

    @classmethod
    def of(cls, batch: RigBatch, joints: Joints2D, points_BJ3: FloatArray) -> Moments:
        """Take what was found in a batch; the squares of its peaks are the trust."""
        trust_BJ = np.square(joints.peak_VBJ).sum(0)
        return cls(points_BJ3, trust_BJ, batch.time_B2, batch.person_B, batch.skeleton)

    def steadied(self, around: Sequence[Moments] = ()) -> Steadied:
        """Fit them over time, with other samples around: see the function of this name."""
        if self.skeleton is None:
            return Steadied(np.full_like(self.points_BJ3, np.nan), np.inf)
        every = [self, *around]
        points_NJ3 = np.concatenate([one.points_BJ3 for one in every])
        found = steadied(
            points_NJ3,
            np.concatenate([one.trust_BJ for one in every]),
            BodyFrames.of(points_NJ3, self.skeleton).torso,
            np.concatenate([one.time_B2 for one in every]),
            np.concatenate([one.person_B for one in every]),
        )
        return Steadied(found.points_BJ3[: len(self.points_BJ3)], found.doubt)


def steadied(
    points_BJ3: FloatArray,
    trust_BJ: FloatArray,
    torso_B: FloatArray,
    time_B2: npt.NDArray[np.int64],
    person_B: npt.NDArray[np.int64],
) -> Steadied:
    """Fit joints over time, person by person and clip by clip.

    Args:
        points_BJ3: Triangulated joints in any unit; NaN where not known.
        trust_BJ: Their weights.
        torso_B: Length of the torso in that unit; NaN where not known.
        time_B2: (clip, frame) of every sample.
        person_B: Person of every sample.
    """
    tenth = 0.1 * float(np.nanmedian(torso_B)) if np.isfinite(torso_B).any() else np.nan
    nothing = Steadied(np.full_like(points_BJ3, np.nan), np.inf)
    if not tenth > 0:
        return nothing
    tracks = _tracks(time_B2, person_B)

    def fitted(width: float, *, without_itself: bool) -> FloatArray:
        found_BJ3 = np.full_like(points_BJ3, np.nan)
        for rows in tracks:
            windows = _Windows.around(time_B2[rows, 1], width)
            found_BJ3[rows] = windows.fitted(
                points_BJ3[rows], trust_BJ[rows], tenth, without_itself=without_itself
            )
        return found_BJ3

    doubts = [
        _median(np.linalg.norm(points_BJ3 - fitted(width, without_itself=True), axis=-1) / tenth)
        for width in WIDTHS
    ]
    if not np.isfinite(min(doubts)):
        return nothing
    width, doubt = max(
        (width, doubt)
        for width, doubt in zip(WIDTHS, doubts, strict=True)
        if doubt <= _AS_GOOD * min(doubts)
    )
    return Steadied(fitted(width, without_itself=False), doubt)


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.inf


def _tracks(
    time_B2: npt.NDArray[np.int64], person_B: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.intp]]:
    """Return the rows of every person in every clip, in order of time."""
    keys, track_of = np.unique(np.stack([time_B2[:, 0], person_B], 1), axis=0, return_inverse=True)
    by_time = np.lexsort((time_B2[:, 1], time_B2[:, 0]))
    track_of = track_of.reshape(-1)[by_time]
    return [by_time[track_of == track] for track in range(len(keys))]


@dataclass(frozen=True, eq=False)
class _Windows:
    """The samples around each sample of a track.

    Attributes:
        rows_NW: Which.
        weight_NW: By distance in time; 0 beyond the reach, and beyond the ends of the track.
        powers_NWD: Powers of the distance in time.
    """

    rows_NW: npt.NDArray[np.intp]
    weight_NW: FloatArray
    powers_NWD: FloatArray

    @classmethod
    def around(cls, frame_N: npt.NDArray[np.int64], width: float) -> _Windows:
        count = len(frame_N)
        steps = np.diff(frame_N)
        step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
        most = int(np.ceil(_REACH * width))
        offset_W = np.arange(-most, most + 1)
        rows_NW = np.arange(count)[:, None] + offset_W
        inside_NW = (rows_NW >= 0) & (rows_NW < count)
        rows_NW = rows_NW.clip(0, count - 1)
        away_NW = (frame_N[rows_NW] - frame_N[:, None]) / (width * step)
        near_NW = inside_NW & (np.abs(away_NW) <= _REACH)
        weight_NW = np.where(near_NW, np.exp(-np.square(away_NW) / 2), 0.0)
        powers_NWD = away_NW[..., None] ** np.arange(_DEGREE + 1)
        return cls(rows_NW, weight_NW, np.where(near_NW[..., None], powers_NWD, 0.0))

    def fitted(
        self,
        points_NJ3: FloatArray,
        trust_NJ: FloatArray,
        tenth: float,
        *,
        without_itself: bool = False,
    ) -> FloatArray:
        """Return the polynomials' values at the samples, (N, J, 3)."""
        known_NJ: npt.NDArray[np.bool_] = np.asarray(np.isfinite(points_NJ3).all(-1))
        points_NWJ3 = np.where(known_NJ[..., None], points_NJ3, 0.0)[self.rows_NW]
        base_NWJ = np.where(known_NJ, trust_NJ, 0.0)[self.rows_NW] * self.weight_NW[..., None]
        if without_itself:
            base_NWJ[self.powers_NWD[..., 1] == 0] = 0.0
        weight_NWJ = base_NWJ
        powers, ridge = self.powers_NWD, _RIDGE * np.eye(_DEGREE + 1)
        value_NJ3 = np.zeros_like(points_NJ3)
        for _ in range(_ITERATIONS):
            square = np.einsum("nwj,nwa,nwb->njab", weight_NWJ, powers, powers, optimize=True)
            mixed = np.einsum("nwj,nwa,nwjc->njac", weight_NWJ, powers, points_NWJ3, optimize=True)
            curve_NJD3 = np.linalg.solve(square + ridge, mixed)
            value_NJ3 = curve_NJD3[:, :, 0]
            fit_NWJ3 = np.einsum("nwa,njac->nwjc", powers, curve_NJD3, optimize=True)
            off_NWJ = np.linalg.norm(points_NWJ3 - fit_NWJ3, axis=-1) / (_OUTLIER * tenth)
            weight_NWJ = base_NWJ / (1 + np.square(off_NWJ))
        several_NJ = (weight_NWJ > 0).sum(1) > _DEGREE + 1
        enough_NJ = several_NJ & (weight_NWJ.sum(1) > _LEAST)
        return np.where(enough_NJ[..., None], value_NJ3, np.nan)
