"""Contiguous blocks of time: neighbouring frames look alike and belong on one side of a cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def time_blocks(time_N: np.ndarray, blocks: int) -> npt.NDArray[np.intp]:
    """Number the block of time that each sample is in.

    Every block gets about as many distinct times as the others. Samples of one time share a block;
    where there are fewer times than blocks, some numbers do not occur.

    Args:
        time_N: Times, one a sample and in any order: numbers (N,), or (clip, frame) as (N, 2).
        blocks: How many blocks.

    Returns:
        (N,) numbers from 0, rising with time.

    >>> time_blocks(np.array([7, 7, 8, 12]), 2)
    array([0, 0, 0, 1])
    """
    _, order = np.unique(time_N, axis=0, return_inverse=True)
    order_N = order.reshape(-1)
    return blocks * order_N // (order_N.max(initial=0) + 1)
