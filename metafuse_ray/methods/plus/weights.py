"""The numbers of MetaFuse+ that hold for all rigs, and that may be meta-learned over them.

With r the doubt of a pair, d that of the sample, and ``floor`` = exp(log_floor), a term weighs
exp(bias + powers of its peaks) (r + floor)^-fade (d + floor)^-fade_now, and its spread is
sigma^2 = exp(sigma)^2 + (exp(slope) r)^2 + (exp(slope_now) d)^2, in px64. Beside these exponents
are the offsets from what detectors find to what people label, and the weight of their prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

Scalars = Mapping[str, torch.Tensor]
"""By name, 0-dimensional float32."""

START: Mapping[str, float] = MappingProxyType(
    {
        # A view's own heatmap.
        "own_bias": 0.0,
        "own_peak": 1.0,  # times log peak
        "own_second": -0.5,  # times second peak over peak
        # The lines of the other views' peaks.
        "line_bias": -0.5,
        "line_peak": 1.0,
        "line_second": -1.0,
        "line_fade": 0.7,
        "line_fade_now": 0.3,
        "line_sigma": 0.4,
        "line_slope": 0.3,
        "line_slope_now": -1.0,
        # The point that all views give.
        "every_bias": -0.5,
        "every_support": 1.5,  # times log of the trust that agrees
        "every_peak": 0.5,  # times log of the own peak
        # The point that the other views give.
        "others_bias": -0.7,
        "others_support": 1.0,
        "others_peak": 0.1,
        # Both points.
        "point_fade": 1.0,
        "point_fade_now": 0.5,
        "point_sigma": 0.6,
        "point_slope": 0.3,
        "point_slope_now": -1.0,
        # All fades.
        "log_floor": 0.0,
        # Weight of the prior of the joint offsets, against the root of the number of labels.
        "log_strength": 2.0,
    }
)
"""Where meta-training starts; set by hand."""


@dataclass(frozen=True, eq=False)
class PlusWeights:
    """What MetaFuse+ meta-learns.

    Attributes:
        scalars_S: In the order of `START`, float32.
        offsets_J3: Prior of the joint offsets (`joint_offsets.py`), float32; one row of zeros where
            none were learned.
    """

    scalars_S: torch.Tensor
    offsets_J3: torch.Tensor

    @classmethod
    def start(cls, joints: int = 1) -> PlusWeights:
        """Return the weights set by hand, with offsets of 0 for a number of joints."""
        scalars_S = torch.tensor(list(START.values()), dtype=torch.float32)
        return cls(scalars_S, torch.zeros(joints, 3))

    @classmethod
    def of(cls, named: Mapping[str, torch.Tensor]) -> PlusWeights:
        """Build them from their parts: undoes `named`."""
        return cls(named["scalars"], named["offsets"])

    @property
    def named(self) -> dict[str, torch.Tensor]:
        """The parts, by the names that files and outer gradients know them by."""
        return {"scalars": self.scalars_S, "offsets": self.offsets_J3}


_OF_OFFSETS = ("log_strength",)


def without_exponents(scalars: Scalars) -> Scalars:
    """Detach the exponents, which are not learned then; the strength of the offsets stays."""
    return {
        name: value if name in _OF_OFFSETS else value.detach() for name, value in scalars.items()
    }


def by_name(scalars_S: torch.Tensor) -> Scalars:
    """Give the entries of a vector their names, in the order of `START`."""
    return dict(zip(START, scalars_S.unbind(), strict=True))
