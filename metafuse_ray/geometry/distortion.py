"""Brown-Conrady lens distortion on normalised coordinates, and its safe inverse.

Coefficients come in OpenCV's order ``(k1, k2, p1, p2, k3)``. The radial polynomial of a real lens
is only meant for its field of view: far outside, it turns round and folds distant points back into
the image. Points beyond the turning point are therefore NaN, never a false position.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NEWTON_STEPS = 50
_TOLERANCE = 1e-12
"""Residual of the inverse in normalised coordinates (about 1e-9 px)."""


def monotonic_radius(coefficients: FloatArray) -> float:
    """Return the undistorted radius at which the radial polynomial turns round.

    Args:
        coefficients: ``(5,)`` as ``(k1, k2, p1, p2, k3)``.

    Returns:
        The radius (normalised units, tangent of the angle), infinite where it never turns.

    >>> monotonic_radius(np.zeros(5))
    inf
    """
    k1, k2, _, _, k3 = coefficients
    # d/dr of r (1 + k1 r^2 + k2 r^4 + k3 r^6) = 0, divided by r^6: monic in v = 1 / r^2, so that
    # a vanishing k3 is a root at 0 (a radius at infinity) and not a division by zero.
    roots = np.roots([1.0, 3 * k1, 5 * k2, 7 * k3])
    turning = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 1e-12)]
    return float(1 / np.sqrt(turning.max())) if turning.size else float("inf")


def distort_normalised(xy: FloatArray, coefficients: FloatArray, limit: float) -> FloatArray:
    """Distort ideal normalised coordinates.

    Args:
        xy: ``(..., 2)`` ideal coordinates ``(X / Z, Y / Z)``.
        coefficients: ``(5,)`` as ``(k1, k2, p1, p2, k3)``.
        limit: Radius of ``monotonic_radius``; points at or beyond it become NaN.

    Returns:
        ``(..., 2)`` distorted coordinates.
    """
    x, y = xy[..., 0], xy[..., 1]
    k1, k2, p1, p2, k3 = coefficients
    with np.errstate(invalid="ignore", over="ignore"):
        u = x * x + y * y
        u = np.where(u < limit * limit, u, np.nan)
        radial = 1 + u * (k1 + u * (k2 + u * k3))
        distorted_x = x * radial + 2 * p1 * x * y + p2 * (u + 2 * x * x)
        distorted_y = y * radial + p1 * (u + 2 * y * y) + 2 * p2 * x * y
    return np.stack([distorted_x, distorted_y], axis=-1)


def undistort_normalised(xy: FloatArray, coefficients: FloatArray, limit: float) -> FloatArray:
    """Invert ``distort_normalised`` by Newton's method with the analytic Jacobian.

    Started at the distorted point, Newton approaches the root from one side for barrel and
    pincushion lenses alike, so it needs no damping; iterates are kept inside ``limit``.

    Args:
        xy: ``(..., 2)`` distorted coordinates.
        coefficients: ``(5,)`` as ``(k1, k2, p1, p2, k3)``.
        limit: Radius of ``monotonic_radius``.

    Returns:
        ``(..., 2)`` ideal coordinates; NaN where no ideal point inside ``limit`` maps there.
    """
    target = np.asarray(xy, dtype=np.float64)
    ideal = _pull_inside(target, limit)
    for _ in range(_NEWTON_STEPS):
        residual = distort_normalised(ideal, coefficients, limit) - target
        if not np.any(np.abs(residual) > _TOLERANCE):
            break
        ideal = _pull_inside(ideal - _newton_step(ideal, residual, coefficients), limit)
    residual = distort_normalised(ideal, coefficients, limit) - target
    with np.errstate(invalid="ignore"):
        solved = np.all(np.abs(residual) < 1e-9, axis=-1, keepdims=True)
    return np.where(solved, ideal, np.nan)


def _newton_step(xy: FloatArray, residual: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Solve the 2 x 2 system ``J step = residual`` at every point."""
    x, y = xy[..., 0], xy[..., 1]
    k1, k2, p1, p2, k3 = coefficients
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        u = x * x + y * y
        radial = 1 + u * (k1 + u * (k2 + u * k3))
        slope = 2 * (k1 + u * (2 * k2 + u * 3 * k3))  # d radial / dx = slope * x
        j_xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        j_yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
        j_xy = slope * x * y + 2 * p1 * x + 2 * p2 * y
        determinant = j_xx * j_yy - j_xy * j_xy
        step_x = (j_yy * residual[..., 0] - j_xy * residual[..., 1]) / determinant
        step_y = (j_xx * residual[..., 1] - j_xy * residual[..., 0]) / determinant
    return np.stack([step_x, step_y], axis=-1)


def _pull_inside(xy: FloatArray, limit: float) -> FloatArray:
    if np.isinf(limit):
        return xy
    radius = np.maximum(np.linalg.norm(xy, axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    return xy * np.minimum(1.0, limit * (1 - 1e-9) / radius)
