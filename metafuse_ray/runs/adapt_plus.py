"""Adapting MetaFuse+: calibrate a rig as far as it goes, and learn what its labels call a joint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from metafuse_ray.benchmark.cells import Cell
from metafuse_ray.benchmark.rig_task import make_task
from metafuse_ray.benchmark.rigs import labelled_rows, unlabelled_rows
from metafuse_ray.config.schema import Calibration, RunConfig
from metafuse_ray.methods.plus.method import PlusMethod, PlusRig
from metafuse_ray.methods.plus.stored_rig import StoredPlusRig
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.shards.shards import ShardSet

Stored = Callable[..., StoredPlusRig]
"""Takes what every stored rig has by keyword: see `StoredPlusRig`."""
_log = logging.getLogger(__name__)


class PlusAdaptation:
    """A rig to be adapted, with weights that were meta-learned over rigs.

    Args:
        config: The run.
        shards: Where the labelled samples and the detections are.
        cameras: The rig.
        weights: Meta-learned.
        test: Samples whose detections it may look at too (``evaluate.look_ahead``).

    Raises:
        NotEnoughFramesError: There are fewer labelled frames.
    """

    def __init__(
        self,
        config: RunConfig,
        shards: ShardSet,
        cameras: tuple[str, ...],
        weights: PlusWeights,
        test: RigBatch | None,
    ) -> None:
        replace: Any = dataclasses.replace  # pyright knows no fields of a pydantic dataclass
        # A lab's labels are what they are: noise is for benchmarks.
        settings = replace(config.evaluate, label_noise_px=0.0)
        frames = config.adapt.frames
        self._known = config.adapt.calibration
        self.given: Calibration = "exact" if self._known == "given" else "none"
        self.cell = Cell(cameras, frames, 0, "MetaFuse+", self.given)
        self._method = PlusMethod(weights, config.evaluate.look_ahead)
        self._task = make_task(
            replace(config, evaluate=settings),
            shards,
            cameras,
            frames,
            0,
            self.given,
            test if config.evaluate.look_ahead else None,
        )
        labelled = self._task.labelled
        self.labelled_clips = np.array([], int) if labelled is None else labelled.time_B2[:, 0]
        self._shards, self._settings, self._seed = shards, settings, config.seed

    @property
    def own_samples(self) -> RigBatch:
        """The samples that it was adapted on, with their truth."""
        shards, cameras, settings = self._shards, self.cell.rig, self._settings
        frames = max(self.cell.labelled_frames, 1)
        rows = labelled_rows(shards, cameras, frames, settings, (self._seed, 0))
        period = unlabelled_rows(shards, cameras, rows, settings.unlabelled_frames)
        return load_rig_batch(shards, cameras, period)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What else is to be known of how it was made."""
        asked = self._task.asked
        return {
            "calibration": self._known,
            "unlabelled_frames": len(self._task.unlabelled),
            "looked_ahead_frames": 0 if asked is None else len(asked),
        }

    def adapt(self) -> tuple[PlusRig, Stored]:
        """Calibrate, and settle the offsets.

        Returns:
            The adapted rig, and what makes it one that can be stored.
        """
        _log.info(
            "calibrating %s on the detections of %d person-frames and the labels of %d",
            " ".join(self.cell.rig),
            sum(len(batch) for batch in (self._task.unlabelled, self._task.asked) if batch),
            self.cell.labelled_frames,
        )
        adapted = self._method.adapt(self._task)
        own = {one.name: getattr(adapted, one.name) for one in dataclasses.fields(adapted)}
        return adapted, partial(StoredPlusRig, **own)
