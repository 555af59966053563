import numpy as np
import pytest

from metafuse_ray.geometry.crop import apply_affine, crop_transform
from metafuse_ray.geometry.triangulate import triangulate_dlt, triangulate_robust
from tests.support.rigs import HD_LENS, ideal_pixels, projections, random_points, random_rig

BOTH = pytest.mark.parametrize("triangulate", [triangulate_dlt, triangulate_robust])


@BOTH
@pytest.mark.parametrize("views", [2, 4, 14])
def test_exact_points_come_back(triangulate, views):
    rig, points = random_rig(0, views, lens=HD_LENS), random_points(0, 5000)
    found = triangulate(ideal_pixels(rig, points), projections(rig))
    np.testing.assert_allclose(found, points, atol=1e-6)


@BOTH
def test_missing_views_are_left_out(triangulate):
    rig, points = random_rig(1), random_points(1, 4)
    pixels, weights = ideal_pixels(rig, points), np.ones((4, 4))
    pixels[0, 0] = np.nan  # three views are left
    weights[:2, 1] = 0  # two are left
    pixels[:2, 1] = 1e4
    weights[1:, 2] = 0  # one is left
    weights[0, 3], pixels[0, 3] = np.nan, np.inf  # three are left

    found = triangulate(pixels, projections(rig), weights)

    np.testing.assert_allclose(found[[0, 1, 3]], points[[0, 1, 3]], atol=1e-6)
    assert np.isnan(found[2]).all()


@BOTH
def test_parallel_rays_give_nan(triangulate):
    rig = random_rig(2, 2)
    same = np.stack([projections(rig)[0]] * 2)
    pixels = ideal_pixels(rig, random_points(2, 3))[:1].repeat(2, axis=0)
    assert np.isnan(triangulate(pixels, same)).all()


@BOTH
def test_no_points_at_all(triangulate):
    assert triangulate(np.empty((4, 0, 2)), projections(random_rig(0))).shape == (0, 3)


def test_dlt_weights_count():
    rig, points = random_rig(3), random_points(3, 200)
    pixels = ideal_pixels(rig, points)
    pixels[0] += 30
    weights = np.ones((4, 200))

    plain = np.linalg.norm(triangulate_dlt(pixels, projections(rig), weights) - points, axis=1)
    weights[0] = 1e-4
    trusting = np.linalg.norm(triangulate_dlt(pixels, projections(rig), weights) - points, axis=1)

    assert np.median(trusting) < 0.01 < 1 < np.median(plain)
    halved = triangulate_dlt(pixels, projections(rig), weights / 2)
    np.testing.assert_allclose(halved, triangulate_dlt(pixels, projections(rig), weights))


def test_robust_survives_one_gross_outlier_among_four_noisy_views():
    rig, points = random_rig(4), random_points(4, 3000)
    rng = np.random.default_rng(0)
    pixels = ideal_pixels(rig, points) + rng.normal(0, 1, (4, 3000, 2))
    outlier = rng.integers(0, 4, 3000)
    pixels[outlier, np.arange(3000)] += rng.uniform(60, 400, (3000, 2))

    robust = np.linalg.norm(triangulate_robust(pixels, projections(rig)) - points, axis=1)
    plain = np.linalg.norm(triangulate_dlt(pixels, projections(rig)) - points, axis=1)

    assert np.median(robust) < 0.5
    assert np.quantile(robust, 0.99) < 3
    assert np.median(plain) > 10


def test_robust_survives_a_third_of_31_views_being_wrong():
    rig, points = random_rig(5, 31), random_points(5, 300)
    rng = np.random.default_rng(1)
    pixels = ideal_pixels(rig, points) + rng.normal(0, 1, (31, 300, 2))
    wrong = rng.random((31, 300)) < 0.33
    pixels[wrong] += rng.uniform(50, 300, (wrong.sum(), 2))

    found = triangulate_robust(pixels, projections(rig))

    assert np.linalg.norm(found - points, axis=1).max() < 1


