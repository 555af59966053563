import numpy as np
import pytest

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.epipolar import epipolar_line, fundamental_matrix
from tests.support.geometry import epipolar_distance
from tests.support.rigs import HD_LENS, ideal_pixels, looking_at, random_points, random_rig


def test_the_constraint_holds_with_source_on_the_left():
    rig = random_rig(0, views=2, lens=HD_LENS)
    target, source = rig.cameras
    target_px, source_px = ideal_pixels(rig, random_points(0, 50))
    matrix = fundamental_matrix(target, source)

    ones = np.ones((50, 1))
    residual = np.einsum(
        "ni,ij,nj->n", np.hstack([source_px, ones]), matrix, np.hstack([target_px, ones])
    )

    assert np.abs(residual).max() < 1e-9
    assert np.linalg.norm(matrix) == pytest.approx(1)
    assert np.linalg.svd(matrix, compute_uv=False)[2] < 1e-12
    transposed = fundamental_matrix(source, target).T
    np.testing.assert_allclose(transposed * np.sign(np.sum(transposed * matrix)), matrix)


def test_lines_measure_pixels():
    rig = random_rig(1, views=2)
    target_px, source_px = ideal_pixels(rig, random_points(1, 20))
    matrix = fundamental_matrix(*rig.cameras)
    line = epipolar_line(matrix, target_px)

    np.testing.assert_allclose(np.linalg.norm(line[:, :2], axis=1), 1)
    across = source_px + 3 * line[:, :2]
    along = source_px + 40 * line[:, 1::-1] * [-1, 1]
    np.testing.assert_allclose(np.sum(line[:, :2] * across, -1) + line[:, 2], 3, atol=1e-7)
    np.testing.assert_allclose(epipolar_distance(matrix, target_px, along), 0, atol=1e-7)


def test_cameras_in_one_place_have_no_epipolar_geometry():
    left = looking_at((0, -100, -300), (50, -100, 0), name="00_01")
    right = looking_at((0, -100, -300), (-50, -100, 0), name="00_02")
    with pytest.raises(CalibrationError, match="00_01 and 00_02 share their centre"):
        fundamental_matrix(left, right)
