"""Draw the rigs, labelled frames and test frames of an evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from metafuse_ray.errors import ConfigError, NotEnoughFramesError
from metafuse_ray.samples.rig_batch import rig_rows, thinned
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.seeds import generator
from metafuse_ray.shards.blocks import TEST, TRAIN
from metafuse_ray.shards.shards import ShardSet


def rig_order(
    cameras: Sequence[str], views: int, rigs: int, seed: int
) -> Iterator[tuple[str, ...]]:
    """Yield every rig of the held-out cameras once, in an order drawn with the seed.

    Args:
        cameras: Names to draw from.
        views: Cameras of a rig.
        rigs: How many are wanted; the others follow, to fall back on.
        seed: The run's seed.

    Raises:
        ConfigError: There are fewer cameras than views.
    """
    every = list(itertools.combinations(sorted(cameras), views))
    if not every:
        raise ConfigError(
            f"{len(cameras)} test cameras are too few for a rig of {views} views; lower"
            " evaluate.views, or keep more cameras for testing (data.test_camera_share when making"
            " the shards)"
        )
    random = generator(seed, "rigs", views)
    drawn = random.choice(len(every), min(rigs, len(every)), replace=False)
    spare = random.permutation(np.setdiff1d(np.arange(len(every)), drawn))
    yield from (every[number] for number in [*drawn, *spare])


def draw_rigs(cameras: Sequence[str], views: int, rigs: int, seed: int) -> list[tuple[str, ...]]:
    """Return the first rigs of `rig_order`; see there for the arguments and the error."""
    return list(itertools.islice(rig_order(cameras, views, rigs, seed), rigs))


def count_labelled(shards: ShardSet, rig: Sequence[str]) -> int:
    """Return how many training rows two or more views of a rig see."""
    return len(rig_rows(shards, rig, shards.rows(TRAIN)))


def has_judged_rows(shards: ShardSet, rig: Sequence[str], whole: bool) -> bool:
    """Whether a rig has a test sample; see `judged_rows`."""
    rows = np.arange(shards.manifest.rows) if whole else shards.rows(TEST)
    return len(rig_rows(shards, rig, rows)) > 0


def labelled_rows(
    shards: ShardSet,
    rig: Sequence[str],
    frames: int,
    settings: SamplesConfig,
    address: tuple[int, int],
) -> np.ndarray:
    """Draw the labelled samples of a rig: training rows that two or more of its views see.

    They come from a few recordings (clips), as a lab labels them. Draws of more samples contain
    those of fewer, as when a person goes on labelling.

    Args:
        shards: Where the rows are.
        rig: Names of its cameras.
        frames: N, labelled person-frames.
        settings: From how many clips, and in which order.
        address: (seed, draw).

    Raises:
        NotEnoughFramesError: There are fewer such rows.
    """
    rows = rig_rows(shards, rig, shards.rows(TRAIN))
    if len(rows) < frames:
        raise NotEnoughFramesError(
            f"rig {' '.join(rig)} has {len(rows)} training samples seen by two or more views, but"
            f" {frames} labelled frames are asked for; lower evaluate.labelled_frames or"
            " adapt.frames, or record more",
            rig=tuple(rig),
            frames=len(rows),
        )
    seed, draw = address
    random = generator(seed, "labels", *sorted(rig), draw)
    clip_of = shards.samples.clip[rows]
    clips = random.permutation(np.unique(clip_of))
    groups = [np.isin(clip_of, clips[: settings.label_clips])]
    groups += [clip_of == clip for clip in clips[settings.label_clips :]]
    if settings.label_order == "scattered":
        parts = [random.permutation(rows[group]) for group in groups]
    else:
        # Cyclic: a draw that starts late in a clip continues at its beginning.
        parts = [np.roll(rows[group], -random.integers(group.sum())) for group in groups]
    return np.sort(np.concatenate(parts)[:frames])


def unlabelled_rows(
    shards: ShardSet, rig: Sequence[str], labelled: np.ndarray, most: int
) -> np.ndarray:
    """Return training rows of the labelled clips whose detections a method may use.

    Args:
        shards: Where the rows are.
        rig: Names of its cameras.
        labelled: Rows of the labelled samples; at N = 0, of the one that would be the first.
        most: Upper limit, by even thinning in time; labelled samples always stay.
    """
    rows = rig_rows(shards, rig, shards.rows(TRAIN))
    rows = rows[np.isin(shards.samples.clip[rows], shards.samples.clip[labelled])]
    return np.union1d(thinned(rows, most), labelled)


def judged_rows(shards: ShardSet, rig: Sequence[str], most: int, whole: bool) -> np.ndarray:
    """Return the test samples of a rig, evenly thinned in time to at most ``most``.

    Args:
        shards: Where the rows are.
        rig: Names of its cameras.
        most: Upper limit.
        whole: Take all rows of the shard set, not only its test split.

    Raises:
        NotEnoughFramesError: No sample is seen by two or more views.
    """
    rows = np.arange(shards.manifest.rows) if whole else shards.rows(TEST)
    rows = rig_rows(shards, rig, rows)
    if len(rows) == 0:
        raise NotEnoughFramesError(
            f"no test sample in {shards.location} is seen by two or more views of the rig"
            f" {' '.join(rig)}; choose other cameras",
            rig=tuple(rig),
        )
    return thinned(rows, most)


def rows_around(
    shards: ShardSet, rig: Sequence[str], rows: np.ndarray, most: int, whole: bool
) -> np.ndarray:
    """Return rows and those of the same people in the frames before and after.

    Args:
        shards: Where the rows are.
        rig: Names of its cameras.
        rows: Of the samples, in ascending order.
        most: Frames to each side, of those that the shards have.
        whole: See `judged_rows`.
    """
    every = np.arange(shards.manifest.rows) if whole else shards.rows(TEST)
    samples = shards.samples
    person_of = np.stack([samples.clip[every], samples.person[every]], 1)
    _, track_of = np.unique(person_of, axis=0, return_inverse=True)
    order = np.lexsort((samples.frame[every], track_of.reshape(-1)))
    track = track_of.reshape(-1)[order]
    places = np.flatnonzero(np.isin(every[order], rows))
    near = (places[:, None] + np.arange(-most, most + 1)).clip(0, len(order) - 1)
    near = near[track[near] == track[places][:, None]]
    return np.union1d(rows, rig_rows(shards, rig, np.unique(every[order][near])))
