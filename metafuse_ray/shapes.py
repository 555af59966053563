"""The legend of the shape suffixes used in tensor names, and grid helpers.

=======  =============================================================
suffix   meaning
=======  =============================================================
B        samples of a batch: one person in one frame
N        points or samples where no batch is meant
V        views
J        joints
E        ordered view pairs
M        correspondences of a view pair
H, W     target heatmap rows and columns
h, w     source heatmap rows and columns
P        target pixels, ``H * W`` in row-major order
Q        source pixels, ``h * w`` in row-major order
=======  =============================================================

``heatmap_BJHW`` is therefore a batch of target heatmaps.
"""

from __future__ import annotations

Grid = tuple[int, int]
"""Rows and columns of a heatmap, ``(h, w)``."""
