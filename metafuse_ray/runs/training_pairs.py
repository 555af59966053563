"""Which camera pairs a run trains on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.samples.episodes import EpisodeSampler

_log = logging.getLogger(__name__)


def keep_trainable(
    sampler: EpisodeSampler, pairs: Sequence[CameraPair], needed: str
) -> list[CameraPair]:
    """Keep the pairs that have enough images for support and query set; warn of the others.

    Args:
        sampler: Of the run.
        pairs: To choose from.
        needed: The number of images in terms of the settings, for the warning.

    Raises:
        NotEnoughFramesError: No pair has enough.
    """
    kept = sampler.trainable(pairs)
    if len(kept) < len(pairs):
        _log.warning(
            "%d of %d camera pairs left out: fewer than %d images seen by both (%s)",
            len(pairs) - len(kept),
            len(pairs),
            2 * sampler.shots,
            needed,
        )
    return kept
