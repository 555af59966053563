"""Where the people of a clip stand: inside the dome, and not inside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RADIUS_CM = 100.0
"""People stay about this close to the dome's axis."""


def place_people(
    rng: np.random.Generator,
    paths_FP2: np.ndarray,
    together: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Shift everyone's path over the floor so that all fit into the dome and nobody overlaps.

    Args:
        rng: Generator for the places.
        paths_FP2: Floor positions (x, z) in centimetres, in any place.
        together: Groups of people who keep their places relative to each other, as dancing
            couples do; everyone alone by default.

    Returns:
        (F, P, 2) paths: recentred, travel compressed smoothly to the room there is, pushed apart.
    """
    together = together or [[person] for person in range(paths_FP2.shape[1])]
    group_FG2 = np.stack([paths_FP2[:, list(group)].mean(1) for group in together], 1)
    shift_FG2 = _place_groups(rng, group_FG2) - group_FG2
    placed = paths_FP2.copy()
    for number, group in enumerate(together):
        placed[:, list(group)] += shift_FG2[:, number, None]
    return placed


def push_apart(paths_FP2: np.ndarray, gap: float) -> np.ndarray:
    """Move people who come closer than ``gap`` apart, along the line between them.

    Args:
        paths_FP2: Floor positions.
        gap: Least distance, in the positions' unit.
    """
    paths = paths_FP2.copy()
    people = paths.shape[1]
    for _ in range(12 if people > 2 else 1):
        for first in range(people):
            for second in range(first + 1, people):
                apart = paths[:, second] - paths[:, first]
                distance = np.linalg.norm(apart, axis=-1, keepdims=True)
                push = np.clip(gap - distance, 0, None) / 2 * apart / np.maximum(distance, 1e-6)
                paths[:, first] -= push
                paths[:, second] += push
    return paths


def _place_groups(rng: np.random.Generator, paths_FG2: np.ndarray) -> np.ndarray:
    groups = paths_FG2.shape[1]
    anchors = _anchors(rng, groups)
    room = RADIUS_CM - np.linalg.norm(anchors, axis=1).max() if groups > 1 else 0.7 * RADIUS_CM
    centred = paths_FG2 - paths_FG2.mean(0)
    distance = np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True) / room, 1e-6)
    # tanh keeps small motion as it is and bounds what would leave the dome.
    return push_apart(anchors + centred * np.tanh(distance) / distance, 65 if groups < 5 else 50)


def _anchors(rng: np.random.Generator, groups: int) -> np.ndarray:
    """Places on a ring, evenly spread with jitter; one alone stands near the axis."""
    if groups == 1:
        return rng.normal(0, 20, (1, 2))
    ring = rng.uniform(40, 55) if groups < 5 else rng.uniform(60, 70)
    jitter = rng.uniform(-0.25, 0.25, groups) / groups
    angle = 2 * np.pi * (rng.uniform() + (np.arange(groups) + jitter) / groups)
    return ring * np.stack([np.cos(angle), np.sin(angle)], 1)
