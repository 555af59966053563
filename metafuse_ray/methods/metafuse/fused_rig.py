"""Methods that fuse heatmaps view by view, behind the interface of all methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, with_label_points
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig, Choice, Choosing, adapt_rig
from metafuse_ray.methods.metafuse.fusion_methods import FusionMethod
from metafuse_ray.samples.joints import Joints2D
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.seeds import generator

_DRAWN_SELF_WEIGHT = 0.3
"""Lambda of a picture where fusion was switched off."""


@dataclass(frozen=True, eq=False)
class FusedRig:
    """A fitted fusion, and the calibration to triangulate its peaks with."""

    adapted: AdaptedRig
    calibration: Rig | None

    @property
    def chosen(self) -> Mapping[str, float]:
        """What was chosen on held-out labelled frames."""
        return asdict(self.adapted.choice)

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints, with the lambda for 2D and with that for 3D."""
        return self.adapted.joints(batch)

    def to_draw(self) -> tuple[AdaptedRig, str]:
        """Return what can be drawn, and a remark on it; see `Drawable`."""
        chosen = self.adapted.choice.self_weight_2d
        if chosen < 1:
            return self.adapted, f"lambda {chosen:g}, chosen on held-out labelled frames"
        # With fusion switched off there would be nothing to see.
        choice = replace(self.adapted.choice, self_weight_2d=_DRAWN_SELF_WEIGHT)
        remark = (
            f"drawn at lambda {_DRAWN_SELF_WEIGHT:g}, although held-out labelled frames chose 1 (no"
            " fusion), which the tables use"
        )
        return AdaptedRig(self.adapted.models, choice), remark

    def heatmaps(self, batch: RigBatch) -> torch.Tensor:
        """Return the fused heatmaps, with the lambda for 3D."""
        return self.adapted.heatmaps(batch)


@dataclass(frozen=True)
class FusionRigMethod:
    """Fit a fusion to every view; settings and lambda on held-out labelled frames.

    The calibration only decides the lambda for 3D, through the held-out labels' 3D points.

    Attributes:
        method: What to fit.
        seed: Of every draw.
        choosing: Where the method has something to choose.
        unfitted_self_weight: Lambda where there are no labels to choose it by.
    """

    method: FusionMethod
    seed: int
    choosing: Choosing | None = None
    unfitted_self_weight: float = 1.0

    def adapt(self, task: RigTask) -> FusedRig:
        """Fit all views; without labels, take the start as it is."""
        if task.labelled is None:
            return FusedRig(self._unfitted(task), task.calibration)
        labelled = task.labelled
        if task.calibration is not None:
            labelled = with_label_points(labelled, task.calibration)
        adapted = adapt_rig(self.method, labelled, self.choosing, self.seed, task.address)
        return FusedRig(adapted, task.calibration)

    def _unfitted(self, task: RigTask) -> AdaptedRig:
        setting = min(self.method.settings)
        first, *others = self.method.self_weights
        weight = self.unfitted_self_weight if others else first
        choice = Choice(setting, weight, weight, float("nan"), float("nan"))
        models = []
        for view in task.unlabelled.views:
            random = generator(self.seed, "adapt", *task.address, view)
            fits = self.method.fit(task.unlabelled.target(view), view, random)
            models.append(next(model for _, model in fits))
        return AdaptedRig(tuple(models), choice)
