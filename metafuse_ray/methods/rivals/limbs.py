"""Limb lengths of the people of a rig, from labelled frames alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metafuse_ray.pose.skeleton import Skeleton

_LEAST_SPREAD = 0.05
"""Least relative spread of a length: the next person is of another size."""


@dataclass(frozen=True, eq=False)
class LimbModel:
    """Trees over the joints, and the length of every edge.

    Attributes:
        limbs: (parent, child); parents come before their children, every child has one parent.
        length_L: Lengths, in the rig's unit.
        spread_L: Standard deviations.
    """

    limbs: tuple[tuple[int, int], ...]
    length_L: np.ndarray
    spread_L: np.ndarray


def limb_model(points_BJ3: np.ndarray, skeleton: Skeleton) -> LimbModel:
    """Measure the limbs of labelled samples; a limb that no sample shows is left out.

    Args:
        points_BJ3: 3D joints, NaN where unknown; triangulated from 2D labels, as a lab has them.
        skeleton: Which joints a limb joins. Of a cycle of limbs, one is left out.
    """
    lengths = {}
    for a, b in skeleton.limbs:
        values = np.linalg.norm(points_BJ3[:, a] - points_BJ3[:, b], axis=-1)
        values = values[np.isfinite(values)]
        if len(values):
            middle = float(np.median(values))
            # Of a normal distribution, the median deviation is .67 standard deviations.
            spread = 1.48 * float(np.median(np.abs(values - middle)))
            lengths[a, b] = (middle, max(spread, _LEAST_SPREAD * middle))
    limbs = _rooted(_forest(list(lengths), len(skeleton)))
    known = [lengths[pair] if pair in lengths else lengths[pair[::-1]] for pair in limbs]
    length_L, spread_L = np.array(known).reshape(-1, 2).T
    return LimbModel(tuple(limbs), length_L, spread_L)


def _forest(edges: Sequence[tuple[int, int]], joints: int) -> list[tuple[int, int]]:
    """Drop edges that close a cycle."""
    tree_of = list(range(joints))
    kept = []
    for a, b in edges:
        if tree_of[a] != tree_of[b]:
            kept.append((a, b))
            tree_of = [tree_of[a] if tree == tree_of[b] else tree for tree in tree_of]
    return kept


def _rooted(edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turn edges away from the first joint of each tree, parents first."""
    left, limbs = list(edges), []
    while left:
        reached = {left[0][0]}
        while touching := [edge for edge in left if reached & set(edge)]:
            for edge in touching:
                parent, child = edge if edge[0] in reached else edge[::-1]
                limbs.append((parent, child))
                reached.add(child)
                left.remove(edge)
    return limbs
