"""An adapted rig with all that is needed to use it: cameras, joints, grid, crop."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metafuse_ray.errors import DataError
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig
from metafuse_ray.methods.metafuse.fusion import blend
from metafuse_ray.methods.stored_facts import StoredFacts
from metafuse_ray.samples.episodes import FusionBatch
from metafuse_ray.samples.joints import Joints2D
from metafuse_ray.samples.rig_batch import RigBatch


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
