"""Splits of a recording's time: which block is for testing, and which frames are never used."""

from __future__ import annotations

import numpy as np

from metafuse_ray.errors import ConfigError
from metafuse_ray.shards.blocks import TEST, TRAIN, SampleBlock

UNUSED = 255
"""Split of samples between labelled and test frames."""


def fold_split(samples: SampleBlock, fold: int, folds: int, margin: int) -> np.ndarray:
    """Return the split of every sample in one fold.

    In clips that are cut in time, the block for testing keeps its length and moves: it is the last
    in fold 0, as in the shards, and the first in the last fold. Clips that are all training or all
    testing stay as they are.

    Args:
        samples: The samples, with the shards' own split.
        fold: Number of the fold.
        folds: How many there are.
        margin: Frames on either side of the test block that are not used.

    Returns:
        (B,) of `TRAIN`, `TEST` and `UNUSED`.

    Raises:
        ConfigError: There is no such fold, or no clip is cut in time.
    """
    if fold >= folds:
        raise ConfigError(
            f"data.fold: there is no fold {fold} of {folds}; count from 0 to data.folds - 1",
            key="data.fold",
        )
    split = samples.split.copy()
    cut = [clip for clip in np.unique(samples.clip) if _is_cut(samples.split[samples.clip == clip])]
    if folds > 1 and not cut:
        raise ConfigError(
            "data.folds: no clip of the shards holds both training and test frames, so there"
            " is no block of time to move; set it to 1",
            key="data.folds",
        )
    for clip in cut:
        rows = np.flatnonzero(samples.clip == clip)
        split[rows] = _moved(samples.frame[rows], samples.split[rows], fold, folds, margin)
    return split


def _is_cut(split: np.ndarray) -> bool:
    return bool((split == TRAIN).any() and (split == TEST).any())


def _moved(frame: np.ndarray, split: np.ndarray, fold: int, folds: int, margin: int) -> np.ndarray:
    frames, number = np.unique(frame, return_inverse=True)
    if fold == 0:
        is_test = np.isin(np.arange(len(frames)), number[split == TEST])
    else:
        length = len(np.unique(frame[split == TEST]))
        start = round((len(frames) - length) * (1 - fold / (folds - 1)))
        is_test = np.zeros(len(frames), bool)
        is_test[start : start + length] = True
    # A frame is beside the block where a test frame lies within the margin.
    near = np.convolve(is_test, np.ones(2 * margin + 1), mode="full")[margin : margin + len(frames)]
    by_frame = np.where(is_test, TEST, np.where(near > 0.5, UNUSED, TRAIN))
    return by_frame[number].astype(split.dtype)
