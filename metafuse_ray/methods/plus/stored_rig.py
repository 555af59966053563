"""A rig adapted by MetaFuse+, with all that is needed to use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from metafuse_ray.errors import DataError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.plus.method import PlusRig
from metafuse_ray.methods.plus.rig_calibration import Origin
from metafuse_ray.methods.plus.weights import START
from metafuse_ray.methods.stored_facts import StoredFacts
from metafuse_ray.samples.joints import Joints2D, triangulate_rig
from metafuse_ray.samples.rig_batch import RigBatch


@dataclass(frozen=True, eq=False)
class StoredPlusRig(StoredFacts, PlusRig):
    """What MetaFuse+ found out about a rig, with all that is needed to use it."""

    def joints(self, batch: RigBatch, around: Iterable[RigBatch] = ()) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples: see `PlusRig.joints`.

        Raises:
            DataError: The samples are of other cameras, in another order, or of another grid.
        """
        return super().joints(self._checked(batch), around)

    def heatmaps(self, batch: RigBatch, around: Iterable[RigBatch] = ()) -> torch.Tensor:
        """Return fused heatmaps (V, B, J, H, W) float32; labels are not used. See `joints`.

        Raises:
            DataError: The samples are of other cameras, in another order, or of another grid.
        """
        return super().heatmaps(self._checked(batch), (self._checked(part) for part in around))

    def _checked(self, batch: RigBatch) -> RigBatch:
        self.check(batch)
        return batch

    def positions(self, batch: RigBatch, threshold_px: float = 20.0) -> np.ndarray:
        """Triangulate the joints of samples robustly with the calibration that was found.

        Args:
            batch: Samples.
            threshold_px: Inlier threshold in crop pixels.

        Returns:
            (B, J, 3) in the calibration's unit, NaN where fewer than two views see the person. An
            estimated calibration has a frame and a scale of its own.

        Raises:
            DataError: There is no calibration, or the samples do not fit.
        """
        if self.calibration is None:
            raise DataError(
                f"the rig {' '.join(self.rig.names)} has no calibration to triangulate with:"
                f" {self.reason}"
            )
        joints, _ = self.joints(batch)
        return triangulate_rig(replace(batch, rig=self.calibration), joints, threshold_px)


def plus_content(stored: StoredPlusRig) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return what only MetaFuse+ stores of a rig: tensors, and plain values."""
    tensors = {
        "scalars": stored.scalars_S,
        "offsets": torch.from_numpy(np.asarray(stored.offsets_J3, dtype=np.float32)),
    }
    # JSON has no infinity: null is a pair whose doubt is unknown.
    doubt = [[value if np.isfinite(value) else None for value in row] for row in stored.doubt_VV]
    facts = {
        "scalars": list(START),
        "calibration": None if stored.calibration is None else stored.calibration.to_dict(),
        "origin": stored.origin,
        "reason": stored.reason,
        "across_time": stored.across_time,
        "doubt": doubt,
    }
    return tensors, facts


def plus_from_content(
    tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], **common: Any
) -> StoredPlusRig:
    """Undo `plus_content`.

    Args:
        tensors: Of the file.
        facts: Plain values of MetaFuse+.
        **common: The attributes that every stored rig has.

    Raises:
        ValueError: They do not fit together, or are of another release.
    """
    views, joints = len(common["rig"]), len(common["skeleton"])
    if facts["scalars"] != list(START):
        raise ValueError("its scalars are those of another release")
    doubt_VV = np.array(
        [[np.inf if value is None else value for value in row] for row in facts["doubt"]], float
    )
    if doubt_VV.shape != (views, views):
        raise ValueError(f"doubt of shape {doubt_VV.shape}, expected {(views, views)}")
    # A rig adapted with weights set by hand has one offset for all joints.
    shapes = {"scalars": [(len(START),)], "offsets": [(joints, 3), (1, 3)]}
    for name, fitting in shapes.items():
        if tuple(tensors[name].shape) not in fitting or not tensors[name].isfinite().all():
            raise ValueError(f"{name}: expected finite numbers of shape {fitting[0]}")
    if facts["origin"] not in get_args(Origin):
        raise ValueError(f"origin {facts['origin']!r}")
    calibration = None if facts["calibration"] is None else Rig.from_dict(facts["calibration"])
    if calibration is not None and len(calibration) != views:
        raise ValueError(f"calibration of {len(calibration)} cameras, expected {views}")
    return StoredPlusRig(
        scalars_S=tensors["scalars"],
        calibration=calibration,
        doubt_VV=doubt_VV,
        offsets_J3=tensors["offsets"].numpy(),
        origin=facts["origin"],
        reason=str(facts["reason"]),
        across_time=bool(facts["across_time"]),
        **common,
    )
