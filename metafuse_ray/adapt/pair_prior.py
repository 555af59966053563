"""What camera pairs in general look like: a prior over their geometry, from training pairs.

In crops that are cut around the same person, the source joint is nearly a quadratic function of
the target joint, ``source = B [1, x, y, x^2, xy, y^2]``; what remains is the unknown depth. Pairs
differ in the 12 coefficients B, of which the prior keeps mean and full covariance, and in their
fundamental matrix, of which it keeps the second moment: its sign means nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch

from metafuse_ray.adapt.pair_lines import fit_lines
from metafuse_ray.adapt.pair_points import PairPoints

COEFFICIENTS = 12
_RIDGE = 1e-2
"""Regularises the fit of one training pair: far less than a frame's joints weigh."""
_FLOOR = 1e-4
"""Added to the prior's spread, which few training pairs would leave singular."""
_NOISE = 0.02
"""Standard deviation of a label in grid units; with plenty of labels it decides next to nothing."""


@dataclass(frozen=True, eq=False)
class PairTable:
    """The geometry of every ordered pair of the training cameras, float64.

    Attributes:
        names: (target, source) camera of each pair.
        coefficients_E26: B of each pair.
        fundamental_E33: Fundamental matrices in image coordinates, of norm 1.
    """

    names: tuple[tuple[str, str], ...]
    coefficients_E26: torch.Tensor
    fundamental_E33: torch.Tensor

    def without(self, cameras: Collection[str]) -> PairTable:
        """Leave out the pairs of some cameras, as for a rig that is to be new."""
        kept = [
            number
            for number, pair in enumerate(self.names)
            if not any(camera in cameras for camera in pair)
        ]
        return PairTable(
            tuple(self.names[number] for number in kept),
            self.coefficients_E26[kept],
            self.fundamental_E33[kept],
        )

    @classmethod
    def join(cls, tables: Iterable[PairTable]) -> PairTable:
        """Put the pairs of several tables into one."""
        parts = list(tables)
        return cls(
            tuple(pair for part in parts for pair in part.names),
            torch.cat([part.coefficients_E26 for part in parts]),
            torch.cat([part.fundamental_E33 for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class PairPrior:
    """Mean and spread of pair geometry, float64.

    Attributes:
        mean_12: Mean of B, row by row.
        covariance_CC: Covariance of B, (12, 12).
        fundamental_99: Second moment of the fundamental matrix, row by row.
    """

    mean_12: torch.Tensor
    covariance_CC: torch.Tensor
    fundamental_99: torch.Tensor

    @classmethod
    def of(cls, table: PairTable) -> PairPrior:
        """Fit the prior to a table of two pairs or more."""
        coefficients = table.coefficients_E26.flatten(1)
        fundamental = table.fundamental_E33.flatten(1)
        covariance = coefficients.T.cov()
        moment = fundamental.T @ fundamental / len(fundamental)
        return cls(
            coefficients.mean(0),
            covariance + _FLOOR * torch.eye(COEFFICIENTS).to(covariance),
            moment + _FLOOR / 9 * torch.eye(9).to(moment),
        )


def quadratic(points: torch.Tensor) -> torch.Tensor:
    """Return the regressors [1, x, y, x^2, xy, y^2] of points (..., 2), (..., 6)."""
    x, y = points.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1)


def fit_pairs(points: PairPoints, names: Sequence[tuple[str, str]]) -> PairTable:
    """Fit B and the fundamental matrix of every pair to its own, plentiful correspondences."""
    known_EM1 = points.known_EM[..., None]
    regressors_EM6 = quadratic(points.target_EM2) * known_EM1
    gram_E66 = regressors_EM6.mT @ regressors_EM6
    gram_E66 = gram_E66 + _RIDGE * torch.eye(6).to(gram_E66)
    coefficients_E62 = torch.linalg.solve(gram_E66, regressors_EM6.mT @ points.source_EM2)
    flat = torch.eye(9, dtype=torch.float64)
    lines = fit_lines(points, 1e-6 * flat, torch.tensor(_NOISE, dtype=torch.float64))
    return PairTable(tuple(names), coefficients_E62.mT.contiguous(), lines.fundamental_E33)
