"""Bundle adjustment: cameras and points at once, by robust least squares with priors.

Levenberg-Marquardt on the reduced camera system: the points are eliminated in closed form (Schur
complement), so that a rig of four views with a thousand points takes milliseconds a step.

Source: Triggs et al. 2000, Bundle Adjustment: A Modern Synthesis; reweighting as in its section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from metafuse_ray.geometry.camera import Camera

FloatArray = npt.NDArray[np.float64]

PARAMETERS = 9
"""Of a camera: rotation vector (3), centre (3), log focal length (1), principal point (2)."""
_DEPTH = 1e-6
"""Smallest depth, in units of the rig's size, at which a point counts as in front."""
_ENOUGH = 1e-7
"""Relative fall of the cost below which the iteration stops."""
_LARGEST_DAMPING = 1e8
_TINY = 1e-12
"""Added to diagonals: a world free to move has directions that no observation fixes."""


@dataclass(frozen=True, eq=False)
class Views:
    """Pinhole cameras as stacked arrays.

    Attributes:
        K_V33: Intrinsics.
        R_V33: Rotations, camera from world.
        centre_V3: Optical centres in the world.
    """

    K_V33: FloatArray
    R_V33: FloatArray
    centre_V3: FloatArray

    @classmethod
    def of(cls, cameras: Sequence[Camera]) -> Views:
        """Stack cameras; their lens distortion is left out."""
        return cls(
            np.stack([camera.K for camera in cameras]),
            np.stack([camera.R for camera in cameras]),
            np.stack([camera.centre for camera in cameras]),
        )

    @property
    def projections(self) -> FloatArray:
        """Projection matrices of ideal pixels."""
        t_V31 = -self.R_V33 @ self.centre_V3[:, :, None]
        return self.K_V33 @ np.concatenate([self.R_V33, t_V31], axis=2)

    def placed(self, origin_3: FloatArray, unit: float) -> Views:
        """Return the cameras in a world with its origin at a point and another unit of length."""
        return replace(self, centre_V3=(self.centre_V3 - origin_3) / unit)

    def moved(self, step_VC: FloatArray) -> Views:
        """Apply one step of the `PARAMETERS` of every camera."""
        turn_V33 = np.stack([cv2.Rodrigues(turn)[0] for turn in step_VC[:, :3]])
        K_V33 = self.K_V33.copy()
        K_V33[:, :2, :2] *= np.exp(step_VC[:, 6])[:, None, None]
        K_V33[:, :2, 2] += step_VC[:, 7:9]
        return Views(K_V33, turn_V33 @ self.R_V33, self.centre_V3 + step_VC[:, 3:6])

    def step_from(self, other: Views) -> FloatArray:
        """Return the step ``(V, PARAMETERS)`` that leads from other cameras here."""
        turn_V33 = self.R_V33 @ np.swapaxes(other.R_V33, 1, 2)
        turn_V3 = np.stack([cv2.Rodrigues(turn)[0][:, 0] for turn in turn_V33])
        focal_V = np.log(self.K_V33[:, 0, 0] / other.K_V33[:, 0, 0])
        middle_V2 = self.K_V33[:, :2, 2] - other.K_V33[:, :2, 2]
        shift_V3 = self.centre_V3 - other.centre_V3
        return np.concatenate([turn_V3, shift_V3, focal_V[:, None], middle_V2], axis=1)


@dataclass(frozen=True, eq=False)
class Prior:
    """Where cameras are believed to be.

    Attributes:
        views: The most likely cameras.
        sigma_VC: Standard deviation of each of the `PARAMETERS`; infinite where nothing is
            known, 0 where the value is certain and not to be changed.
    """

    views: Views
    sigma_VC: FloatArray

    def cost_of(self, views: Views) -> float:
        """Return the sum of squares of the deviations in units of their sigma."""
        return float(np.sum(np.square(views.step_from(self.views) * self.precision)))

    @property
    def precision(self) -> FloatArray:
        """1 / sigma; 0 for what is certain, which never moves."""
        with np.errstate(divide="ignore"):
            return np.where(self.sigma_VC > 0, 1 / self.sigma_VC, 0.0)


@dataclass(frozen=True, eq=False)
class Bundle:
    """An adjusted rig.

    Attributes:
        views: The cameras.
        points_N3: The points; NaN where fewer than two views have one.
        cost: Robust cost, prior included: about half the number of residuals where all is well.
        variance_VC: Variance of each camera's `PARAMETERS` were the observations independent;
            0 for what is certain. In a free world it is that of the least certain frame.
        prior: What was believed of the cameras.
    """

    views: Views
    points_N3: FloatArray
    cost: float
    variance_VC: FloatArray
    prior: Prior

    def placed(self, origin_3: FloatArray, unit: float) -> Bundle:
        """Return the same in a world with its origin at a point and another unit of length."""
        is_length = np.arange(PARAMETERS) // 3 == 1
        return replace(
            self,
            views=self.views.placed(origin_3, unit),
            points_N3=(self.points_N3 - origin_3) / unit,
            variance_VC=self.variance_VC / np.where(is_length, unit**2, 1.0),
            prior=Prior(
                self.prior.views.placed(origin_3, unit),
                self.prior.sigma_VC / np.where(is_length, unit, 1.0),
            ),
        )


