"""What a method may know about a new rig: noisy labels, a wrong calibration, no truth."""

from __future__ import annotations

import numpy as np

from metafuse_ray.benchmark.rigs import labelled_rows, unlabelled_rows
from metafuse_ray.benchmark.settings import Calibration
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, hide_truth
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.seeds import generator
from metafuse_ray.shards.shards import ShardSet


def make_task(
    samples: SamplesConfig,
    seed: int,
    shards: ShardSet,
    rig: tuple[str, ...],
    frames: int,
    draw: int,
    calibration: Calibration,
    asked: RigBatch | None = None,
    *,
    label_noise_px: float = 0.0,
) -> RigTask:
    """Draw the labelled samples of a rig and hide what a method must not know.

    Args:
        samples: Which samples are labelled.
        seed: Of every draw.
        shards: Where the samples are, in the fold that is evaluated.
        rig: Names of the cameras.
        frames: N, labelled person-frames.
        draw: Which draw of the labels, of their noise and of the calibration's errors.
        calibration: What is given.
        asked: The test samples, of which methods may look at the detections.
        label_noise_px: Noise of the labels: see `SamplesConfig`.

    Raises:
        NotEnoughFramesError: See `metafuse_ray.benchmark.rigs.labelled_rows`.
    """
    rows = labelled_rows(shards, rig, max(frames, 1), samples, (seed, draw))
    seen = unlabelled_rows(shards, rig, rows, samples.unlabelled_frames)
    period = load_rig_batch(shards, rig, seen)
    labelled = None
    if frames:
        exact = hide_truth(period.take(np.searchsorted(seen, rows)), labels=False)
        address = (seed, *sorted(rig), draw)
        labelled = _with_noise(exact, label_noise_px, address, rows)
    true_rig = shards.rig.subset(rig)
    return RigTask(
        labelled=labelled,
        unlabelled=hide_truth(period, labels=True),
        calibration=given_calibration(seed, true_rig, draw, calibration),
        image_sizes=true_rig.image_sizes,
        address=(*rig, frames, draw),
        asked=None if asked is None else hide_truth(asked, labels=True),
    )


def given_calibration(seed: int, true: Rig, draw: int, calibration: Calibration) -> Rig | None:
    """Return the calibration that a method is given of a rig; None where none is."""
    if calibration == "none":
        return None
    if calibration == "exact":
        return true
    random = generator(seed, "calibration", *sorted(true.names), draw)
    return turn_cameras(true, calibration, random)


def _with_noise(
    batch: RigBatch, noise_px: float, address: tuple[int | str, ...], rows: np.ndarray
) -> RigBatch:
    """Add noise to the labels: the same to a sample at every N, since a sample is labelled once."""
    if noise_px == 0:
        return batch
    seed, *place = address
    shape = batch.label_VBJ2[:, 0].shape
    noise = [
        generator(int(seed), "label noise", *place, int(row)).normal(size=shape) for row in rows
    ]
    return batch.with_label_noise(noise_px, np.stack(noise, 1))
