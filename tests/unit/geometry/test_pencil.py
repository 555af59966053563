"""Pixels of one epipolar line have one angle in the pencil."""

import numpy as np

from metafuse_ray.geometry.epipolar import fundamental_matrix
from metafuse_ray.geometry.pencil import pencil_angles
from tests.support.rigs import ideal_pixels, random_points, random_rig


def test_corresponding_pixels_have_the_angle_of_one_line():
    rig = random_rig(7)
    points = random_points(7, 30)
    target, source = ideal_pixels(rig, points)[:2]
    middle, scale = source.mean(0), 100.0
    unit = np.array([[1 / scale, 0, -middle[0] / scale], [0, 1 / scale, -middle[1] / scale]])
    unit = np.concatenate([unit, [[0, 0, 1]]])[None]
    matrix = fundamental_matrix(rig.cameras[0], rig.cameras[1])
    one, other = pencil_angles(matrix, target[None], source[None], unit)
    gap = np.abs(one - other)
    assert np.minimum(gap, np.pi - gap).max() < 1e-9
