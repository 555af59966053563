import numpy as np
import pytest

from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.recordings.labels import project_labels
from tests.support.panoptic import BODY
from tests.support.rigs import HD_LENS, looking_at


def test_a_person_in_full_view_fills_the_crop():
    camera = looking_at((0, -100, -300), lens=HD_LENS)
    view = project_labels(camera, BODY[None], crop_px=256, crop_scale=1.25)

    assert view.seen.tolist() == [True]
    assert view.visibility.all()
    np.testing.assert_array_equal(view.label_image_px[0], camera.project(BODY))
    crop = apply_affine(view.crop_from_image, view.label_image_px)[0]
    extent = np.ptp(crop, axis=0)
    assert extent.max() == pytest.approx(256 / 1.25)
    np.testing.assert_allclose((crop.min(0) + crop.max(0)) / 2, 127.5)


def test_missing_joints_are_neither_labelled_nor_visible():
    joints = BODY[None].repeat(2, axis=0)
    joints[1, 4] = np.nan
    view = project_labels(looking_at((0, -100, -300)), joints)

    assert np.isnan(view.label_image_px[1, 4]).all()
    assert view.visibility[1].sum() == 18
    assert not view.visibility[1, 4]
    assert view.seen.all()


def test_the_image_border_cuts():
    camera = looking_at((0, -100, -300))
    # At 300 cm the right border lies 640 / 800 * 300 = 238 cm from the axis.
    people = np.stack([BODY + np.array([x, 0, 0]) for x in (0, 215, 225, 240, 300)])
    view = project_labels(camera, people, min_visible_share=0.5)

    inside = camera.contains(view.label_image_px)
    assert view.seen.tolist() == (inside.mean(-1) >= 0.5).tolist()
    assert view.seen.tolist() == [True, True, True, False, False]
    assert np.isfinite(view.label_image_px).all()  # beyond the border they are still labels
    np.testing.assert_array_equal(view.visibility[:3], inside[:3])
    assert not view.visibility[3:].any()
    np.testing.assert_array_equal(view.crop_from_image[3:], [np.eye(2, 3)] * 2)


def test_the_share_counts_labelled_joints_only():
    joints = np.full((1, 19, 3), np.nan)
    joints[0, :4] = BODY[:4]
    joints[0, 4] = BODY[4] + [1000, 0, 0]
    camera = looking_at((0, -100, -300))

    assert project_labels(camera, joints, min_visible_share=0.8).seen.all()
    assert not project_labels(camera, joints, min_visible_share=0.81).seen.any()


@pytest.mark.parametrize("known", [0, 1])
def test_nobody_and_a_lone_joint_are_not_seen(known):
    joints = np.full((1, 19, 3), np.nan)
    joints[0, :known] = BODY[:known]
    view = project_labels(looking_at((0, -100, -300)), joints, min_visible_share=0.0)

    assert not view.seen.any()
    assert np.isfinite(view.crop_from_image).all()


def test_a_joint_beside_the_lens_does_not_blow_up_the_crop():
    camera = looking_at((0, -100, -300))
    joints = BODY[None].copy()
    usual = project_labels(camera, joints).crop_from_image
    joints[0, 5] = (-200, -100, -299.9)  # a wrong label, 1 mm in front of the lens plane
    view = project_labels(camera, joints)

    assert view.seen.all()
    assert view.crop_from_image[0, 0, 0] > 0.8 * usual[0, 0, 0]
    assert not view.visibility[0, 5]


def test_no_people():
    view = project_labels(looking_at((0, -100, -300)), np.empty((0, 19, 3)))
    assert [part.shape for part in view] == [(0, 19, 2), (0, 2, 3), (0, 19), (0,)]
