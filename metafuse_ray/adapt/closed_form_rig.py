"""A rig fused by the closed form: every view collects along its Gaussians, weighted by trust.

    fused = lambda w H^g + (1 - lambda) mean over sources of w_v (det(C)^(-kappa/2) F_v)^r,

F_v being the affine model's operator with theta from `closed_form` on the source's H_v^p. With
g = p = r = 1 and w constant this is the paper's additive fusion. A p above 1 and r near 1 / p lean
from the sum along the Gaussian towards the maximum, which the noise along a line fools less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from metafuse_ray.adapt.closed_form import PairGeometry, source_gaussians
from metafuse_ray.adapt.joints import Joints2D, seen_rows
from metafuse_ray.adapt.pair_points import ImageSizes, image_from_grid, ordered_pairs
from metafuse_ray.adapt.scalars import Scalars, confidence_weight
from metafuse_ray.data.rig_batch import RigBatch
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.models.confidence import confidence_features
from metafuse_ray.models.gaussian_warp import blob, determinant_2x2, grid_pixels, theta_of
from metafuse_ray.models.operator import fuse

_CHUNK = 16
"""Samples fused at a time: each has an affine for every target pixel."""
_FAINT = 1e-4
"""Heat below this counts as this much: a power below 1 has no derivative at 0."""
_TYPICAL_DETERMINANT = 1 / (0.03 * 0.15) ** 2
"""Of the precision at which a Gaussian's height is 1, whatever kappa."""


@dataclass(frozen=True, eq=False)
class ClosedFormRig:
    """One rig, ready to fuse.

    Attributes:
        geometry: Of all ordered pairs of the rig.
        scalars: Meta-learned.
        image_sizes: (width, height) of every view's images.
        calibration: What to triangulate with.
        chosen: What was found, for the reader.
        operator: Implementation of the fusion operator.
    """

    geometry: PairGeometry
    scalars: Scalars
    image_sizes: ImageSizes
    calibration: Rig | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)
    operator: str = "auto"

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples: for the joint detection rate, and for triangulation."""
        joints = Joints2D.empty(batch)
        with torch.no_grad():
            for view in batch.views:
                rows = seen_rows(batch, view)
                for start in range(0, len(rows), _CHUNK):
                    part = rows[start : start + _CHUNK]
                    joints.put(view, part, self.fuse_view(batch.take(part), view), batch.crop_px)
        return joints, joints

    def fuse_view(self, batch: RigBatch, view: int) -> torch.Tensor:
        """Return one view's fused heatmaps, (B, J, H, W) float32; all samples are seen by it."""
        scalars, own_BJHW = self.scalars, batch.heatmaps_VBJhw[view]
        total_BJHW = torch.zeros_like(own_BJHW)
        pairs = ordered_pairs(len(batch.views))
        image_VB33 = image_from_grid(batch, self.image_sizes)
        for pair, (target, source) in enumerate(pairs):
            if target == view:
                total_BJHW = total_BJHW + self._collect(batch, pair, target, source, image_VB33)
        sources_B = (batch.seen_VB.sum(0) - batch.seen_VB[view].long()).clamp(min=1)
        others_BJHW = total_BJHW / sources_B[:, None, None, None]
        weight_BJ = confidence_weight(scalars, "own", confidence_features(own_BJHW))
        own_BJHW = _raised(own_BJHW, scalars["log_power"]) * weight_BJ[..., None, None]
        self_weight = torch.sigmoid(scalars["self_weight"]).to(own_BJHW)
        return self_weight * own_BJHW + (1 - self_weight) * others_BJHW

    def _collect(
        self, batch: RigBatch, pair: int, target: int, source: int, image_VB33: torch.Tensor
    ) -> torch.Tensor:
        """Return what one source sends, weighted; zero for samples that it does not see."""
        scalars, heat_BJhw = self.scalars, batch.heatmaps_VBJhw[source]
        grid = heat_BJhw.shape[-2], heat_BJhw.shape[-1]
        pixels_P2 = grid_pixels(grid).to(heat_BJhw)
        found = source_gaussians(
            self.geometry, pair, scalars, pixels_P2, image_VB33[target], image_VB33[source]
        )
        theta_BP23 = theta_of(found.mean_BP2, found.precision_BP22)
        raised_BJhw = _raised(heat_BJhw, scalars["log_source_power"])
        carried_BJHW = fuse(blob(grid), theta_BP23, raised_BJhw, implementation=self.operator)
        kappa, gain = scalars["kappa"].to(heat_BJhw), scalars["log_gain"].exp().to(heat_BJhw)
        height_BP = (determinant_2x2(found.precision_BP22) / _TYPICAL_DETERMINANT) ** (kappa / 2)
        # Per pixel of a 32 x 32 grid, so that another grid weighs the same.
        height_BP = height_BP * (102.4 / math.prod(grid))
        weight_BJ = confidence_weight(scalars, "source", confidence_features(heat_BJhw))
        weight_BJ = weight_BJ * gain * batch.seen_VB[source][:, None]
        height_B1HW = height_BP.unflatten(-1, grid)[:, None]
        pooled_BJHW = _raised(carried_BJHW * height_B1HW, scalars["log_source_root"])
        return pooled_BJHW * weight_BJ[..., None, None]


def _raised(heatmaps: torch.Tensor, log_power: torch.Tensor) -> torch.Tensor:
    return heatmaps.clamp(min=_FAINT) ** log_power.exp().to(heatmaps)
