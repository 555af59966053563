"""Bootstrap intervals of paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metafuse_ray.seeds import generator

_RESAMPLES = 4000
_COVERAGE = 95.0


def paired_interval(differences: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % percentile interval.

    Rigs are drawn with replacement, each with all its draws: the draws of one rig share its
    cameras and are not independent.

    Args:
        differences: One sequence a rig: the differences of its draws.

    Returns:
        Mean over rigs of their means, and the interval's ends; NaN ends for one rig alone.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.

    >>> paired_interval([[1.0, 1.0], [1.0], [1.0]])
    (1.0, 1.0, 1.0)
    """
    means = np.array([np.mean(values) for values in differences])
    if len(means) < 2:
        return float(means.mean()), float("nan"), float("nan")
    random = generator(0, "bootstrap", len(means))
    resampled = means[random.integers(len(means), size=(_RESAMPLES, len(means)))].mean(1)
    tail = (100 - _COVERAGE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(means.mean()), float(low), float(high)