class Observations(NamedTuple):
    """What the views saw.

    Attributes:
        points_VN2: Ideal pixels; NaN where a view has no point.
        sigma_VN: Standard deviation of the points, in pixels.
        tail_VN: Times the loss's scale from which a point's loss turns flat: below 1 for what is
            often grossly wrong, above for what never is; 1 where absent.
    """

    points_VN2: FloatArray
    sigma_VN: FloatArray
    tail_VN: FloatArray | None = None

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which views have which points."""
        finite = np.isfinite(self.points_VN2).all(-1)
        return finite & np.isfinite(self.sigma_VN) & (self.sigma_VN > 0)

    def take(self, rows: npt.NDArray[np.intp]) -> Observations:
        """Return some of the points."""
        tail = None if self.tail_VN is None else self.tail_VN[:, rows]
        return Observations(self.points_VN2[:, rows], self.sigma_VN[:, rows], tail)


def adjust(
    seen: Observations,
    views: Views,
    points_N3: FloatArray,
    prior: Prior,
    scale: float,
    iterations: int = 30,
) -> Bundle:
    """Minimise the robust reprojection error over cameras and points.

    The loss is Cauchy's: ``scale^2 / 2 log(1 + (error / sigma / scale)^2)``, smooth and bounded in
    influence, so that gross errors of a detector do not pull.

    Args:
        seen: The observations.
        views: Where to start.
        points_N3: Where the points start; NaN points stay out.
        prior: On the cameras. Its certain parameters stay as they are in ``views``.
        scale: Error, in units of sigma, from which the loss turns flat.
        iterations: Most steps tried.
    """
    problem = _Problem.of(seen, points_N3, prior, scale)
    state = problem.state(views, points_N3[problem.used_N])
    damping = 1e-3
    for _ in range(iterations):
        step = problem.step(state, damping)
        trial = state if step is None else problem.state(state.views.moved(step[0]), step[1])
        if step is None or not trial.cost < state.cost:
            damping *= 10
            if damping > _LARGEST_DAMPING:
                break
            continue
        done = state.cost - trial.cost < _ENOUGH * state.cost
        state, damping = trial, max(damping / 10, 1e-9)
        if done:
            break
    return problem.bundle(state)


class _State(NamedTuple):
    views: Views
    points_N3: FloatArray
    cam_VN3: FloatArray
    error_VN2: FloatArray
    squared_VN: FloatArray
    cost: float


class _Reduced(NamedTuple):
    """The linear system of one step; F counts the free camera parameters."""

    matrix_FF: FloatArray
    right_F: FloatArray
    mixed_FN3: FloatArray
    inverse_N33: FloatArray
    g_N3: FloatArray


@dataclass(frozen=True, eq=False)
class _Problem:
    points_VN2: FloatArray
    precision_VN: FloatArray
    used_N: npt.NDArray[np.bool_]
    prior: Prior
    scale_VN: FloatArray

    @classmethod
    def of(cls, seen: Observations, points_N3: FloatArray, prior: Prior, scale: float) -> _Problem:
        known = seen.known
        used = (known.sum(0) >= 2) & np.isfinite(points_N3).all(-1)
        known = known[:, used]
        points = np.where(known[..., None], seen.points_VN2[:, used], 0.0)
        sigma = np.where(known, seen.sigma_VN[:, used], 1.0)
        tail = 1.0 if seen.tail_VN is None else seen.tail_VN[:, used]
        return cls(points, known / sigma, used, prior, scale * np.broadcast_to(tail, sigma.shape))

    def state(self, views: Views, points_N3: FloatArray) -> _State:
        """Evaluate the errors and the cost."""
        cam_VN3 = (points_N3[None] - views.centre_V3[:, None]) @ np.swapaxes(views.R_V33, 1, 2)
        behind = cam_VN3[..., 2] <= _DEPTH
        with np.errstate(divide="ignore", invalid="ignore"):
            flat_VN2 = cam_VN3[..., :2] / cam_VN3[..., 2:]
        pixels = flat_VN2 @ np.swapaxes(views.K_V33[:, :2, :2], 1, 2) + views.K_V33[:, None, :2, 2]
        error = (pixels - self.points_VN2) * self.precision_VN[..., None]
        error = np.where((self.precision_VN > 0)[..., None] & ~behind[..., None], error, 0.0)
        squared = np.sum(np.square(error), axis=-1)
        # A point behind a camera that saw it counts as a gross error, and has no gradient.
        squared = np.where(behind & (self.precision_VN > 0), 1e4 * self.scale_VN**2, squared)
        loss = self.scale_VN**2 * np.log1p(squared / self.scale_VN**2)
        cost = 0.5 * (float(loss.sum()) + self.prior.cost_of(views))
        return _State(views, points_N3, cam_VN3, error, squared, cost)

    def step(self, state: _State, damping: float) -> tuple[FloatArray, FloatArray] | None:
        """Return a step of the cameras ``(V, C)`` and the moved points; None where singular."""
        try:
            reduced = self._reduced(state, damping)
            solution = np.linalg.solve(reduced.matrix_FF, reduced.right_F)
        except np.linalg.LinAlgError:
            return None
        moved = -reduced.g_N3 - np.einsum("fni,f->ni", reduced.mixed_FN3, solution)
        points = state.points_N3 + np.einsum("nij,nj->ni", reduced.inverse_N33, moved)
        return self._spread(solution), points

    def _reduced(self, state: _State, damping: float) -> _Reduced:
        """Eliminate the points: the system of the free camera parameters alone."""
        camera_VN2C, point_VN23 = self._jacobians(state)
        root_VN = np.sqrt(1 / (1 + state.squared_VN / self.scale_VN**2))[..., None]
        error = state.error_VN2 * root_VN
        camera, point = camera_VN2C * root_VN[..., None], point_VN23 * root_VN[..., None]
        H_VCC = np.einsum("vnkc,vnkd->vcd", camera, camera, optimize=True)
        H_N33 = np.einsum("vnki,vnkj->nij", point, point, optimize=True)
        mixed_VCN3 = np.einsum("vnkc,vnki->vcni", camera, point, optimize=True)
        g_VC = np.einsum("vnkc,vnk->vc", camera, error)
        g_N3 = np.einsum("vnki,vnk->ni", point, error)
        precision = np.square(self.prior.precision)
        g_VC = g_VC + precision * state.views.step_from(self.prior.views)
        H_VCC = H_VCC + precision[:, :, None] * np.eye(PARAMETERS)
        free = np.flatnonzero(self.prior.sigma_VC.reshape(-1) > 0)
        mixed_FN3 = mixed_VCN3.reshape(precision.size, *g_N3.shape)[free]
        inverse_N33 = np.linalg.inv(H_N33 + (damping * H_N33 + _TINY) * np.eye(3))
        half = np.einsum("fni,nij->fnj", mixed_FN3, inverse_N33, optimize=True)
        matrix = _block_diagonal(H_VCC)[np.ix_(free, free)]
        matrix = matrix + np.diag(damping * np.diag(matrix) + _TINY)
        matrix = matrix - np.einsum("fnj,gnj->fg", half, mixed_FN3, optimize=True)
        right = np.einsum("fni,ni->f", half, g_N3) - g_VC.reshape(-1)[free]
        return _Reduced(matrix, right, mixed_FN3, inverse_N33, g_N3)

    def _spread(self, values_F: npt.ArrayLike) -> FloatArray:
        """Put values of the free parameters in their places ``(V, C)``; 0 elsewhere."""
        sigma = self.prior.sigma_VC
        whole = np.zeros(sigma.size)
        whole[sigma.reshape(-1) > 0] = values_F
        return whole.reshape(sigma.shape)

    def _jacobians(self, state: _State) -> tuple[FloatArray, FloatArray]:
        """Return the derivatives of the weighted errors by camera ``(V, N, 2, C)`` and point."""
        views, cam = state.views, state.cam_VN3
        on = (self.precision_VN > 0) & (cam[..., 2] > _DEPTH)
        depth = np.where(on, cam[..., 2], 1.0)
        flat = np.where(on[..., None], cam[..., :2], 0.0) / depth[..., None]
        by_cam = np.zeros((*depth.shape, 2, 3))
        by_cam[..., 0, 0] = by_cam[..., 1, 1] = 1 / depth
        by_cam[..., :, 2] = -flat / depth[..., None]
        by_cam = views.K_V33[:, None, :2, :2] @ by_cam
        by_cam = by_cam * (self.precision_VN * on)[..., None, None]
        by_point = by_cam @ views.R_V33[:, None]
        by_camera = np.zeros((*depth.shape, 2, PARAMETERS))
        # d(turn x cam)/d turn = -[cam]_x: row k of by_cam, crossed with cam.
        by_camera[..., :3] = np.cross(cam[..., None, :], by_cam)
        by_camera[..., 3:6] = -by_point
        projected = (views.K_V33[:, None, :2, :2] @ flat[..., None])[..., 0]
        by_camera[..., 6] = projected * (self.precision_VN * on)[..., None]
        by_camera[..., 0, 7] = by_camera[..., 1, 8] = self.precision_VN * on
        return by_camera, by_point

    def bundle(self, state: _State) -> Bundle:
        """Return the state with every point in its place."""
        points = np.full((len(self.used_N), 3), np.nan)
        points[self.used_N] = state.points_N3
        try:
            variance = np.diag(np.linalg.inv(self._reduced(state, 0.0).matrix_FF))
        except np.linalg.LinAlgError:
            variance = np.full(int((self.prior.sigma_VC > 0).sum()), np.inf)
        return Bundle(state.views, points, state.cost, self._spread(variance), self.prior)


def _block_diagonal(blocks_VCC: FloatArray) -> FloatArray:
    views, size, _ = blocks_VCC.shape
    whole = np.zeros((views, size, views, size))
    whole[np.arange(views), :, np.arange(views)] = blocks_VCC
    return whole.reshape(views * size, views * size)
