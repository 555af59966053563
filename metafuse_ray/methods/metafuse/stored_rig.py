"""An adapted rig with all that is needed to use it: cameras, joints, grid, crop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from metafuse_ray.errors import DataError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig
from metafuse_ray.methods.metafuse.fusion import blend
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.episodes import FusionBatch
from metafuse_ray.samples.joints import Joints2D
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.shapes import Grid


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredFacts:
    """What is needed to use an adapted rig of any method.

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


@dataclass(frozen=True, eq=False)
class StoredRig(StoredFacts, AdaptedRig):
    """A rig's affine fusion with all that is needed to use it."""

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples, with the lambda for 2D and with that for 3D.

        Raises:
            DataError: The samples are of other cameras, in another order, or of another grid.
        """
        self.check(batch)
        return super().joints(batch)

    def fuse(
        self,
        heatmaps_VBJhw: torch.Tensor,
        seen_VB: torch.Tensor | None = None,
        self_weight: float | None = None,
    ) -> torch.Tensor:
        """Fuse the heatmaps of all views; no label or calibration is needed.

        Args:
            heatmaps_VBJhw: Of the rig's views, in the order of ``rig.names``.
            seen_VB: Whether the view sees the person; all do where empty.
            self_weight: Lambda; the one chosen for the joint detection rate where empty.

        Returns:
            (V, B, J, H, W); zero where a view does not see the person.

        Raises:
            DataError: The heatmaps have another shape.
        """
        self.check_heatmaps(heatmaps_VBJhw)
        if seen_VB is None:
            seen_VB = torch.ones(heatmaps_VBJhw.shape[:2])
        if seen_VB.shape != heatmaps_VBJhw.shape[:2]:
            raise DataError(
                f"expected seen_VB of shape {tuple(heatmaps_VBJhw.shape[:2])}, got"
                f" {tuple(seen_VB.shape)}"
            )
        weight = self.choice.self_weight_2d if self_weight is None else self_weight
        heatmaps = heatmaps_VBJhw * seen_VB[:, :, None, None, None]
        with torch.no_grad():
            return torch.stack(
                [self._fuse_view(heatmaps, seen_VB, view, weight) for view in range(len(self.rig))]
            )

    def _fuse_view(
        self, heatmaps_VBJhw: torch.Tensor, seen_VB: torch.Tensor, view: int, self_weight: float
    ) -> torch.Tensor:
        others = [other for other in range(len(self.rig)) if other != view]
        own = heatmaps_VBJhw[view]
        batch = FusionBatch(
            target_BJHW=own,
            sources_VBJhw=heatmaps_VBJhw[others],
            seen_VB=seen_VB[others].to(own),
            label_BJ2=own.new_full((*own.shape[:2], 2), float("nan")),
            visibility_BJ=own.new_zeros(own.shape[:2]),
        )
        fused = blend(batch, self.models[view].collect(batch), self_weight)
        return fused * seen_VB[view].to(own)[:, None, None, None]
