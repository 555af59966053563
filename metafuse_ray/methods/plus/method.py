"""MetaFuse+: calibrate the rig as far as possible, then fuse with weights that fade with doubt.

In published MetaFuse, labels teach the weights between fixed crop pixels. But what is unknown about
a new rig is its geometry. So here labels and detections go into its calibration
(`rig_calibration.py`), the known crops apply it to every sample, and the frames around are used too
(`across_time.py`). Meta-learned over rigs are the offsets of labels from detections
(`joint_offsets.py`) and, if asked for, the exponents of the weights (`weights.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from metafuse_ray.calibration.doubt import PairDoubt
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, with_label_points
from metafuse_ray.methods.plus.across_time import Moments, Steadied
from metafuse_ray.methods.plus.crop_cameras import PX64, ideal_from_px64, px64_from_world
from metafuse_ray.methods.plus.evidence import INLIER, Evidence, gather_evidence
from metafuse_ray.methods.plus.fading_fusion import FadingFusion, Pixels
from metafuse_ray.methods.plus.joint_offsets import BodyFrames, settle_offsets
from metafuse_ray.methods.plus.rig_calibration import Origin, calibrate_rig
from metafuse_ray.methods.plus.weights import PlusWeights, Scalars, by_name
from metafuse_ray.pose.heatmap import translate
from metafuse_ray.samples.joints import Joints2D, decoded_joints, own_joints, triangulate_rig
from metafuse_ray.samples.rig_batch import RigBatch

_CHUNK = 32
"""Samples fused at a time."""
_LEFT_OUT = -50.0
"""Bias of a term that is left out."""
_AROUND_SIGMA = 1.5
"""px64: spread of the term of the frames around; its height is their weight."""
_FAINTEST = 0.02
"""Weight below which they are left out."""
_FARTHEST = 8.0
"""Most px64 that an offset moves a joint along each axis: near the camera it is less certain."""


@dataclass(frozen=True, eq=False)
class PlusRig:
    """A calibrated rig, ready to fuse.

    Attributes:
        scalars_S: In the order of `metafuse_ray.methods.plus.weights.START`.
        calibration: What to fuse and triangulate with; None where it is unknown and every view
            is used alone.
        doubt_VV: See `pair_doubt`.
        offsets_J3: From the joints that the views agree on to the labelled ones: see
            `metafuse_ray.methods.plus.joint_offsets`.
        origin: Where the calibration comes from: see `RigCalibration`.
        reason: Why it could not be refined or estimated; empty where it could.
        across_time: Whether the frames before and after are used.
    """

    scalars_S: torch.Tensor
    calibration: Rig | None
    doubt_VV: np.ndarray
    offsets_J3: np.ndarray
    origin: Origin = "given"
    reason: str = ""
    across_time: bool = True

    @property
    def chosen(self) -> Mapping[str, float]:
        """Whether the rig is calibrated, mean doubt (px64) and mean length of the offsets."""
        off_diagonal = self.doubt_VV[~np.eye(len(self.doubt_VV), dtype=bool)]
        return {
            "calibrated": float(self.origin in ("refined", "estimated")),
            "doubt": float(np.minimum(off_diagonal, 1e3).mean()),
            "offset": float(np.linalg.norm(self.offsets_J3, axis=1).mean()),
        }

    def joints(self, batch: RigBatch, around: Iterable[RigBatch] = ()) -> tuple[Joints2D, Joints2D]:
        """Find the joints of samples: for the joint detection rate, and for triangulation.

        Args:
            batch: The samples; they help each other (`metafuse_ray.methods.plus.across_time`).
            around: Others that help them, of the same rig; any number at a time.
        """
        if self.calibration is None:
            own = own_joints(batch)
            return own, own
        joints = _decoded(batch, self.heatmaps(batch, around))
        return joints, joints

    def heatmaps(self, batch: RigBatch, around: Iterable[RigBatch] = ()) -> torch.Tensor:
        """Return fused heatmaps (V, B, J, H, W) float32; see `joints`."""
        if self.calibration is None:
            return batch.heatmaps_VBJhw
        fused_VBJHW = self._by_itself(batch, self.calibration)
        if self.across_time:
            moments = _moments(batch, self.calibration, fused_VBJHW)
            others = [
                _moments(part, self.calibration, self._by_itself(part, self.calibration))
                for part in around
            ]
            _add_frames_around(batch, self.calibration, moments.steadied(others), fused_VBJHW)
        return fused_VBJHW

    def parts(self, batch: RigBatch, view: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the other views' evidence and the fused heatmaps of a view, (J, H, W) each.

        The frames around are used in the second only.
        """
        own_JHW = batch.heatmaps_VBJhw[view, row]
        if self.calibration is None:
            return torch.zeros_like(own_JHW), own_JHW
        others = {**by_name(self.scalars_S), "own_bias": torch.tensor(_LEFT_OUT)}
        fused = self._of_frame(batch.take(np.array([row])), self.calibration, others)
        return fused[view, 0], self.heatmaps(batch)[view, row]

    def calibration_line(self) -> str:
        """Describe where a rig's calibration comes from, and its doubt."""
        origin = {
            "given": "calibration as given",
            "refined": "calibration refined from the one given",
            "estimated": "calibration estimated (none was given)",
            "none": "no calibration: every view is used alone",
        }[self.origin]
        if self.calibration is None:
            return origin
        return f"{origin}, with a doubt of {self.chosen['doubt']:.1f} px of a 64 x 64 heatmap"

    def to_draw(self) -> tuple[PlusRig, str]:
        """Return what can be drawn, and a remark on it; see `Drawable`."""
        return self, self.calibration_line()

    def _by_itself(self, batch: RigBatch, calibration: Rig) -> torch.Tensor:
        scalars = by_name(self.scalars_S)
        fused_VBJHW = torch.empty_like(batch.heatmaps_VBJhw)
        for rows in _chunks(batch):
            part = batch.take(rows)
            fused_VBJHW[:, rows] = self._of_frame(part, calibration, scalars)
        return fused_VBJHW

    def _of_frame(self, batch: RigBatch, calibration: Rig, scalars: Scalars) -> torch.Tensor:
        """Fuse every sample by itself."""
        evidence = gather_evidence(batch, calibration)
        fusion = FadingFusion(batch.heatmaps_VBJhw, evidence, self.doubt_VV)
        with torch.no_grad():
            fused = [fusion.fuse_view(scalars, view) for view in batch.views]
        shift_VBJ2 = label_shift(batch, evidence, calibration, self.offsets_J3)
        if not shift_VBJ2.any():
            return torch.stack(fused)
        pairs = zip(fused, shift_VBJ2, strict=True)
        return torch.stack([translate(heatmaps, shift_BJ2) for heatmaps, shift_BJ2 in pairs])


