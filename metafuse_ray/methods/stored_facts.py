"""What is needed to use an adapted rig, whatever the method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from metafuse_ray.errors import DataError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.shapes import Grid


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredFacts:
    """What is needed to use an adapted rig, whatever the method.

    Attributes:
        rig: The cameras, in the order of the views, as they were known before.
        skeleton: Joints of the heatmaps.
        grid: Rows and columns of the heatmaps.
        crop_px: Side of the person crops of the labelled frames.
        provenance: Plain values: from which weights, data and settings it was made.
        test: Figures on test frames, plain values; empty where there were none.
    """

    rig: Rig
    skeleton: Skeleton
    grid: Grid
    crop_px: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)

    def check(self, batch: RigBatch) -> None:
        """Refuse samples that are not of this rig.

        Raises:
            DataError: They are of other cameras, in another order, or of another grid.
        """
        if batch.rig.names != self.rig.names:
            raise DataError(
                f"expected the views {', '.join(self.rig.names)}, in this order, got"
                f" {', '.join(batch.rig.names)}; load the samples of this rig",
                cameras=batch.rig.names,
            )
        self.check_heatmaps(batch.heatmaps_VBJhw)

    def check_heatmaps(self, heatmaps_VBJhw: torch.Tensor) -> None:
        """Refuse heatmaps that are not of the rig's views, joints and grid.

        Raises:
            DataError: They have another shape.
        """
        views, joints = len(self.rig), len(self.skeleton)
        shape = tuple(heatmaps_VBJhw.shape)
        if len(shape) != 5 or (shape[0], *shape[2:]) != (views, joints, *self.grid):
            raise DataError(
                f"expected heatmaps of {views} views (V, B, J, h, w) = ({views}, B, {joints},"
                f" {self.grid[0]}, {self.grid[1]}), got {shape}",
                shape=shape,
            )
