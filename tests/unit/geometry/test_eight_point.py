"""The eight-point algorithm finds the geometry of two views."""

import numpy as np

from metafuse_ray.geometry.eight_point import fundamental_from_points
from tests.support.geometry import epipolar_distance
from tests.support.rigs import ideal_pixels, random_points, random_rig


def test_the_fundamental_matrix_is_found_from_exact_and_from_noisy_correspondences():
    rig = random_rig(8)
    points = random_points(8, 200)
    target, source = ideal_pixels(rig, points)[:2]
    exact = fundamental_from_points(target[:40], source[:40])
    assert exact is not None
    assert epipolar_distance(exact, target, source).max() < 1e-6
    noise = np.random.default_rng(0).normal(0, 0.5, (2, 200, 2))
    noisy = fundamental_from_points(target + noise[0], source + noise[1])
    assert noisy is not None
    assert np.median(epipolar_distance(noisy, target, source)) < 0.3
    assert fundamental_from_points(target[:7], source[:7]) is None
