import numpy as np
import pytest

from metafuse_ray.calibration.bundle import PARAMETERS, Observations, Prior, Views, adjust
from metafuse_ray.calibration.calibrate import (
    CalibrateSettings,
    refine,
    self_calibrate,
    thinned_but_labels,
)
from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.geometry.triangulate import triangulate_dlt
from tests.support.geometry import reprojection_error
from tests.support.rigs import ideal_pixels, random_points, random_rig

SIZE = (1280, 720)


def film(rig: Rig, count: int, noise: float, seed: int = 1) -> tuple[np.ndarray, Observations]:
    points = random_points(seed, count)
    random = np.random.default_rng(seed)
    pixels = ideal_pixels(rig, points)
    pixels = pixels + noise * random.normal(size=pixels.shape)
    return points, Observations(pixels, np.full(pixels.shape[:2], max(noise, 0.1)))


def free_prior(views: Views) -> Prior:
    sigma = np.full((len(views.K_V33), PARAMETERS), np.inf)
    sigma[:, 6:] = 0
    sigma[0, :6] = 0  # the world is the first camera's
    return Prior(views, sigma)


def epipolar_errors(found: Views, rig: Rig, points: np.ndarray) -> np.ndarray:
    """Reprojection errors of true points after the best similarity: none where it is exact."""
    true = ideal_pixels(rig, points)
    world = triangulate_dlt(true, found.projections)
    return reprojection_error(world, true, found.projections)


def test_adjustment_recovers_an_exact_rig():
    rig = random_rig(0, 4)
    points, seen = film(rig, 60, 0.0)
    true = Views.of(rig.cameras)
    random = np.random.default_rng(2)
    step = np.zeros((4, PARAMETERS))
    step[1:, :3] = random.normal(size=(3, 3)) * 0.03
    step[1:, 3:6] = random.normal(size=(3, 3)) * 8
    start = true.moved(step)
    found = adjust(seen, start, points + random.normal(size=points.shape), free_prior(true), 50, 60)
    left = found.views.step_from(true)
    # One length is free: that of the world, about the first camera.
    scale = np.linalg.norm(found.views.centre_V3[1] - true.centre_V3[0])
    scale /= np.linalg.norm(true.centre_V3[1] - true.centre_V3[0])
    centres = (found.views.centre_V3 - true.centre_V3[0]) / scale + true.centre_V3[0]
    assert np.abs(left[:, :3]).max() < 1e-6
    assert np.abs(centres - true.centre_V3).max() < 1e-4  # cm of 280
    error = reprojection_error(found.points_N3, seen.points_VN2, found.views.projections)
    assert np.nanmax(error / seen.sigma_VN) < 1e-5


def test_errors_stay_within_the_covariance():
    rig = random_rig(0, 4)
    true = Views.of(rig.cameras)
    sigma = np.full((4, PARAMETERS), np.inf)
    sigma[:, 3:] = 0  # centres known: the rotations have no freedom left to drift
    squares = []
    for seed in range(12):
        points, seen = film(rig, 50, 1.0, seed)
        found = adjust(seen, true, points, Prior(true, sigma), 1e3)
        turn = found.views.step_from(true)[:, :3]
        squares.append(np.square(turn) / found.variance_VC[:, :3])
    # 144 dependent values of mean 1; by chance the mean is off by about .12.
    assert 0.6 < np.mean(squares) < 1.5


@pytest.mark.parametrize("views", [2, 3, 4, 6])
def test_a_rig_is_calibrated_from_nothing(views):
    rig = random_rig(0, views)
    points, seen = film(rig, 150, 0.5)
    random = np.random.default_rng(5)
    gross = random.random(seen.sigma_VN.shape) < 0.1
    pixels = np.where(gross[..., None], seen.points_VN2 + random.normal(size=(2,)) * 60, 0.0)
    pixels = np.where(gross[..., None], pixels, seen.points_VN2)
    hidden = random.random(gross.shape) < 0.15
    pixels[hidden] = np.nan
    found = self_calibrate(Observations(pixels, seen.sigma_VN), [SIZE] * views)
    errors = epipolar_errors(found.views, rig, points)
    assert np.median(errors) < 1.0, "px, in all views"
    focal = found.views.K_V33[:, 0, 0] / [camera.K[0, 0] for camera in rig.cameras]
    assert np.all(np.abs(np.log(focal)) < 0.35)