@dataclass(frozen=True)
class PlusMethod:
    """Calibrate, and learn where the rig's labels place each joint.

    Attributes:
        weights: Meta-learned, or set by hand.
        across_time: See `PlusRig`.
    """

    weights: PlusWeights
    across_time: bool = True

    def adapt(self, task: RigTask) -> PlusRig:
        """Refine the given calibration, or estimate one; labels and detections both count."""
        found = calibrate_rig(task)
        doubt_VV = pair_doubt(found.doubt)
        measured_BJ3 = None
        if found.rig is not None and task.labelled is not None:
            evidence = gather_evidence(task.labelled, found.rig)
            measured_BJ3 = shown_offsets(task.labelled, evidence, found.rig)
        strength = by_name(self.weights.scalars_S)["log_strength"].exp()
        offsets_J3 = settle_offsets(self.weights.offsets_J3, strength, measured_BJ3).numpy()
        return PlusRig(
            scalars_S=self.weights.scalars_S,
            calibration=found.rig,
            doubt_VV=doubt_VV,
            offsets_J3=offsets_J3,
            origin=found.origin,
            reason=found.reason,
            across_time=self.across_time,
        )


def pair_doubt(doubt: PairDoubt) -> np.ndarray:
    """Combine a pair's residual and spread, (V, V) in px64; 0 on the diagonal.

    Infinite where unknown.
    """
    return np.hypot(doubt.residual_VV, doubt.spread_VV)


