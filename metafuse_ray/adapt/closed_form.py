"""Theta in closed form: a Gaussian p(source pixel | target pixel i) from labelled correspondences.

Given a target joint t, the source joint is Gaussian with mean B phi(t), phi the quadratic of
`pair_prior`, and covariance R. B is its MAP estimate under the prior over pairs, from a likelihood
that counts every label less than once (frames of one clip repeat themselves); its remaining doubt
widens the Gaussian away from the labels. R takes its axes from the residuals, and its variances
partly from them and partly from what training pairs have. A Gaussian about the epipolar line of the
same labels (`pair_lines`) is multiplied in, sample by sample, since crops move.

Mean m_i and covariance C_i **are** an affine over a Gaussian blob as base map:
theta_i = C_i^(-1/2) [I | -m_i]. See `metafuse_ray.models.gaussian_warp`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from metafuse_ray.adapt.pair_lines import PairLines, fit_lines
from metafuse_ray.adapt.pair_points import PairPoints, homogeneous
from metafuse_ray.adapt.pair_prior import COEFFICIENTS, PairPrior, quadratic
from metafuse_ray.adapt.scalars import Scalars
from metafuse_ray.models.gaussian_warp import inverse_2x2

_TYPICAL_FRAMES = 15
"""N at which the learned levels hold; their slopes are along log N from there."""
_MIN_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class PairGeometry:
    """What is known of E ordered pairs, float64.

    Attributes:
        coefficients_E26: B.
        doubt_ECC: Posterior covariance of B, row by row.
        spread_E22: R.
        lines: Fundamental matrices.
    """

    coefficients_E26: torch.Tensor
    doubt_ECC: torch.Tensor
    spread_E22: torch.Tensor
    lines: PairLines


def fit_pairs_closed_form(
    points: PairPoints, prior: PairPrior, scalars: Scalars, frames: int
) -> PairGeometry:
    """Solve the geometry of every pair; differentiable in the scalars.

    Args:
        points: Labelled correspondences; none where there are no labels.
        prior: From training pairs.
        scalars: Meta-learned.
        frames: N, labelled person-frames.
    """
    log_frames = math.log(max(frames, 1) / _TYPICAL_FRAMES)
    temper = torch.exp(scalars["temper"] + scalars["temper_slope"] * log_frames)
    known_EM1 = points.known_EM[..., None]
    regressors_EM6 = quadratic(points.target_EM2) * known_EM1
    gram_E66 = temper * regressors_EM6.mT @ regressors_EM6
    cross_E26 = temper * (points.source_EM2 * known_EM1).mT @ regressors_EM6
    precision_CC = torch.linalg.inv(prior.covariance_CC) / scalars["prior_scale"].exp()
    pull_12 = precision_CC @ prior.mean_12

    def solve(spread_E22: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight_E22 = inverse_2x2(spread_E22)
        data_ECC = torch.einsum("eab,ecd->eacbd", weight_E22, gram_E66)
        factor_ECC = torch.linalg.cholesky(
            precision_CC + data_ECC.reshape(-1, COEFFICIENTS, COEFFICIENTS)
        )
        right_E12 = pull_12 + (weight_E22 @ cross_E26).flatten(1)
        found_E12 = torch.cholesky_solve(right_E12[..., None], factor_ECC)[..., 0]
        return found_E12.unflatten(1, (2, 6)), factor_ECC

    log_sigma_2 = torch.stack([scalars["log_across"], scalars["log_along"]])
    round_22 = torch.exp(2 * log_sigma_2.mean()) * torch.eye(2).to(gram_E66)
    first_E26, _ = solve(round_22.expand(len(gram_E66), 2, 2))
    trust = torch.sigmoid(scalars["trust"] + scalars["trust_slope"] * log_frames)
    spread_E22 = _spread(points, first_E26.detach(), log_sigma_2, trust)
    coefficients_E26, factor_ECC = solve(spread_E22)
    precision_99 = torch.linalg.inv(prior.fundamental_99) * scalars["line_prior"].exp()
    lines = fit_lines(points, precision_99, scalars["log_label_noise"].exp())
    return PairGeometry(coefficients_E26, torch.cholesky_inverse(factor_ECC), spread_E22, lines)


def _spread(
    points: PairPoints,
    coefficients_E26: torch.Tensor,
    log_sigma_2: torch.Tensor,
    trust: torch.Tensor,
) -> torch.Tensor:
    """Return R: the axes of the residuals, their log-variances shrunk to the learned ones.

    A pair without labels has no axes: R is round and as wide as a line is long.
    """
    expected_EM2 = quadratic(points.target_EM2) @ coefficients_E26.mT
    residual_EM2 = (points.source_EM2 - expected_EM2) * points.known_EM[..., None]
    count_E = points.known_EM.sum(1)
    scatter_E22 = residual_EM2.mT @ residual_EM2 / count_E.clamp(min=1)[:, None, None]
    variance_E2, axes_E22 = torch.linalg.eigh(scatter_E22)
    log_found_E2 = variance_E2.clamp(min=_MIN_VARIANCE).log() / 2
    log_E2 = trust * log_found_E2 + (1 - trust) * log_sigma_2
    spread_E22 = (axes_E22 * torch.exp(2 * log_E2)[:, None]) @ axes_E22.mT
    round_22 = torch.exp(2 * log_sigma_2[1]) * torch.eye(2).to(spread_E22)
    return torch.where((count_E == 0)[:, None, None], round_22, spread_E22)


@dataclass(frozen=True, eq=False)
class SourceGaussians:
    """p(source position | target pixel) of one pair, for every sample and target pixel.

    Attributes:
        mean_BP2: In the source's grid coordinates.
        precision_BP22: Inverse covariance.
    """

    mean_BP2: torch.Tensor
    precision_BP22: torch.Tensor


def source_gaussians(
    geometry: PairGeometry,
    pair: int,
    scalars: Scalars,
    pixels_P2: torch.Tensor,
    target_B33: torch.Tensor,
    source_B33: torch.Tensor,
) -> SourceGaussians:
    """Return the Gaussians of one pair; differentiable, in the type of ``pixels_P2``.

    Args:
        geometry: Of all pairs.
        pair: Which.
        scalars: Meta-learned.
        pixels_P2: Target positions, grid coordinates.
        target_B33: Every sample's affine from grid to image coordinates, of the target.
        source_B33: Likewise of the source.
    """
    kind = pixels_P2
    regressors_P6 = quadratic(pixels_P2)
    mean_P2 = regressors_P6 @ geometry.coefficients_E26[pair].T.to(kind)
    doubt_2626 = geometry.doubt_ECC[pair].to(kind).unflatten(0, (2, 6)).unflatten(2, (2, 6))
    doubt_P22 = torch.einsum("pi,aibj,pj->pab", regressors_P6, doubt_2626, regressors_P6)
    doubt_P22 = doubt_P22 * scalars["doubt"].exp().to(kind)
    precision_P22 = inverse_2x2(geometry.spread_E22[pair].to(kind) + doubt_P22)

    line_BP3, variance_BP = _lines(geometry, pair, mean_P2, pixels_P2, target_B33, source_B33)
    variance_BP = (2 * scalars["log_line"]).exp().to(kind) + (
        scalars["line_doubt"].exp().to(kind) * variance_BP
    )
    normal_BP2, offset_BP = line_BP3[..., :2], line_BP3[..., 2]
    across_BP22 = normal_BP2[..., :, None] * normal_BP2[..., None, :]
    precision_BP22 = precision_P22 + across_BP22 / variance_BP[..., None, None]
    pull_BP2 = (precision_P22 @ mean_P2[..., None])[..., 0] - normal_BP2 * (
        offset_BP / variance_BP
    )[..., None]
    mean_BP2 = (inverse_2x2(precision_BP22) @ pull_BP2[..., None])[..., 0]
    return SourceGaussians(mean_BP2, precision_BP22)


def _lines(
    geometry: PairGeometry,
    pair: int,
    mean_P2: torch.Tensor,
    pixels_P2: torch.Tensor,
    target_B33: torch.Tensor,
    source_B33: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every pixel's epipolar line (B, P, 3) in grid coordinates and its variance (B, P).

    The normal has length 1; the variance is that of the line's distance from ``mean_P2``.
    """
    kind = pixels_P2
    target_B33, source_B33 = target_B33.to(kind), source_B33.to(kind)
    fundamental_33 = geometry.lines.fundamental_E33[pair].to(kind)
    covariance_99 = geometry.lines.covariance_E99[pair].to(kind)
    target_BP3 = homogeneous(pixels_P2) @ target_B33.mT
    source_BP3 = homogeneous(mean_P2) @ source_B33.mT
    line_BP3 = target_BP3 @ fundamental_33.T @ source_B33
    length_BP1 = line_BP3[..., :2].norm(dim=-1, keepdim=True).clamp(min=1e-9)
    slope_BP9 = (source_BP3[..., :, None] * target_BP3[..., None, :]).flatten(-2)
    variance_BP = ((slope_BP9 @ covariance_99) * slope_BP9).sum(-1)
    return line_BP3 / length_BP1, variance_BP / length_BP1[..., 0] ** 2
