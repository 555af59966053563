"""The fusion operator: a base map warped for every target pixel, times the source heatmaps.

    F[b, j, i] = sum over source pixels y of W[i, y] heatmaps[b, j, y]
    W[i, y]    = omega sampled at theta_i [x_y, y_y, 1]

Nearly all of the time and memory of meta-training is spent here. ``fuse`` is the entry point;
all implementations behind it compute the same function.
"""

from __future__ import annotations

from metafuse_ray.methods.metafuse.operator.dispatch import fuse, implementations
from metafuse_ray.methods.metafuse.operator.point import FusionPoint

__all__ = ["FusionPoint", "fuse", "implementations"]
