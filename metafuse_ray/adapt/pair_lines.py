"""Fundamental matrices from labelled correspondences, with their doubt, and the lines they give.

The normalised 8-point algorithm as a MAP estimate: the matrix f (9 numbers, norm 1) minimises

    sum over correspondences of (epipolar distance / noise)^2  +  f^T precision f,

the prior's precision standing where a plain ridge would. Distances are those of Sampson, in grid
units, by two rounds of reweighting. The inverse of the same quadratic form, off f, is f's
covariance: where the labels say nothing of a line, its distance is in doubt, and no support is too
small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metafuse_ray.adapt.pair_points import PairPoints

_ROUNDS = 2
_FIRST_GRADIENT = 0.3
"""Stands for the gradient of f^T (source x target) before there is an f to compute it of."""
_SMALL = 1e-4


@dataclass(frozen=True, eq=False)
class PairLines:
    """The epipolar geometry of E pairs in image coordinates, ``source^T F target = 0``.

    Attributes:
        fundamental_E33: Of norm 1.
        covariance_E99: Of its entries, row by row.
    """

    fundamental_E33: torch.Tensor
    covariance_E99: torch.Tensor


def fit_lines(points: PairPoints, precision_99: torch.Tensor, noise: torch.Tensor) -> PairLines:
    """Estimate the fundamental matrix of every pair.

    Args:
        points: Correspondences; a pair may have none.
        precision_99: Of the prior over the entries of a matrix of norm 1.
        noise: Standard deviation of a correspondence's epipolar distance, grid units.
    """
    rows_EM9 = torch.einsum("emi,emj->emij", points.source_image_EM3, points.target_image_EM3)
    rows_EM9 = rows_EM9.flatten(2) / noise
    weight_EM = points.known_EM / _FIRST_GRADIENT
    for _ in range(_ROUNDS):
        with torch.no_grad():
            vector_E99 = _eigen(rows_EM9, weight_EM, precision_99)[1]
            gradient_EM = _gradient(points, vector_E99[..., 0].unflatten(-1, (3, 3)))
        weight_EM = points.known_EM / gradient_EM
    value_E9, vector_E99 = _eigen(rows_EM9, weight_EM, precision_99)
    fundamental_E33 = vector_E99[..., 0].unflatten(-1, (3, 3))
    spread_E8 = 1 / (value_E9[:, 1:] - value_E9[:, :1]).clamp(min=_SMALL)
    others_E98 = vector_E99[..., 1:]
    return PairLines(fundamental_E33, (others_E98 * spread_E8[:, None]) @ others_E98.mT)


def _eigen(
    rows_EM9: torch.Tensor, weight_EM: torch.Tensor, precision_99: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues, ascending, and eigenvectors of every pair's quadratic form."""
    weighted_EM9 = rows_EM9 * weight_EM[..., None]
    values, vectors = torch.linalg.eigh(weighted_EM9.mT @ weighted_EM9 + precision_99)
    return values, vectors


def _gradient(points: PairPoints, fundamental_E33: torch.Tensor) -> torch.Tensor:
    """Return how fast source^T F target grows per grid unit, (E, M): Sampson's denominator."""
    in_source = (points.target_image_EM3 @ fundamental_E33.mT)[..., :2].norm(dim=-1)
    in_target = (points.source_image_EM3 @ fundamental_E33)[..., :2].norm(dim=-1)
    in_source, in_target = in_source * points.source_unit_EM, in_target * points.target_unit_EM
    return ((in_source**2 + in_target**2) / 2).sqrt().clamp(min=_SMALL)
