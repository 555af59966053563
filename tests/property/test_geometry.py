"""Identities of the geometry over random rigs, lenses and crops."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.crop import apply_affine, crop_transform, invert_affine
from metafuse_ray.geometry.distortion import distort_normalised, monotonic_radius
from metafuse_ray.geometry.epipolar import fundamental_matrix
from metafuse_ray.geometry.triangulate import triangulate_dlt, triangulate_robust
from metafuse_ray.pose.heatmap import crop_from_heatmap, heatmap_from_crop
from tests.support.geometry import distort, epipolar_distance
from tests.support.rigs import ideal_pixels, looking_at, projections, random_points, random_rig

seeds = st.integers(0, 2**32 - 1)


def lens(radial: float = 0.3) -> st.SearchStrategy[tuple[float, ...]]:
    """Lenses as strong as those of wide-angle cameras."""
    return st.tuples(
        st.floats(-radial, radial),
        st.floats(-0.2, 0.25),
        st.floats(-2e-3, 2e-3),
        st.floats(-2e-3, 2e-3),
        st.floats(-0.1, 0.2),
    )


@given(seed=seeds, views=st.integers(2, 8), lens=lens())
def test_triangulation_undoes_projection(seed, views, lens):
    rig, points = random_rig(seed, views, lens), random_points(seed, 20)
    pixels = ideal_pixels(rig, points)
    for triangulate in (triangulate_dlt, triangulate_robust):
        found = triangulate(pixels, projections(rig))
        # Two cameras face to face see a point between them under (nearly) parallel rays.
        known = np.isfinite(found[:, 0])
        assert known.mean() > 0.8 or views == 2 or np.isnan(pixels).any()
        np.testing.assert_allclose(found[known], points[known], atol=1e-4)


@given(seed=seeds, outlier=st.integers(0, 3), shift=st.floats(40, 2000), angle=st.floats(0, 6.28))
def test_robust_triangulation_survives_one_gross_outlier_of_four(seed, outlier, shift, angle):
    rig, points = random_rig(seed), random_points(seed, 10)
    pixels = ideal_pixels(rig, points)
    pixels[outlier] += shift * np.array([np.cos(angle), np.sin(angle)])

    found = triangulate_robust(pixels, projections(rig))

    np.testing.assert_allclose(found, points, atol=1e-3)


@given(seed=seeds, lens=lens())
def test_the_epipolar_constraint_holds(seed, lens):
    rig = random_rig(seed, 3, lens)
    pixels = ideal_pixels(rig, random_points(seed, 20))
    for target in range(3):
        for source in range(3):
            if target != source:
                matrix = fundamental_matrix(rig.cameras[target], rig.cameras[source])
                distance = epipolar_distance(matrix, pixels[target], pixels[source])
                assert np.nanmax(distance) < 1e-5


@given(seed=seeds, lens=lens())
def test_undistortion_undoes_distortion_within_the_image(seed, lens):
    camera = looking_at((0, -100, -300), focal=900.0, lens=lens)
    ideal = np.random.default_rng(seed).uniform([0, 0], [1280, 720], (50, 2))
    corner = np.hypot(1280, 720) / 2 / 900
    assume(monotonic_radius(camera.distortion) > 1.1 * corner)

    distorted = distort(camera, ideal)

    np.testing.assert_allclose(camera.undistort(distorted), ideal, atol=1e-5)


@given(lens=lens(radial=0.6))
def test_distortion_never_folds(lens):
    coefficients = np.array([lens[0], lens[1], 0.0, 0.0, lens[4]])
    radius = np.linspace(0, 3, 400)
    along = np.stack([radius, np.zeros_like(radius)], axis=-1)

    distorted = distort_normalised(along, coefficients, monotonic_radius(coefficients))[:, 0]

    known = np.isfinite(distorted)
    assert np.all(np.diff(known.astype(int)) <= 0)  # known up to the turning point, then never
    assert np.all(np.diff(distorted[known]) > 0)


@given(
    seed=seeds,
    x=st.floats(-200, 1500),
    y=st.floats(-200, 900),
    side=st.floats(8, 2000),
    crop_px=st.sampled_from([64, 256, 384]),
)
def test_cropping_commutes_with_projection(seed, x, y, side, crop_px):
    """A crop is itself a camera: move K by the affine, and it projects into the crop."""
    camera, points = random_rig(seed, 2).cameras[0], random_points(seed, 10)
    affine = crop_transform((x, y), side, crop_px)
    cropped = Camera(
        **camera.to_dict() | {"K": np.vstack([affine, [0, 0, 1]]) @ camera.K}  # type: ignore[arg-type]
    )

    in_crop = apply_affine(affine, camera.project(points))

    np.testing.assert_allclose(cropped.project(points), in_crop, rtol=1e-9, atol=1e-6)
    back = apply_affine(invert_affine(affine), in_crop)
    np.testing.assert_allclose(back, camera.project(points), atol=1e-6)


@given(seed=seeds, factor=st.sampled_from([0.25, 1 / 3, 0.5, 2.0]), lens=lens())
def test_resizing_the_image_commutes_with_projection(seed, factor, lens):
    """Pixel areas align: a pixel centre x moves to ``(x + 0.5) * factor - 0.5``."""
    camera, points = random_rig(seed, 2, lens).cameras[0], random_points(seed, 10)
    resize = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
    small = Camera(
        **camera.to_dict()
        | {
            "K": resize @ camera.K,
            "width": round(1280 * factor),
            "height": round(720 * factor),
        }
    )

    moved = (camera.project(points) + 0.5) * factor - 0.5

    np.testing.assert_allclose(small.project(points), moved, atol=1e-7)
    np.testing.assert_allclose(
        small.undistort(moved),
        (camera.undistort(camera.project(points)) + 0.5) * factor - 0.5,
        atol=1e-5,
    )


@given(
    seed=seeds,
    crop_px=st.sampled_from([128, 256, 384]),
    rows=st.integers(4, 128),
    columns=st.integers(4, 128),
)
def test_heatmap_and_crop_coordinates_are_inverse(seed, crop_px, rows, columns):
    crop = np.random.default_rng(seed).uniform(-20, crop_px + 20, (30, 2))
    there = heatmap_from_crop(crop, crop_px, (rows, columns))
    np.testing.assert_allclose(crop_from_heatmap(there, crop_px, (rows, columns)), crop, atol=1e-9)
    edges = heatmap_from_crop(
        np.array([[-0.5, -0.5], [crop_px - 0.5] * 2]), crop_px, (rows, columns)
    )
    np.testing.assert_allclose(edges, [[-0.5, -0.5], [columns - 0.5, rows - 0.5]])
