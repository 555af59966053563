"""What moves in the dome: clips of poses from any source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

SECONDS_A_FRAME = 1 / 30
"""Motion is sampled at 30 Hz before every n-th frame is kept."""


@dataclass(frozen=True)
class Clip:
    """One stretch of motion, filmed as a whole and used as a whole for training or for testing.

    Attributes:
        index: Its number; with the seed it determines everything in the clip.
        split: `TRAIN` or `TEST`.
        subjects: Who moves: no subject is in clips of both splits, where motion has subjects.
        takes: The source's own number of each person's motion.
    """

    index: int
    split: int
    subjects: tuple[str, ...]
    takes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Poses:
    """The people of a clip.

    Attributes:
        frames: (F,) frame numbers, in units of 1/30 s.
        persons: (P,) person ids.
        joints_world: (F, P, 19, 3) coco19 joints in the rig's unit, y down; NaN where missing.
        confidence: (F, P, 19).
    """

    frames: np.ndarray
    persons: np.ndarray
    joints_world: np.ndarray
    confidence: np.ndarray


class Motion(Protocol):
    """A source of clips."""

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips, training and test."""
        ...

    def poses(self, clip: Clip) -> Poses:
        """Return the poses of one clip, equal on every call."""
        ...


def held_out_count(clips: int, share: float) -> int:
    """Return how many of some clips are kept for testing: at least one, and one left to train."""
    return min(max(1, round(share * clips)), max(clips - 1, 0))
