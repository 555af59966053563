import json
import pickle

import cv2
import numpy as np
import pytest

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera
from tests.support.rigs import FOLDING_LENS, HD_LENS, looking_at, random_points


@pytest.mark.parametrize("lens", [(0.0,) * 5, HD_LENS, FOLDING_LENS])
def test_project_agrees_with_opencv_inside_the_image(lens):
    camera = looking_at((200, -150, -180), lens=lens, roll=0.2)
    points = random_points(0, 500)

    ours = camera.project(points)
    theirs, _ = cv2.projectPoints(
        points[:, None], cv2.Rodrigues(camera.R)[0], camera.t, camera.K, camera.distortion
    )

    inside = camera.contains(ours)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(ours[inside], theirs[inside, 0], atol=1e-8)


def test_undistort_agrees_with_opencv():
    camera = looking_at((200, -150, -180), lens=HD_LENS)
    pixels = np.random.default_rng(0).uniform([0, 0], [1280, 720], (200, 2))

    theirs = cv2.undistortPoints(
        pixels[:, None],
        camera.K,
        camera.distortion,
        P=camera.K,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14),
    )

    np.testing.assert_allclose(camera.undistort(pixels), theirs[:, 0], atol=1e-6)


def test_points_beyond_the_lens_model_do_not_fold_back_into_the_image():
    camera = looking_at((0, -100, -300), lens=FOLDING_LENS)
    # 20 cm in front of the lens plane, up to metres to the side: 51 to 87 degrees off the axis.
    sideways = np.stack([np.linspace(25, 400, 200), np.full(200, -100.0), np.full(200, -280.0)], -1)

    folded, _ = cv2.projectPoints(
        sideways[:, None], cv2.Rodrigues(camera.R)[0], camera.t, camera.K, camera.distortion
    )

    assert camera.contains(folded[:, 0]).any()  # the trap is real
    assert not camera.contains(camera.project(sideways)).any()
    assert np.isnan(camera.project(sideways[-1])).all()


def test_undistort_gives_nan_where_no_ideal_pixel_exists():
    camera = looking_at((0, -100, -300), lens=FOLDING_LENS)
    assert np.isnan(camera.undistort([50_000.0, 400.0])).all()


def test_nan_and_points_behind_project_to_nan():
    camera = looking_at((0, -100, -300))
    behind_and_missing = np.array([[0, -100, -400], [np.nan, 0, 0], [0, -100, -300.0]])

    assert np.isnan(camera.project(behind_and_missing)).all()
    assert not camera.contains(camera.project(behind_and_missing)).any()


def test_leading_axes_are_kept():
    camera = looking_at((0, -100, -300), lens=HD_LENS)
    points = random_points(1, 12).reshape(3, 4, 3)

    pixels = camera.project(points)

    assert pixels.shape == (3, 4, 2)
    assert camera.depth(points).shape == (3, 4)
    np.testing.assert_array_equal(pixels[1, 2], camera.project(points[1, 2]))
    assert camera.project(np.empty((0, 3))).shape == (0, 2)


def test_centre_depth_and_projection_matrix():
    camera = looking_at((30, -170, -250))
    point = np.array([10.0, -90.0, 20.0])

    np.testing.assert_allclose(camera.centre, (30, -170, -250), atol=1e-9)
    assert camera.depth(camera.centre) == pytest.approx(0, abs=1e-9)
    assert camera.depth([0, -100, 0]) == pytest.approx(np.linalg.norm([30, -70, -250]))
    image = camera.projection_matrix @ [*point, 1]
    np.testing.assert_allclose(image[:2] / image[2], camera.project(point))


def test_contains_reaches_half_a_pixel_beyond_the_outer_pixel_centres():
    camera = looking_at((0, -100, -300))
    edges = [[-0.5, -0.5], [1279.5, 719.5], [-0.51, 0], [0, 719.51], [np.nan, 0]]
    assert camera.contains(edges).tolist() == [True, True, False, False, False]


def test_a_camera_survives_json_and_pickle():
    camera = looking_at((1 / 3, -100, -300), lens=HD_LENS)
    point = [1.0, 2.0, 3.0]

    from_json = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
    from_pickle = pickle.loads(pickle.dumps(camera))

    for other in (from_json, from_pickle):
        np.testing.assert_array_equal(other.project(point), camera.project(point))
        assert (other.name, other.width, other.height) == ("00_00", 1280, 720)


def test_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        looking_at((0, -100, -300)).K[0, 0] = 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("K", [[800, 0, 640], [0, 800, 360]]),
        ("K", [[-800, 0, 640], [0, 800, 360], [0, 0, 1]]),
        ("K", [[800, 0, 640], [0, 800, 360], [0, 1, 1]]),
        ("distortion", [0.1, 0.2]),
        ("distortion", [0, 0, 0, 0, float("nan")]),
        ("R", np.eye(3) * 1.1),
        ("R", np.diag([1.0, 1.0, -1.0])),
        ("t", ["a", "b", "c"]),
        ("t", [0, 0, float("inf")]),
        ("width", 0),
        ("height", 719.5),
    ],
)
def test_impossible_values_are_refused_by_camera_and_key(key, value):
    values = looking_at((0, -100, -300), name="00_07").to_dict() | {key: value}

    with pytest.raises(CalibrationError, match=r"00_07") as caught:
        Camera.from_dict(values)

    assert (caught.value.camera, caught.value.key) == ("00_07", key)


def test_a_missing_key_is_named():
    values = looking_at((0, -100, -300)).to_dict()
    del values["t"]
    with pytest.raises(CalibrationError, match="has no 't'"):
        Camera.from_dict(values)
