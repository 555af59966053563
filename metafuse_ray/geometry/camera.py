"""One calibrated camera: pinhole plus Brown-Conrady distortion.

Axes are OpenCV's (x right, y down, z forward) and ``x_cam = R x_world + t``. Pixel coordinates are
``(x, y)`` with the centre of the top-left pixel at ``(0, 0)``. *Ideal* pixels are what the same
camera would give without its lens distortion; all linear geometry works on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.distortion import (
    distort_normalised,
    monotonic_radius,
    undistort_normalised,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_ROTATION_TOLERANCE = 1e-3
"""Largest entry of ``R R^T - I``: calibration files round to as few as four decimals."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera; arrays are float64 and read-only.

    Attributes:
        name: Name in the rig, such as ``00_03``.
        K: ``(3, 3)`` intrinsics in pixels.
        distortion: ``(5,)`` lens coefficients ``(k1, k2, p1, p2, k3)``, OpenCV's order.
        R: ``(3, 3)`` rotation, camera from world.
        t: ``(3,)`` translation, camera from world, in the rig's unit.
        width: Image width in pixels.
        height: Image height in pixels.

    Raises:
        CalibrationError: A value has the wrong shape, is not finite or is impossible; names the
            camera and the key.

    >>> camera = Camera("a", [[500, 0, 319.5], [0, 500, 179.5], [0, 0, 1]], [0] * 5,
    ...                 [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 0], 640, 360)
    >>> camera.project([0, 0, 100]).tolist()
    [319.5, 179.5]
    """

    name: str
    K: FloatArray
    distortion: FloatArray
    R: FloatArray
    t: FloatArray
    width: int
    height: int

    def __post_init__(self) -> None:
        """Convert the arrays and refuse impossible values."""
        for key, shape in (("K", (3, 3)), ("distortion", (5,)), ("R", (3, 3)), ("t", (3,))):
            object.__setattr__(self, key, self._checked_array(key, shape))
        for key in ("width", "height"):
            object.__setattr__(self, key, self._checked_size(key))
        self._check_intrinsics()
        self._check_rotation()

    def project(self, points_world: npt.ArrayLike) -> FloatArray:
        """Project world points into the (distorted) image.

        Args:
            points_world: ``(..., 3)`` in the rig's unit.

        Returns:
            ``(..., 2)`` pixels; may lie outside the image. NaN where the input is NaN, the point
            is not in front of the camera, or it lies beyond the range of the lens model.
        """
        points_cam = self._camera_points(points_world)
        return self._pixels(distort_normalised(_dehomogenise(points_cam), *self._lens))

    def depth(self, points_world: npt.ArrayLike) -> FloatArray:
        """Return the depth ``(...,)`` of world points ``(..., 3)`` along the optical axis."""
        return np.asarray(points_world, dtype=np.float64) @ self.R[2] + self.t[2]

    def undistort(self, points_px: npt.ArrayLike) -> FloatArray:
        """Turn image pixels ``(..., 2)`` into ideal pixels ``(..., 2)`` under the same ``K``.

        NaN where no point within the range of the lens model maps to the pixel.
        """
        return self._pixels(undistort_normalised(self._normalised(points_px), *self._lens))

    @cached_property
    def projection_matrix(self) -> FloatArray:
        """``(3, 4)`` matrix from homogeneous world points to homogeneous *ideal* pixels."""
        return self.K @ np.column_stack([self.R, self.t])

    @cached_property
    def centre(self) -> FloatArray:
        """``(3,)`` optical centre in the world."""
        return -self.R.T @ self.t

    def contains(self, points_px: npt.ArrayLike) -> BoolArray:
        """Tell ``(...,)`` which pixels ``(..., 2)`` lie on the image; NaN does not.

        The image reaches half a pixel beyond its outermost pixel centres.
        """
        points = np.asarray(points_px, dtype=np.float64)
        size = np.array([self.width, self.height])
        with np.errstate(invalid="ignore"):
            return np.all((points >= -0.5) & (points <= size - 0.5), axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds exactly."""
        return {
            "name": self.name,
            "K": self.K.tolist(),
            "distortion": self.distortion.tolist(),
            "R": self.R.tolist(),
            "t": self.t.tolist(),
            "width": self.width,
            "height": self.height,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Camera:
        """Build a camera from ``to_dict``'s values.

        Raises:
            CalibrationError: A key is missing or a value is impossible.
        """
        name = str(values.get("name", "?"))
        keys = ("name", "K", "distortion", "R", "t", "width", "height")
        for key in keys:
            if key not in values:
                raise CalibrationError(
                    f"camera {name} has no {key!r}; expected the keys {', '.join(keys)}",
                    camera=name,
                    key=key,
                )
        return cls(**{key: values[key] for key in keys})

    @cached_property
    def _lens(self) -> tuple[FloatArray, float]:
        return self.distortion, monotonic_radius(self.distortion)

    @cached_property
    def _inverse_intrinsics(self) -> FloatArray:
        return np.linalg.inv(self.K).astype(np.float64)

    def _camera_points(self, points_world: npt.ArrayLike) -> FloatArray:
        return np.asarray(points_world, dtype=np.float64) @ self.R.T + self.t

    def _pixels(self, normalised: FloatArray) -> FloatArray:
        return normalised @ self.K[:2, :2].T + self.K[:2, 2]

    def _normalised(self, points_px: npt.ArrayLike) -> FloatArray:
        points = np.asarray(points_px, dtype=np.float64)
        return points @ self._inverse_intrinsics[:2, :2].T + self._inverse_intrinsics[:2, 2]

    def _checked_array(self, key: str, shape: tuple[int, ...]) -> FloatArray:
        try:
            array = np.array(getattr(self, key), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self._error(key, f"expected numbers of shape {shape}: {error}") from error
        if array.shape != shape:
            raise self._error(key, f"expected shape {shape}, got {array.shape}")
        if not np.all(np.isfinite(array)):
            raise self._error(key, "expected finite numbers, got NaN or infinity")
        array.setflags(write=False)
        return array

    def _checked_size(self, key: str) -> int:
        size = getattr(self, key)
        number = isinstance(size, int | float | np.integer | np.floating)
        if not number or not float(size).is_integer() or size <= 0:
            raise self._error(key, f"expected a positive whole number of pixels, got {size!r}")
        return int(size)

    def _check_intrinsics(self) -> None:
        if not np.array_equal(self.K[2], (0, 0, 1)) or self.K[1, 0] != 0:
            raise self._error("K", "expected an upper triangular matrix with last row 0, 0, 1")
        if self.K[0, 0] <= 0 or self.K[1, 1] <= 0:
            raise self._error("K", f"expected positive focal lengths, got {self.K.diagonal()[:2]}")

    def _check_rotation(self) -> None:
        error = float(np.abs(self.R @ self.R.T - np.eye(3)).max())
        if error > _ROTATION_TOLERANCE or np.linalg.det(self.R) < 0:
            raise self._error(
                "R",
                f"expected a rotation, but R R^T is off the identity by {error:.2g} "
                f"and det R is {np.linalg.det(self.R):.2g}",
            )

    def _error(self, key: str, message: str) -> CalibrationError:
        return CalibrationError(
            f"camera {self.name}, {key}: {message}; correct the calibration",
            camera=self.name,
            key=key,
        )


def _dehomogenise(points_cam: FloatArray) -> FloatArray:
    depth = points_cam[..., 2:]
    with np.errstate(invalid="ignore"):
        depth = np.where(depth > 0, depth, np.nan)
    return points_cam[..., :2] / depth
