"""The frames by which meta-weights are judged on held-out camera pairs.

All draws come from (seed, draw, pair): every training and every trial of a sweep sees the same
frames, so they can be compared pair by pair. Test cameras are never touched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.samples.episodes import usable_rows
from metafuse_ray.seeds import generator
from metafuse_ray.shards.shards import ShardSet

_PLACES = 4
"""Runs of labelled frames that a pair's usable frames must hold: one, a gap on either side, and
as many frames to be judged on."""


def pairs_to_judge(
    shards: ShardSet, pairs: Sequence[CameraPair], held_out: HeldOutConfig
) -> list[CameraPair]:
    """Keep the pairs with enough usable frames for `draw_frames`.

    Raises:
        NotEnoughFramesError: No pair has enough.
    """
    counts = {pair: len(usable_rows(shards, pair)) for pair in pairs}
    wanted = _PLACES * held_out.labelled_frames
    kept = [pair for pair, count in counts.items() if count >= wanted]
    if not kept:
        most = max(counts.values(), default=0)
        raise NotEnoughFramesError(
            f"held_out.labelled_frames={held_out.labelled_frames} needs held-out pairs with"
            f" {wanted} training images seen by both views, and in {shards.location} the most is"
            f" {most}; set it to {max(1, most // _PLACES)}, hold out other cameras"
            " (held_out.cameras), or record more",
            frames=most,
        )
    return kept


def draw_frames(
    shards: ShardSet, pair: CameraPair, draw: int, held_out: HeldOutConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows of a pair's labelled frames and of those it is judged on.

    The labelled ones are a run of consecutive rows, as of one recording; as many rows on either
    side are left out, since neighbours in time reveal the answer.
    """
    rows = usable_rows(shards, pair)
    random = generator(seed, "held-out", draw, pair.target, pair.source)
    run = held_out.labelled_frames
    start = int(random.integers(len(rows) - run + 1))
    away = np.concatenate([rows[: max(start - run, 0)], rows[start + 2 * run :]])
    query = random.choice(away, min(held_out.query_frames, len(away)), replace=False)
    return rows[start : start + run], np.sort(query)
