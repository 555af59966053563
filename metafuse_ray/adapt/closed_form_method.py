"""The closed form behind the interface of all methods: solve theta from a new rig's labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metafuse_ray.adapt.closed_form import fit_pairs_closed_form
from metafuse_ray.adapt.closed_form_rig import ClosedFormRig
from metafuse_ray.adapt.pair_points import PairPoints
from metafuse_ray.adapt.pair_prior import PairPrior
from metafuse_ray.adapt.rig_method import RigTask
from metafuse_ray.adapt.scalars import Scalars


@dataclass(frozen=True)
class ClosedFormMethod:
    """Solve the pairs' geometry; nothing is stepped, and nothing chosen on held-out frames.

    Attributes:
        prior: Over pairs.
        scalars: Meta-learned, or set by hand.
        operator: Implementation of the fusion operator.
    """

    prior: PairPrior
    scalars: Scalars
    operator: str = "auto"

    def adapt(self, task: RigTask) -> ClosedFormRig:
        """Solve all pairs; without labels, the prior alone speaks."""
        labelled = task.labelled
        if labelled is None:
            labelled = task.unlabelled.take(np.arange(0))
        points = PairPoints.of(labelled, task.image_sizes)
        geometry = fit_pairs_closed_form(points, self.prior, self.scalars, len(labelled))
        return ClosedFormRig(
            geometry,
            self.scalars,
            task.image_sizes,
            task.calibration,
            operator=self.operator,
        )