def test_robust_uses_the_weights_between_contradicting_pairs():
    rig, points = random_rig(6), random_points(6, 50)
    elsewhere = points + np.array([40, 0, 0])
    pixels = ideal_pixels(rig, points)
    pixels[2:] = ideal_pixels(rig, elsewhere)[2:]
    weights = np.array([1, 1, 0.5, 0.5])[:, None].repeat(50, axis=1)

    for trust, truth in ((weights, points), (weights[::-1], elsewhere)):
        found = triangulate_robust(pixels, projections(rig), trust, threshold_px=0.5)
        np.testing.assert_allclose(found, truth, atol=1e-6)


def test_robust_is_as_good_as_dlt_without_outliers():
    rig, points = random_rig(7), random_points(7, 3000)
    pixels = ideal_pixels(rig, points) + np.random.default_rng(2).normal(0, 1, (4, 3000, 2))

    robust = np.linalg.norm(triangulate_robust(pixels, projections(rig)) - points, axis=1)
    plain = np.linalg.norm(triangulate_dlt(pixels, projections(rig)) - points, axis=1)

    assert robust.mean() < 1.05 * plain.mean()


def test_robust_does_not_depend_on_its_company():
    rig, points = random_rig(8), random_points(8, 5000)
    pixels = ideal_pixels(rig, points) + np.random.default_rng(3).normal(0, 4, (4, 5000, 2))

    together = triangulate_robust(pixels, projections(rig))
    alone = triangulate_robust(pixels[:, 4990:], projections(rig))

    np.testing.assert_allclose(together[4990:], alone, rtol=0, atol=1e-9)


def test_where_no_views_agree_robust_still_answers():
    rig = random_rig(9)
    pixels = np.random.default_rng(4).uniform(0, 700, (4, 100, 2))
    found = triangulate_robust(pixels, projections(rig), threshold_px=0.01)
    assert np.isfinite(found).all()


def test_thresholds_may_differ_by_view_and_point():
    rig, points = random_rig(10), random_points(10, 2)
    pixels = ideal_pixels(rig, points)
    pixels[0] += 20  # within the first point's threshold, beyond the second's
    threshold = np.array([[200.0, 5.0]])

    found = triangulate_robust(pixels, projections(rig), threshold_px=threshold)

    error = np.linalg.norm(found - points, axis=1)
    assert error[0] > 0.5
    assert error[1] < 1e-6


def test_points_may_be_given_in_crop_pixels():
    rig, points = random_rig(11), random_points(11, 20)
    crop = crop_transform((400, 300), 300, 256)
    to_crop = np.vstack([crop, [0, 0, 1]])

    found = triangulate_dlt(
        apply_affine(crop, ideal_pixels(rig, points)), to_crop @ projections(rig)
    )

    np.testing.assert_allclose(found, points, atol=1e-6)


@BOTH
def test_the_sign_of_a_projection_matrix_is_arbitrary(triangulate):
    rig, points = random_rig(12), random_points(12, 5)
    pixels = ideal_pixels(rig, points)
    found = triangulate(pixels, projections(rig))
    np.testing.assert_array_equal(triangulate(pixels, -projections(rig)), found)


def test_robust_believes_no_point_behind_a_camera():
    rig, points = random_rig(13), random_points(13, 5)
    pixels = ideal_pixels(rig, points)
    behind = 2 * (rig.cameras[0].centre + rig.cameras[1].centre)
    image = projections(rig)[:2] @ [*behind, 1]
    assert image[:, 2].max() < 0
    pixels[:2] = (image[:, :2] / image[:, 2:])[:, None]
    weights = np.array([1, 1, 0.5, 0.5])[:, None].repeat(5, axis=1)

    found = triangulate_robust(pixels, projections(rig), weights, threshold_px=0.5)

    np.testing.assert_allclose(found, points, atol=1e-6)
