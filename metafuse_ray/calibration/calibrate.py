"""Calibrate a rig from its views' detections, with or without a calibration to start from.

    found = self_calibrate(seen, [(1920, 1080)] * 4)       # scale and frame of its own
    found = refine(seen, rig.cameras)                      # in the given world

Both adjust cameras and points to confident detections and to labels, if there are any, by
`metafuse_ray.calibration.bundle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metafuse_ray.calibration.bundle import PARAMETERS, Bundle, Observations, Prior, Views, adjust
from metafuse_ray.calibration.first_guess import first_guesses
from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.triangulate import triangulate_robust

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CalibrateSettings:
    """How to calibrate; lengths are shares of the image's width, angles degrees.

    Attributes:
        focal_starts: Focal lengths to start from; the middle one is the most likely.
        focal_spread: Spread of the logarithm of the focal length.
        centre_spread: Spread of the principal point about the image's centre.
        points: Most points to adjust.
        screen_points: Most points to compare starts with.
        seed_pairs: Camera pairs to start from, for every focal length.
        finalists: Starts that are adjusted to more points; one of them to all.
        loss_scales: Errors, in units of sigma, from which the loss turns flat: wide first, to find
            the way, then narrow.
        loose_degrees: Spread of the rotations' errors that a refinement starts from.
        loose_shift: Spread of the centres' errors, as a share of the rig's size: a camera that is
            knocked turns on its mount and stays where it is.
        correlated: Observations that are worth one independent one: the frames of a clip repeat
            each other, and so do the errors of a detector.
        rounds: How often a refinement estimates the spread of the given calibration's errors.
    """

    focal_starts: tuple[float, ...] = (0.65, 0.85, 1.1)
    focal_spread: float = 0.2
    centre_spread: float = 0.01
    points: int = 4000
    screen_points: int = 300
    seed_pairs: int = 3
    finalists: int = 4
    loss_scales: tuple[float, ...] = (8.0, 2.0, 0.7)
    loose_degrees: float = 3.0
    loose_shift: float = 0.006
    correlated: float = 4.0
    rounds: int = 3


_SURE = np.array([0.0, 0.0, 0.0])
"""Spread of the focal length and principal point of a given camera: they are kept."""
_ROUND_ITERATIONS = 8
"""Steps of an adjustment that starts where another has ended."""
_MORE = 3
"""Times the points that the finalists of the starts are compared with."""
_TURN_AND_SHIFT = (slice(0, 3), slice(3, 6))


def self_calibrate(
    seen: Observations,
    image_sizes: Sequence[tuple[int, int]],
    settings: CalibrateSettings | None = None,
) -> Bundle:
    """Calibrate a rig without a calibration to start from: of several starts, the best fit wins.

    Square pixels and no lens distortion are assumed, the principal point near the image's centre
    and the focal length somewhere about the starts.

    Args:
        seen: Detections and labels in image pixels.
        image_sizes: (width, height) of every view.
        settings: How.

    Returns:
        The rig in a world of its own, of size 1: scale and frame are not known.

    Raises:
        CalibrationError: The views have too few points in common.
    """
    settings = settings or CalibrateSettings()
    sizes = np.asarray(image_sizes, dtype=np.float64)
    wide, narrow = settings.loss_scales[:-1], settings.loss_scales[-1:]

    def adjusted(seen: Observations, views: Views, scales: Sequence[float]) -> Bundle:
        return _settled(seen, views, _loose_prior(views, sizes, settings), scales)

    few = thinned(seen, settings.screen_points)
    tried = [
        adjusted(few, views, wide)
        for focal in settings.focal_starts
        for views in first_guesses(few, _intrinsics(sizes, focal), settings.seed_pairs)
    ]
    if not tried:
        raise CalibrationError(
            f"the {len(sizes)} views have too few confident detections in common to calibrate"
            f" them ({int((seen.known.sum(0) >= 2).sum())} joints seen twice); record longer"
            " or give a calibration",
            views=len(sizes),
        )
    tried.sort(key=lambda bundle: bundle.cost)
    # A wide loss and few points mislead where many detections are wrong: the narrow one decides.
    more = thinned(seen, _MORE * settings.screen_points)
    ends = [
        adjusted(more, start.views, (*wide[-1:], *narrow)) for start in tried[: settings.finalists]
    ]
    best = min(ends, key=lambda bundle: bundle.cost)
    return adjusted(thinned_but_labels(seen, settings.points), best.views, narrow)


def refine(
    seen: Observations, cameras: Sequence[Camera], settings: CalibrateSettings | None = None
) -> Bundle:
    """Correct the rotations and positions of given cameras as far as the observations require.

    The error of the given calibration is estimated from how far the observations move the cameras
    (empirical Bayes). Where noise explains that, almost nothing moves; where it is degrees, the
    observations decide. The world stays that of the given cameras.

    Args:
        seen: Detections and labels in *ideal* pixels of the given cameras.
        cameras: The given cameras.
        settings: How.

    Raises:
        CalibrationError: The views have no point in common.
    """
    settings = settings or CalibrateSettings()
    whole = thinned_but_labels(seen, settings.points)
    if not whole.points_VN2.shape[1]:
        raise CalibrationError(
            "no joint is confidently detected in two views: nothing to refine the calibration by",
            views=len(cameras),
        )
    given = Views.of(cameras)
    middle = given.centre_V3.mean(0)
    size = float(np.linalg.norm(given.centre_V3 - middle, axis=1).mean())
    anchor = given.placed(middle, size)
    turn, shift = np.radians(settings.loose_degrees), settings.loose_shift
    found = _settled(whole, anchor, _near(anchor, turn, shift), settings.loss_scales)
    for _ in range(settings.rounds):
        step = found.views.step_from(anchor)
        # Expectation-maximisation: what is still uncertain counts, or the spread would collapse.
        second_VC = np.square(step) / settings.correlated + found.variance_VC
        turn, shift = (float(np.sqrt(second_VC[:, part].mean())) for part in _TURN_AND_SHIFT)
        found = _settled(
            whole,
            found.views,
            _near(anchor, turn, shift),
            settings.loss_scales[-1:],
            _ROUND_ITERATIONS,
        )
    return found.placed(-middle / size, 1 / size)


def refit(seen: Observations, found: Bundle, settings: CalibrateSettings | None = None) -> Bundle:
    """Adjust a calibration to other observations: under its prior, from its present values."""
    settings = settings or CalibrateSettings()
    return _settled(
        thinned_but_labels(seen, settings.points),
        found.views,
        found.prior,
        settings.loss_scales[-1:],
        _ROUND_ITERATIONS,
    )


def thinned(seen: Observations, most: int) -> Observations:
    """Keep at most so many points, evenly spaced, of those that two or more views have."""
    return seen.take(_evenly(np.flatnonzero(seen.known.sum(0) >= 2), most))


def thinned_but_labels(seen: Observations, most: int) -> Observations:
    """Thin out, but keep points that are never grossly wrong: labels.

    Labels get up to half of the places. Not for choosing among starts on few points: labels often
    come from one moment, which is too little to tell a good calibration from a wrong one.
    """
    is_sure = np.zeros(seen.points_VN2.shape[1], bool)
    if seen.tail_VN is not None:
        is_sure = seen.tail_VN[0] > 1
    shared = seen.known.sum(0) >= 2
    sure = _evenly(np.flatnonzero(shared & is_sure), most // 2)
    return seen.take(np.union1d(sure, _evenly(np.flatnonzero(shared & ~is_sure), most - len(sure))))


def _evenly(rows: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _settled(
    seen: Observations,
    views: Views,
    prior: Prior,
    scales: Sequence[float],
    iterations: int = 12,
) -> Bundle:
    """Adjust with one loss after the other, the points triangulated again before each."""
    known = seen.known
    weights = np.where(known, 1 / np.square(np.where(known, seen.sigma_VN, 1.0)), 0.0)
    found: Bundle | None = None
    for scale in scales:
        tail = 1.0 if seen.tail_VN is None else seen.tail_VN
        reach = np.where(known, 2 * scale * tail * seen.sigma_VN, 1.0)
        points = triangulate_robust(seen.points_VN2, views.projections, weights, threshold_px=reach)
        found = adjust(seen, views, points, prior, scale, iterations)
        views = found.views
    assert found is not None
    return found


def _loose_prior(views: Views, sizes_V2: FloatArray, settings: CalibrateSettings) -> Prior:
    focal = settings.focal_starts[len(settings.focal_starts) // 2]
    anchor = Views(_intrinsics(sizes_V2, focal), views.R_V33, views.centre_V3)
    sigma = np.full((len(sizes_V2), PARAMETERS), np.inf)
    sigma[:, 6] = settings.focal_spread
    sigma[:, 7:] = settings.centre_spread * sizes_V2[:, :1]
    return Prior(anchor, sigma)


def _near(anchor: Views, turn: float, shift: float) -> Prior:
    sigma = np.concatenate([np.full(3, turn), np.full(3, shift), _SURE])
    return Prior(anchor, np.tile(sigma, (len(anchor.K_V33), 1)))


def _intrinsics(sizes_V2: FloatArray, focal: float) -> FloatArray:
    K_V33 = np.tile(np.eye(3), (len(sizes_V2), 1, 1))
    K_V33[:, 0, 0] = K_V33[:, 1, 1] = focal * sizes_V2[:, 0]
    K_V33[:, :2, 2] = (sizes_V2 - 1) / 2
    return K_V33
