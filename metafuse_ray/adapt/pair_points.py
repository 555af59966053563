"""Labelled joints as correspondences of every ordered camera pair of a rig.

Two frames serve. *Grid* coordinates are the normalised ones of the fusion operator: a sample's
heatmap spans [-1, 1]. *Image* coordinates are those of the whole image, centred, in units of half
its width, so that they mean the same in every frame, however the crop moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.data.rig_batch import RigBatch
from metafuse_ray.geometry.crop import invert_affine
from metafuse_ray.shapes import Grid

ImageSizes = Sequence[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class PairPoints:
    """M joints of each of E ordered pairs, float64; rows that are not known hold zeros.

    Attributes:
        pairs: (target view, source view) of each pair.
        known_EM: Whether both views have the label.
        target_EM2: Joints in the target's grid coordinates.
        source_EM2: Joints in the source's grid coordinates.
        target_image_EM3: Joints in the target's image coordinates, homogeneous.
        source_image_EM3: Likewise in the source.
        target_unit_EM: Image units of one grid unit of the target.
        source_unit_EM: Likewise of the source.
    """

    pairs: tuple[tuple[int, int], ...]
    known_EM: torch.Tensor
    target_EM2: torch.Tensor
    source_EM2: torch.Tensor
    target_image_EM3: torch.Tensor
    source_image_EM3: torch.Tensor
    target_unit_EM: torch.Tensor
    source_unit_EM: torch.Tensor

    @classmethod
    def of(cls, batch: RigBatch, image_sizes: ImageSizes) -> PairPoints:
        """Take the labels that lie inside the crops, of every ordered pair of views.

        Args:
            batch: Labelled samples.
            image_sizes: (width, height) of every view's images.
        """
        grid = batch.heatmaps_VBJhw.shape[-2], batch.heatmaps_VBJhw.shape[-1]
        label_VBJ2 = normalised(batch.label_VBJ2.double(), grid)
        known_VBJ = batch.visibility_VBJ & batch.seen_VB[:, :, None]
        known_VBJ = known_VBJ & label_VBJ2.isfinite().all(-1)
        label_VBJ2 = torch.where(known_VBJ[..., None], label_VBJ2, 0.0)
        image_VB33 = image_from_grid(batch, image_sizes)
        image_VBJ3 = homogeneous(label_VBJ2) @ image_VB33.mT
        unit_VBJ = image_VB33[:, :, 0, 0, None].expand(known_VBJ.shape)

        pairs = ordered_pairs(len(batch.views))
        target = [target for target, _ in pairs]
        source = [source for _, source in pairs]
        known, label, image, unit = (
            values.flatten(1, 2) for values in (known_VBJ, label_VBJ2, image_VBJ3, unit_VBJ)
        )
        return cls(
            pairs,
            known[target] & known[source],
            *(label[target], label[source]),
            *(image[target], image[source]),
            *(unit[target], unit[source]),
        )


def ordered_pairs(views: int) -> tuple[tuple[int, int], ...]:
    """Return (target, source) of every ordered pair, target-major."""
    every = range(views)
    return tuple((target, source) for target in every for source in every if target != source)


def normalised(px: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Turn heatmap pixels (..., 2) into grid coordinates."""
    return (2 * px + 1) / px.new_tensor([grid[1], grid[0]]) - 1


def homogeneous(points: torch.Tensor) -> torch.Tensor:
    """Append a 1 to points (..., 2)."""
    return torch.cat([points, torch.ones_like(points[..., :1])], -1)


def image_from_grid(batch: RigBatch, image_sizes: ImageSizes) -> torch.Tensor:
    """Return the (V, B, 3, 3) float64 affines from grid to image coordinates of every crop."""
    half = batch.crop_px / 2
    crop_from_grid = np.array([[half, 0, half - 0.5], [0, half, half - 0.5], [0, 0, 1]])
    matrices = []
    for view, (width, height) in enumerate(image_sizes):
        px_from_crop = np.tile(np.eye(3), (len(batch), 1, 1))
        px_from_crop[:, :2] = invert_affine(batch.crop_from_image_VB23[view])
        shift = np.array([[2, 0, 1 - width], [0, 2, 1 - height], [0, 0, width]]) / width
        matrices.append(shift @ px_from_crop @ crop_from_grid)
    return torch.from_numpy(np.stack(matrices))
