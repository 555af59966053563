from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from metafuse_ray.errors import DataError
from metafuse_ray.recordings.images import read_image, sample_crops


def _picture(width: int = 64, height: int = 48) -> np.ndarray:
    """An RGB image, red growing with x, green with y, blue constant."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, np.full_like(x, 200)], axis=-1).astype(np.uint8)


def _write(path: Path, rgb: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


def test_png_comes_back_as_the_rgb_that_was_written(tmp_path: Path) -> None:
    picture = _picture()
    assert np.array_equal(read_image(_write(tmp_path / "a.png", picture), (64, 48)), picture)


def test_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    picture = _picture()
    image = read_image(_write(tmp_path / "a.jpg", picture), (64, 48))
    assert np.abs(image.astype(int) - picture).mean() < 3


def test_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file") as caught:
        read_image(tmp_path / "gone.jpg", (64, 48))
    assert caught.value.path == str(tmp_path / "gone.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = _write(tmp_path / f"a{suffix}", _picture())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match="does not decode") as caught:
        read_image(path, (64, 48))
    assert caught.value.path == str(path)


def test_text_with_an_image_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not an image")
    with pytest.raises(DataError, match="does not decode"):
        read_image(tmp_path / "a.jpg", (64, 48))


def test_scaled_image_is_refused_with_the_factor(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.png", _picture())
    with pytest.raises(DataError, match=r"64x48.*640x480.*scaled by 0\.1.*\[64, 48\]"):
        read_image(path, (640, 480))


def test_cut_image_is_refused_without_a_factor(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.png", _picture())
    with pytest.raises(DataError, match="cut or of another camera"):
        read_image(path, (64, 36))


def test_identity_crop_is_the_image_and_black_beyond_it() -> None:
    picture = _picture()
    crop = sample_crops(picture, np.eye(2, 3)[None], 64)[0]
    assert np.array_equal(crop[:48], picture)
    assert not crop[48:].any()


def test_crop_pixel_holds_the_colour_of_the_image_point_it_maps_from() -> None:
    # crop = 2 image - 21: crop pixel (31, 11) is image point (26, 16).
    affine = np.array([[2.0, 0, -21], [0, 2, -21]])
    crop = sample_crops(_picture(), affine[None], 40)[0]
    assert crop[11, 31].tolist() == [26 * 3, 16 * 4, 200]


def test_shrinking_averages_instead_of_aliasing() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200  # every second column: point sampling would see all or nothing
    affine = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]])
    crop = sample_crops(stripes, affine[None], 64)[0]
    assert np.abs(crop[4:-4, 4:-4].astype(int) - 100).max() <= 1


@pytest.mark.parametrize("scale", [0.9, 0.49, 0.26, 0.1])
def test_shrinking_keeps_positions(scale: float) -> None:
    y, x = np.mgrid[:400, :400]
    blob = np.exp(-((x - 237.3) ** 2 + (y - 151.8) ** 2) / (2 * 20.0**2)) * 255
    image = np.repeat(blob[..., None], 3, axis=-1).astype(np.uint8)
    affine = np.array([[scale, 0, 3.0], [0, scale, 7.0]])
    crop = sample_crops(image, affine[None], 400)[0][..., 0].astype(float)
    centre = [(crop * axis).sum() / crop.sum() for axis in (x, y)]
    assert centre == pytest.approx([scale * 237.3 + 3, scale * 151.8 + 7], abs=0.05)
