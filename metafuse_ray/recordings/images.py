"""Camera frames: decoding, and sampling of crops. Colour order is RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from metafuse_ray.errors import DataError

_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# Calibrations refer to the sensor's pixels, so an EXIF rotation must not turn the image.
_DECODE = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_ASPECT_TOLERANCE = 0.01


def read_image(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Decode an image file of a camera.

    Args:
        path: JPEG, PNG or whatever OpenCV decodes.
        size: ``(width, height)`` that the camera's calibration is for.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        DataError: Missing, damaged or of another size; names the file (field ``path``).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the image {path}: {error.strerror}; restore it, or leave its camera out"
            " by data.cameras",
            path=str(path),
        ) from None
    image = None if _is_cut_jpeg(data) else _decode(data)
    if image is None:
        raise DataError(
            f"{path} does not decode as an image ({len(data)} bytes, truncated or damaged); extract"
            " it again from the video",
            path=str(path),
        )
    height, width = image.shape[:2]
    if (width, height) != tuple(size):
        raise DataError(_size_message(path, (width, height), size), path=str(path))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def sample_crops(
    image: np.ndarray, crops_from_image: Sequence[np.ndarray] | np.ndarray, side: int
) -> np.ndarray:
    """Sample square crops of an image, bilinearly; black beyond the image.

    Where a crop shrinks the image by two or more, the image is first averaged over whole blocks of
    pixels, so that a person close to the camera is not aliased.

    Args:
        image: (height, width, 3) uint8.
        crops_from_image: (N, 2, 3) similarity transforms, image pixels to crop pixels (centre of
            the top-left pixel at 0, 0, on both sides).
        side: Width and height of the crops.

    Returns:
        (N, side, side, 3) uint8.
    """
    crops = np.zeros((len(crops_from_image), side, side, 3), np.uint8)
    for crop, affine in zip(crops, crops_from_image, strict=True):
        factor = _block(affine)
        source, transform = _shrunk(image, np.asarray(affine, np.float64), factor)
        cv2.warpAffine(
            source,
            transform,
            (side, side),
            dst=crop,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
    return crops


def _decode(data: bytes) -> np.ndarray | None:
    if not data:
        return None  # OpenCV asserts on an empty buffer
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE)
    except cv2.error:
        return None


def _is_cut_jpeg(data: bytes) -> bool:
    """Some decoders fill the rest of a truncated JPEG with grey and report no error.

    Neither marker can occur inside compressed data, so a whole file has an end after its last scan
    (a thumbnail in the header has both of its own before).
    """
    return data.startswith(_JPEG) and data.rfind(_END) < data.rfind(_SCAN)


def _size_message(path: str | Path, got: tuple[int, int], size: tuple[int, int]) -> str:
    text = f"{path} is {got[0]}x{got[1]}, the calibration of its camera is for {size[0]}x{size[1]}"
    ratio = got[0] / size[0]
    if abs(got[1] / size[1] / ratio - 1) > _ASPECT_TOLERANCE:
        return f"{text}: the image is cut or of another camera; use the frames as recorded"
    return (
        f"{text}: the image is scaled by {ratio:.4g}; scale the images back, or multiply the first"
        f" two rows of K by {ratio:.4g} and set resolution to [{got[0]}, {got[1]}] in the"
        " calibration"
    )


def _block(affine: np.ndarray) -> int:
    """Return how many image pixels (whole, per axis) fall on one crop pixel."""
    scale = np.sqrt(abs(np.linalg.det(np.asarray(affine, np.float64)[:, :2])))
    return max(1, int(1 / max(scale, 1e-6)))


def _shrunk(image: np.ndarray, affine: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if factor == 1 or height == 0 or width == 0:
        return image, affine
    whole = image[: height * factor, : width * factor]
    shrunk = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    # Pixel areas align: image = factor (shrunk + 0.5) - 0.5.
    transform = affine.copy()
    transform[:, 2] += affine[:, :2].sum(axis=1) * (factor - 1) / 2
    transform[:, :2] *= factor
    return shrunk, transform
