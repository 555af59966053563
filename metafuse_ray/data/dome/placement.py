"""Where the people of a clip stand: inside the dome, and not inside each other."""

from __future__ import annotations

import numpy as np

RADIUS_CM = 100.0
"""People stay about this close to the dome's axis."""


def place_people(rng: np.random.Generator, paths_FP2: np.ndarray) -> np.ndarray:
    """Shift everyone's path over the floor so that all fit into the dome and nobody overlaps.

    Args:
        rng: Generator for the places.
        paths_FP2: Floor positions (x, z) in centimetres, in any place.

    Returns:
        (F, P, 2) paths: recentred, travel compressed smoothly to the room there is, pushed apart.
    """
    people = paths_FP2.shape[1]
    anchors = _anchors(rng, people)
    room = RADIUS_CM - np.linalg.norm(anchors, axis=1).max() if people > 1 else 0.7 * RADIUS_CM
    centred = paths_FP2 - paths_FP2.mean(0)
    distance = np.linalg.norm(centred, axis=-1, keepdims=True)
    # tanh keeps small motion as it is and bounds what would leave the dome.
    shrink = np.tanh(distance / room) / np.maximum(distance / room, 1e-6)
    return push_apart(anchors + centred * shrink, gap=65.0 if people < 5 else 50.0)


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


def _anchors(rng: np.random.Generator, people: int) -> np.ndarray:
    """Places on a ring, evenly spread with jitter; one person stands near the axis."""
    if people == 1:
        return rng.normal(0, 20, (1, 2))
    ring = rng.uniform(40, 55) if people < 5 else rng.uniform(60, 70)
    jitter = rng.uniform(-0.25, 0.25, people) / people
    angle = 2 * np.pi * (rng.uniform() + (np.arange(people) + jitter) / people)
    return ring * np.stack([np.cos(angle), np.sin(angle)], 1)
