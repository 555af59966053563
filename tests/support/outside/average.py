"""A fusion method: a view's own heatmap, and the mean of what the other views have at its pixel.

It believes that all crops show the same, which they do not: a poor method, and a short one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask
from metafuse_ray.methods.row import MethodRow
from metafuse_ray.samples.joints import Joints2D, decoded_joints
from metafuse_ray.samples.rig_batch import RigBatch

OWN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class AveragedRig:
    """A rig whose views count so much themselves, and the others the rest."""

    own_share: torch.Tensor
    calibration: Rig | None

    @property
    def chosen(self) -> Mapping[str, float]:
        return {"own_share": float(self.own_share)}

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        found = decoded_joints(batch, self.heatmaps(batch))
        return found, found

    def heatmaps(self, batch: RigBatch) -> torch.Tensor:
        return blend(batch.heatmaps_VBJhw, self.own_share)

    def parts(self, batch: RigBatch, view: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        others = others_mean(batch.heatmaps_VBJhw)
        return others[view, row], self.heatmaps(batch)[view, row]

    def to_draw(self) -> tuple[AveragedRig, str]:
        return self, f"own share {float(self.own_share):.3f}"


@dataclass(frozen=True, eq=False)
class Average:
    """Takes a rig as it is."""

    own_share: torch.Tensor

    def adapt(self, task: RigTask) -> AveragedRig:
        return AveragedRig(self.own_share, task.calibration)


def others_mean(heatmaps_VBJhw: torch.Tensor) -> torch.Tensor:
    total = heatmaps_VBJhw.sum(0, keepdim=True)
    return (total - heatmaps_VBJhw) / (len(heatmaps_VBJhw) - 1)


def blend(heatmaps_VBJhw: torch.Tensor, own_share: torch.Tensor) -> torch.Tensor:
    return own_share * heatmaps_VBJhw + (1 - own_share) * others_mean(heatmaps_VBJhw)


def make(learned: None) -> Average:
    del learned
    return Average(torch.tensor(OWN_SHARE))


ROW = MethodRow(
    name="Average",
    make=make,
    colour="#336611",
    marker="H",
    labels="optional",
    calibration="never",
    drawn=True,
)
