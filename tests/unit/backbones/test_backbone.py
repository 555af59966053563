from __future__ import annotations

import numpy as np
import pytest

from metafuse_ray.backbones.backbone import input_from_image, resample_heatmaps, resampling_matrix
from metafuse_ray.pose.skeleton import COCO17


class Lattice:
    """As much of a backbone as its lattice."""

    name, digest, skeleton = "lattice", "", COCO17

    def __init__(self, input_px: int, pixels: int, first_pixel_px: float) -> None:
        self.input_px = input_px
        self.native_grid = (pixels, pixels)
        stride = input_px / pixels
        self.input_offset_px = 0.5 * stride - 0.5 - first_pixel_px

    def __call__(self, crops_BSS3: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("input_px", "pixels", "first_pixel_px", "crop_px"),
    [(256, 64, 0.0, 256), (256, 64, 1.5, 256), (256, 64, 0.0, 192), (224, 56, 0.0, 256)],
)
def test_pixels_of_the_network_fall_on_aligned_pixel_areas(
    input_px: int, pixels: int, first_pixel_px: float, crop_px: int
) -> None:
    backbone = Lattice(input_px, pixels, first_pixel_px)
    crop_from_image = np.array([[1.7, 0.0, -40.0], [0.0, 1.7, 12.5]])
    (transform,) = input_from_image(backbone, crop_from_image[None], crop_px)
    index = np.array([0.0, 5.0, pixels - 1.0])
    in_input = first_pixel_px + index * input_px / pixels
    in_image = (in_input - transform[:, 2:]) / 1.7 / (input_px / crop_px)
    in_crop = 1.7 * in_image + crop_from_image[:, 2:]
    expected = (index + 0.5) * crop_px / pixels - 0.5
    assert in_crop == pytest.approx(np.stack([expected, expected]))


def test_blazepose_input_lies_one_and_a_half_pixels_before_the_crop() -> None:
    (transform,) = input_from_image(Lattice(256, 64, 0.0), np.eye(2, 3)[None], 256)
    assert transform == pytest.approx(np.array([[1, 0, -1.5], [0, 1, -1.5]]))


def test_halving_is_the_mean_of_two_by_two() -> None:
    heatmaps = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    expected = heatmaps.reshape(2, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    assert resample_heatmaps(heatmaps, (32, 32)) == pytest.approx(expected, abs=1e-6)


def test_native_grid_is_untouched() -> None:
    heatmaps = np.random.default_rng(0).random((1, 2, 8, 6), np.float32)
    assert resample_heatmaps(heatmaps, (8, 6)) is heatmaps


@pytest.mark.parametrize("pixels", [3, 16, 32, 48, 64, 96, 128])
def test_resampling_keeps_constants_and_positions(pixels: int) -> None:
    matrix = resampling_matrix(pixels, 64)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(pixels), abs=1e-6)
    # A ramp over the crop stays the same ramp (away from the border, where nothing is beyond).
    centres = (np.arange(64) + 0.5) / 64
    expected = (np.arange(pixels) + 0.5) / pixels
    inner = slice(1, -1)
    # A box whose width is not a whole number of pixels ripples by at most a tenth of one.
    tolerance = 0.1 / 64 if pixels == 48 or pixels == 3 else 1e-6
    assert (matrix @ centres)[inner] == pytest.approx(expected[inner], abs=tolerance)


def test_rectangular_grid() -> None:
    heatmaps = np.random.default_rng(0).random((1, 2, 64, 64), np.float32)
    resampled = resample_heatmaps(heatmaps, (64, 48))
    assert resampled.shape == (1, 2, 64, 48)
    assert resampled.mean() == pytest.approx(heatmaps.mean(), abs=1e-6)
