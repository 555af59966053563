"""A method whose fits are counted, to show the progress of an adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metafuse_ray.methods.metafuse.fusion_methods import Fits, FusionMethod
from metafuse_ray.samples.episodes import FusionBatch
from metafuse_ray.samples.rig_batch import RigBatch


@dataclass(frozen=True)
class WatchedMethod:
    """Fits like ``method``, and advances ``fits`` at the start of each.

    Attributes:
        method: The method that fits.
        fits: Advanced once a fit; `metafuse_ray.progress.track`.
    """

    method: FusionMethod
    fits: Iterator[int]

    @property
    def settings(self) -> tuple[float, ...]:
        """Settings of the method."""
        return self.method.settings

    @property
    def self_weights(self) -> tuple[float, ...]:
        """Values of lambda of the method."""
        return self.method.self_weights

    @property
    def falls_back(self) -> bool:
        """Whether the method falls back to No-Fusion."""
        return self.method.falls_back

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Advance, and fit."""
        next(self.fits, None)
        yield from self.method.fit(batch, view, random)


def number_of_fits(method: FusionMethod, labelled: RigBatch, folds: int) -> int:
    """Return how often `adapt_rig` fits: every view once, and once a fold to choose settings."""
    chooses = len(method.settings) > 1 or len(method.self_weights) > 1
    return len(labelled.views) * (1 + (folds if chooses else 0))
