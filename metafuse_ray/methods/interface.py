"""The one interface of all methods under comparison: adapt to a new rig, then find its joints.

    adapted = method.adapt(task)          # all that may be known about the new rig
    joints_2d, joints_3d = adapted.joints(batch)

What a method is handed holds no truth: `hide_truth` takes the rig, the labels and the 3D joints
out of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.heatmap import crop_from_heatmap
from metafuse_ray.samples.joints import Joints2D, triangulate_rig_dlt
from metafuse_ray.samples.rig_batch import RigBatch

NO_RIG = Rig(())
"""The rig of batches whose calibration is hidden: no cameras."""


@dataclass(frozen=True, eq=False)
class RigTask:
    """All that a method may know about a new rig.

    Attributes:
        labelled: N labelled person-frames (noise added where the benchmark says so); None at
            N = 0. Its rig is `NO_RIG` and its 3D joints are NaN.
        unlabelled: Detections of the labelling period, the labelled samples among them; labels
            and 3D joints are NaN, the rig is `NO_RIG`.
        calibration: The rig as given: exact, with errors, or None where none is given. Methods
            that need no calibration use it for triangulation only.
        image_sizes: (width, height) of every view's images.
        address: Address of its random draws, for `metafuse_ray.seeds.generator`.
        asked: Detections of the samples whose joints will be asked for, where they are known
            beforehand, as in a recording; with the same parts hidden as in ``unlabelled``.
    """

    labelled: RigBatch | None
    unlabelled: RigBatch
    calibration: Rig | None
    image_sizes: tuple[tuple[int, int], ...]
    address: tuple[int | str, ...]
    asked: RigBatch | None = None


class AdaptedMethod(Protocol):
    """A method adapted to one rig."""

    @property
    def calibration(self) -> Rig | None:
        """The calibration to triangulate with: given, refined or estimated; None if unknown."""
        ...

    @property
    def chosen(self) -> Mapping[str, float]:
        """What was chosen or estimated, for the reader of `results.json`; may be empty."""
        ...

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples (without truth): for the JDR, and for triangulation."""
        ...


@runtime_checkable
class SeesHeatmaps(Protocol):
    """An adapted method whose joints are the peaks of heatmaps."""

    def heatmaps(self, batch: RigBatch) -> torch.Tensor:
        """Return the heatmaps whose peaks are triangulated, (V, B, J, H, W)."""
        ...


@runtime_checkable
class AcrossTime(AdaptedMethod, Protocol):
    """An adapted method that may use the frames around: see ``samples.around_frames``."""

    @property
    def across_time(self) -> bool:
        """Whether it does."""
        ...

    def joints(self, batch: RigBatch, around: Iterable[RigBatch] = ()) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples (without truth), with the frames around them.

        The samples of ``batch`` also count as frames around each other.
        """
        ...


class ShowsFusion(Protocol):
    """An adapted rig whose fusion can be shown."""

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples: for the joint detection rate, and for triangulation."""
        ...

    def parts(self, batch: RigBatch, view: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the other views add to a view that sees a sample, and the fused heatmaps.

        (J, H, W) each.
        """
        ...


@runtime_checkable
class Drawable(Protocol):
    """An adapted method whose fusion a picture can show."""

    def to_draw(self) -> tuple[ShowsFusion, str]:
        """Return what can be drawn, and a remark on it for the caption."""
        ...


class RigMethod(Protocol):
    """Something that adapts to a rig."""

    def adapt(self, task: RigTask) -> AdaptedMethod:
        """Adapt to a rig."""
        ...


def hide_truth(batch: RigBatch, *, labels: bool) -> RigBatch:
    """Take the rig and the 3D joints out of a batch, and the 2D labels where ``labels``."""
    nowhere = np.full_like(batch.joints_world_BJ3, np.nan)
    hidden = replace(batch, rig=NO_RIG, joints_world_BJ3=nowhere)
    if not labels:
        return hidden
    return replace(
        hidden,
        label_VBJ2=torch.full_like(batch.label_VBJ2, float("nan")),
        visibility_VBJ=torch.zeros_like(batch.visibility_VBJ),
    )


def label_joints(batch: RigBatch) -> Joints2D:
    """Return the labels as joints found with full confidence, where they are visible."""
    height, width = batch.heatmaps_VBJhw.shape[-2:]
    label_px = crop_from_heatmap(batch.label_VBJ2.double().numpy(), batch.crop_px, (height, width))
    visible = (batch.visibility_VBJ & batch.seen_VB[:, :, None]).numpy()
    label_px = np.where(visible[..., None], label_px, np.nan)
    return Joints2D(label_px, label_px, visible.astype(float))


def with_label_points(batch: RigBatch, calibration: Rig) -> RigBatch:
    """Give labelled samples a rig, and the 3D joints that their 2D labels triangulate to.

    They replace the 3D truth, which a lab that labels images does not have; NaN where fewer than
    two views have the label.
    """
    calibrated = replace(batch, rig=calibration)
    points_BJ3 = triangulate_rig_dlt(calibrated, label_joints(calibrated))
    return replace(calibrated, joints_world_BJ3=points_BJ3)
