"""Adapting MetaFuse+: calibrate a rig as far as possible, and learn where labels place joints."""

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
from metafuse_ray.benchmark.settings import Calibration
from metafuse_ray.methods.interface import RigTask
from metafuse_ray.methods.plus.method import PlusMethod, PlusRig
from metafuse_ray.methods.plus.stored_rig import StoredPlusRig
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.runs.settings import AdaptConfig
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.shards.shards import ShardSet

Stored = Callable[..., StoredPlusRig]
"""Takes what every stored rig has by keyword: see `StoredPlusRig`."""
_log = logging.getLogger(__name__)


def plus_adaptation(
    settings: AdaptConfig,
    samples: SamplesConfig,
    seed: int,
    shards: ShardSet,
    cameras: tuple[str, ...],
    weights: PlusWeights,
    test: RigBatch | None,
) -> PlusAdaptation:
    """Gather what MetaFuse+ may know of a rig.

    Args:
        settings: The labels, and the calibration that is given.
        samples: Which samples it may know.
        seed: Of every draw.
        shards: Where the labelled samples and the detections are.
        cameras: The rig.
        weights: Meta-learned.
        test: Samples whose detections it may look at too (``samples.look_ahead``).

    Raises:
        NotEnoughFramesError: There are fewer labelled frames.
    """
    frames = settings.frames
    given: Calibration = "exact" if settings.calibration == "given" else "none"
    task = make_task(
        samples,
        seed,
        shards,
        cameras,
        frames,
        0,
        given,
        test if samples.look_ahead else None,
    )

    def own_samples() -> RigBatch:
        rows = labelled_rows(shards, cameras, max(frames, 1), samples, (seed, 0))
        period = unlabelled_rows(shards, cameras, rows, samples.unlabelled_frames)
        return load_rig_batch(shards, cameras, period)

    cell = Cell(cameras, frames, 0, "MetaFuse+", given)
    return PlusAdaptation(PlusMethod(weights, samples.look_ahead), task, cell, own_samples)


class PlusAdaptation:
    """A rig to be adapted, with weights that were meta-learned over rigs.

    Args:
        method: What adapts.
        task: What it may know.
        cell: The rig, the labels and the calibration given, for a caption.
        load_own: Reads the samples that it is adapted on, with their truth.
    """

    def __init__(
        self, method: PlusMethod, task: RigTask, cell: Cell, load_own: Callable[[], RigBatch]
    ) -> None:
        self._method, self._task, self.cell = method, task, cell
        self.given: Calibration | None = cell.calibration
        labelled = task.labelled
        self.labelled_clips = np.array([], int) if labelled is None else labelled.time_B2[:, 0]
        self._load_own = load_own

    @property
    def own_samples(self) -> RigBatch:
        """The samples that it was adapted on, with their truth."""
        return self._load_own()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """More facts about how it was made."""
        asked = self._task.asked
        return {
            "calibration": "given" if self.given == "exact" else "none",
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
