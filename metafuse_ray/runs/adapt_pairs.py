"""Adapting MetaFuse: fine-tune the affine transforms of every ordered pair of a rig."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from metafuse_ray.benchmark.cells import Cell
from metafuse_ray.benchmark.rigs import labelled_rows
from metafuse_ray.errors import ConfigError, NotEnoughFramesError
from metafuse_ray.methods.interface import with_label_points
from metafuse_ray.methods.metafuse.adapt_rig import Choosing, adapt_rig, held_out_blocks
from metafuse_ray.methods.metafuse.fused_rig import FusedRig
from metafuse_ray.methods.metafuse.fusion_methods import AffineMethod
from metafuse_ray.methods.metafuse.stored_rig import StoredRig
from metafuse_ray.methods.metafuse.watched import WatchedMethod, number_of_fits
from metafuse_ray.progress import track
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.shards.shards import ShardSet

Stored = Callable[..., StoredRig]
"""Takes what every stored rig has by keyword: see `StoredRig`."""
_log = logging.getLogger(__name__)


def labelled_batch(
    frames: int, samples: SamplesConfig, seed: int, shards: ShardSet, cameras: Sequence[str]
) -> RigBatch:
    """Draw a rig's labelled samples.

    Args:
        frames: Number of samples: ``adapt.frames``.
        samples: Which clips they come from, and in which order.
        seed: Of the draw.
        shards: Where they are.
        cameras: The rig.

    Raises:
        ConfigError: None is asked for.
        NotEnoughFramesError: There are fewer.
    """
    if frames == 0:
        raise ConfigError(
            "adapt.frames=0: MetaFuse cannot be adapted without labels; label some, or take"
            " adapt.method=MetaFuse+, which can do without",
            key="adapt.frames",
        )
    rows = labelled_rows(shards, cameras, frames, samples, (seed, 0))
    return load_rig_batch(shards, cameras, rows)


class PairAdaptation:
    """A rig to be adapted, from weights that were meta-learned over camera pairs.

    Args:
        method: What is fitted.
        choosing: How its steps and lambda are chosen.
        seed: Of every draw.
        labelled: The rig's labelled samples.

    Raises:
        NotEnoughFramesError: A camera sees nobody in the labelled frames.
    """

    given = None
    """The calibration that the method is given: none."""

    def __init__(
        self, method: AffineMethod, choosing: Choosing, seed: int, labelled: RigBatch
    ) -> None:
        self._method, self._choosing, self._seed = method, choosing, seed
        self.own_samples = with_label_points(labelled, labelled.rig)
        self.cell = Cell(labelled.rig.names, len(labelled), 0, "MetaFuse")
        self.labelled_clips = labelled.time_B2[:, 0]
        self._check_views()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """More facts about how it was made."""
        return {"folds": self._choosing.choose.folds}

    def adapt(self) -> tuple[FusedRig, Stored]:
        """Fine-tune, choosing the steps and lambda on held-out blocks of time.

        Returns:
            The adapted rig, and what makes it one that can be stored.
        """
        labelled, folds = self.own_samples, self._choosing.choose.folds
        names = " ".join(labelled.rig.names)
        _log.info("adapting %s on %d labelled person-frames", names, len(labelled))
        total = number_of_fits(self._method, labelled, folds)
        address = (*self.cell.rig, len(labelled), 0)
        with closing(track(range(total), total, "adapt (fits of a view)")) as fits:
            watched = WatchedMethod(self._method, fits)
            adapted = adapt_rig(watched, labelled, self._choosing, self._seed, address)
            next(fits, None)
        stored = partial(StoredRig, models=adapted.models, choice=adapted.choice)
        return FusedRig(adapted, labelled.rig), stored

    def _check_views(self) -> None:
        labelled, folds = self.own_samples, self._choosing.choose.folds
        blocks = [np.arange(0)]
        if number_of_fits(self._method, labelled, folds) > len(self.cell.rig):
            blocks = held_out_blocks(labelled.time_B2, folds)
        for name, seen_B in zip(self.cell.rig, labelled.seen_VB.numpy(), strict=True):
            left = min(int(np.delete(seen_B, block).sum()) for block in blocks)
            if left == 0:
                raise NotEnoughFramesError(
                    f"camera {name} sees nobody in {'some' if seen_B.any() else 'any'} of the"
                    f" {len(labelled)} labelled frames that it would be fitted to; raise"
                    " adapt.frames or samples.label_clips, or leave it out of adapt.cameras",
                    camera=name,
                    frames=int(seen_B.sum()),
                )
