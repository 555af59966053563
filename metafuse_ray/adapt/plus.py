"""MetaFuse+: calibrate the rig as far as it goes, then fuse with weights that fade with doubt.

Published MetaFuse has labels teach the weights between fixed crop pixels. What is unknown about a
new rig is its geometry, though: here labels and detections go into its calibration
(`metafuse_ray.adapt.rig_calibration`), known crops carry it to every sample, and what is
meta-learned over rigs is how far to trust whom (`metafuse_ray.adapt.plus_scalars`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from metafuse_ray.adapt.evidence import gather_evidence
from metafuse_ray.adapt.fading_fusion import FadingFusion
from metafuse_ray.adapt.joints import Joints2D, own_joints, seen_rows
from metafuse_ray.adapt.plus_scalars import PlusWeights, by_name
from metafuse_ray.adapt.rig_calibration import RigCalibration, calibrate_rig
from metafuse_ray.adapt.rig_method import RigTask
from metafuse_ray.data.rig_batch import RigBatch
from metafuse_ray.geometry.doubt import PairDoubt
from metafuse_ray.geometry.rig import Rig

_CHUNK = 32
"""Samples fused at a time."""


@dataclass(frozen=True, eq=False)
class PlusRig:
    """A calibrated rig, ready to fuse.

    Attributes:
        scalars_S: In the order of `metafuse_ray.adapt.plus_scalars.START`.
        calibration: What to fuse and triangulate with; None where nothing is known, and every
            view stands alone.
        doubt_VV: See `pair_doubt`.
        chosen: What was found, for the reader.
    """

    scalars_S: torch.Tensor
    calibration: Rig | None
    doubt_VV: np.ndarray
    chosen: Mapping[str, float] = field(default_factory=dict)

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples: for the joint detection rate, and for triangulation."""
        if self.calibration is None:
            own = own_joints(batch)
            return own, own
        joints = Joints2D.empty(batch)
        for start in range(0, len(batch), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(batch)))
            part = batch.take(rows)
            heatmaps_VBJHW = self.heatmaps(part)
            for view in batch.views:
                seen = seen_rows(part, view)
                joints.put(view, rows[seen], heatmaps_VBJHW[view, seen], batch.crop_px)
        # Fused peaks are smooth, so they are known to a fraction of a pixel.
        joints = replace(joints, argmax_VBJ2=joints.refined_VBJ2)
        return joints, joints

    def heatmaps(self, batch: RigBatch) -> torch.Tensor:
        """Return fused heatmaps (V, B, J, H, W) float32."""
        if self.calibration is None:
            return batch.heatmaps_VBJhw
        evidence = gather_evidence(batch, self.calibration)
        fusion = FadingFusion(batch.heatmaps_VBJhw, evidence, self.doubt_VV)
        with torch.no_grad():
            scalars = by_name(self.scalars_S)
            return torch.stack([fusion.fuse_view(scalars, view) for view in batch.views])


@dataclass(frozen=True)
class PlusMethod:
    """Calibrate; nothing else is adapted.

    Attributes:
        weights: Meta-learned, or set by hand.
    """

    weights: PlusWeights

    def adapt(self, task: RigTask) -> PlusRig:
        """Refine the given calibration, or estimate one; labels and detections both count."""
        found = calibrate_rig(task)
        doubt_VV = pair_doubt(found.doubt)
        return PlusRig(self.weights.scalars_S, found.rig, doubt_VV, _chosen(found, doubt_VV))


def pair_doubt(doubt: PairDoubt) -> np.ndarray:
    """Join what is wrong with a pair and what is open about it, (V, V) in cells; 0 on the diagonal.

    Infinite where nothing can be told.
    """
    return np.hypot(doubt.residual_VV, doubt.spread_VV)


def _chosen(found: RigCalibration, doubt_VV: np.ndarray) -> dict[str, float]:
    off = doubt_VV[~np.eye(len(doubt_VV), dtype=bool)]
    return {
        "calibrated": float(found.origin in ("refined", "estimated")),
        "doubt": float(np.minimum(off, 1e3).mean()),
    }