def shown_offsets(labelled: RigBatch, evidence: Evidence, rig: Rig) -> np.ndarray | None:
    """Return the offsets (B, J, 3) that labelled samples show; None without a skeleton.

    Labels are triangulated as the detections are, so the calibration may have its own world.
    """
    if labelled.skeleton is None:
        return None
    frames = BodyFrames.of(evidence.world_BJ3, labelled.skeleton)
    labels_BJ3 = with_label_points(labelled, rig).joints_world_BJ3
    return frames.measure(evidence.world_BJ3, labels_BJ3)


def label_shift(
    batch: RigBatch, evidence: Evidence, rig: Rig, offsets_J3: np.ndarray
) -> torch.Tensor:
    """Return how far offsets move the joints in every view, (V, B, J, 2) heatmap pixels."""
    shape = batch.heatmaps_VBJhw.shape
    if batch.skeleton is None or not offsets_J3.any():
        return torch.zeros(*shape[:3], 2)
    offset_BJ3 = BodyFrames.of(evidence.world_BJ3, batch.skeleton).place(offsets_J3)
    before_VBJ2, known_VBJ = px64_from_world(evidence.world_BJ3, rig, evidence.ideal_VB33)
    after_VBJ2, still_VBJ = px64_from_world(
        evidence.world_BJ3 + offset_BJ3, rig, evidence.ideal_VB33
    )
    known_VBJ1 = (known_VBJ & still_VBJ)[..., None]
    with np.errstate(invalid="ignore"):
        shift_VBJ2 = np.where(known_VBJ1, after_VBJ2 - before_VBJ2, 0.0)
    px_per_px64 = np.array([shape[-1], shape[-2]]) / PX64
    return torch.tensor(shift_VBJ2.clip(-_FARTHEST, _FARTHEST) * px_per_px64)


def _decoded(batch: RigBatch, heatmaps_VBJHW: torch.Tensor) -> Joints2D:
    joints = decoded_joints(batch, heatmaps_VBJHW)
    # Fused peaks are smooth, so they are known to a fraction of a pixel.
    return replace(joints, argmax_VBJ2=joints.refined_VBJ2)


def _moments(batch: RigBatch, calibration: Rig, fused_VBJHW: torch.Tensor) -> Moments:
    joints = _decoded(batch, fused_VBJHW)
    here = replace(batch, rig=calibration)
    return Moments.of(batch, joints, triangulate_rig(here, joints, INLIER * batch.crop_px / PX64))


def _add_frames_around(
    batch: RigBatch, calibration: Rig, around: Steadied, fused_VBJHW: torch.Tensor
) -> None:
    """Add the term of the frames before and after, in place."""
    if around.weight < _FAINTEST:
        return
    px64_VBJ2, known_VBJ = px64_from_world(
        around.points_BJ3, calibration, ideal_from_px64(batch, calibration)
    )
    pixels = Pixels.of((fused_VBJHW.shape[-2], fused_VBJHW.shape[-1]))
    sigma = torch.tensor(_AROUND_SIGMA)
    px64_VBJ2 = np.where(known_VBJ[..., None], px64_VBJ2, 0.0)
    for view, rows in itertools.product(batch.views, _chunks(batch)):
        px64_BJ2 = torch.tensor(px64_VBJ2[view, rows]).float()
        share_BJ = torch.tensor(around.weight * known_VBJ[view, rows]).float()
        bells_BJHW = share_BJ[..., None, None] * pixels.bells(px64_BJ2, sigma)
        own_BJHW = fused_VBJHW[view, rows]
        fused_VBJHW[view, rows] = (own_BJHW + bells_BJHW) / (1 + share_BJ[..., None, None])


def _chunks(batch: RigBatch) -> list[np.ndarray]:
    rows = np.arange(len(batch))
    return [rows[start : start + _CHUNK] for start in range(0, len(batch), _CHUNK)]
