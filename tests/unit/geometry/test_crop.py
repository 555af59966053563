import numpy as np
import pytest

from metafuse_ray.geometry.crop import apply_affine, crop_transform, invert_affine, person_box


def test_the_box_is_a_square_around_the_longer_side():
    centre, side = person_box([[100, 50], [140, 210], [np.nan, np.nan]], scale=1.25)
    np.testing.assert_allclose(centre, (120, 130))
    assert side == pytest.approx(200)


def test_boxes_of_many_people_at_once():
    points = np.random.default_rng(0).uniform(0, 500, (5, 17, 2))
    points[2, 3] = np.nan
    centres, sides = person_box(points)

    assert (centres.shape, sides.shape) == ((5, 2), (5,))
    centre, side = person_box(points[2])
    np.testing.assert_array_equal(centres[2], centre)
    assert sides[2] == side


def test_nobody_has_a_nan_box_and_a_lone_joint_a_small_one():
    assert np.isnan(person_box(np.full((3, 2), np.nan))[0]).all()
    assert np.isnan(person_box(np.full((3, 2), np.nan))[1])
    centre, side = person_box([[7, 9], [np.nan, np.nan]], minimum_px=8)
    assert (centre.tolist(), float(side)) == ([7, 9], 8)


def test_pixel_areas_align():
    # A box of 64 px: its left edge is the left edge (-0.5) of crop pixel 0.
    affine = crop_transform((100, 200), 64, 256)

    np.testing.assert_allclose(apply_affine(affine, [[100, 200]]), [[127.5, 127.5]])
    np.testing.assert_allclose(apply_affine(affine, [[68, 168]]), [[-0.5, -0.5]])
    np.testing.assert_allclose(apply_affine(affine, [[132, 232]]), [[255.5, 255.5]])


def test_a_crop_at_the_image_scale_only_shifts():
    affine = crop_transform((127.5, 127.5), 256, 256)
    np.testing.assert_allclose(affine, np.eye(2, 3), atol=1e-12)


def test_affines_broadcast_over_people():
    affines = crop_transform([[10, 20], [30, 40]], [50, 100], 64)
    points = np.random.default_rng(0).uniform(0, 60, (2, 7, 2))

    moved = apply_affine(affines, points)

    assert moved.shape == (2, 7, 2)
    np.testing.assert_allclose(moved[1], apply_affine(affines[1], points[1]))
    np.testing.assert_allclose(apply_affine(invert_affine(affines), moved), points)
    assert np.isnan(apply_affine(affines[0], [[np.nan, np.nan]])).all()