def test_wrong_rotations_are_put_right_in_the_given_world():
    rig = random_rig(0, 4)
    _, seen = film(rig, 200, 1.0)
    wrong = turn_cameras(rig, 2.0, np.random.default_rng(0))
    found = refine(seen, wrong.cameras)
    turn = found.views.step_from(Views.of(rig.cameras))[:, :3]
    assert np.degrees(np.linalg.norm(turn, axis=1)).max() < 0.8
    np.testing.assert_allclose(found.views.K_V33, Views.of(rig.cameras).K_V33)
    assert np.linalg.norm(found.views.centre_V3 - Views.of(rig.cameras).centre_V3) < 12


def test_an_exact_calibration_stays_nearly_where_it_is():
    rig = random_rig(0, 4)
    _, seen = film(rig, 200, 1.0)
    turn = refine(seen, rig.cameras).views.step_from(Views.of(rig.cameras))[:, :3]
    assert np.degrees(np.linalg.norm(turn, axis=1)).max() < 0.1


def test_the_same_input_gives_the_same_rig():
    _, seen = film(random_rig(0, 3), 80, 0.5)
    first, second = (self_calibrate(seen, [SIZE] * 3).views for _ in range(2))
    np.testing.assert_array_equal(first.projections, second.projections)


def test_views_without_common_points_are_refused():
    rig = random_rig(0, 4)
    _, seen = film(rig, 40, 1.0)
    alone = np.full_like(seen.points_VN2, np.nan)
    for view in range(4):
        alone[view, view * 10 : view * 10 + 10] = seen.points_VN2[view, :10]
    with pytest.raises(CalibrationError, match="in common"):
        self_calibrate(replace_points(seen, alone), [SIZE] * 4)
    with pytest.raises(CalibrationError, match="two views"):
        refine(replace_points(seen, alone), rig.cameras)


def test_one_point_seen_over_and_over_calibrates_nothing():
    _, seen = film(random_rig(0, 3), 40, 0.0)
    same = np.repeat(seen.points_VN2[:, :1], 40, axis=1)
    try:
        found = self_calibrate(replace_points(seen, same), [SIZE] * 3)
    except CalibrationError:
        return
    assert np.isfinite(found.views.projections).all()


def test_points_of_one_view_move_nothing():
    rig = random_rig(0, 3)
    _, seen = film(rig, 60, 0.5)
    more = np.concatenate([seen.points_VN2, np.full((3, 20, 2), np.nan)], axis=1)
    more[0, 60:] = [10.0, 20.0]
    both = Observations(more, np.full(more.shape[:2], 0.5))
    one = refine(Observations(seen.points_VN2, np.full((3, 60), 0.5)), rig.cameras)
    two = refine(both, rig.cameras)
    np.testing.assert_allclose(one.views.projections, two.views.projections)


def test_settings_are_all_used():
    _, seen = film(random_rig(0, 3), 80, 0.5)
    few = self_calibrate(seen, [SIZE] * 3, CalibrateSettings(points=40, focal_starts=(0.8,)))
    assert np.isfinite(few.points_N3).all(1).sum() <= 40


def replace_points(seen: Observations, points: np.ndarray) -> Observations:
    return seen._replace(points_VN2=points)


def test_gross_errors_pull_where_their_tail_is_long():
    rig = random_rig(0, 4)
    points, seen = film(rig, 60, 0.5)
    pixels = seen.points_VN2.copy()
    pixels[0, :15] += 15.0
    true = Views.of(rig.cameras)
    sigma = np.zeros((4, PARAMETERS))
    sigma[0, :3] = np.inf
    turned = []
    for tail in (1.0, 100.0):
        shape = np.ones(seen.sigma_VN.shape)
        shape[:, :15] = tail
        shifted = Observations(pixels, seen.sigma_VN, shape)
        found = adjust(shifted, true, points, Prior(true, sigma), 1.0)
        turned.append(np.linalg.norm(found.views.step_from(true)[0, :3]))
    assert turned[0] < 1e-3
    assert turned[1] > 3 * turned[0]


@pytest.mark.parametrize(("labels", "kept"), [(30, 30), (80, 50)])
def test_labels_are_kept_for_up_to_half_of_the_places(labels, kept):
    count = 300
    points = np.zeros((2, count, 2))
    points[:, :10] = np.nan  # seen by nobody
    tail = np.full((2, count), 0.5)
    tail[:, -labels:] = 4.0
    few = thinned_but_labels(Observations(points, np.ones((2, count)), tail), 100)
    assert few.points_VN2.shape[1] == 100
    assert few.known.all()
    assert int((few.tail_VN[0] > 1).sum()) == kept
