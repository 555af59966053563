"""The operator at one point of its parameters, outside autograd.

For losses whose second derivative is known, gradients and Hessian-vector products can be written
down and need no graph; ``FusionPoint`` offers the pieces.
"""

from __future__ import annotations

import torch

from metafuse_ray.methods.metafuse.operator.dispatch import sweeps_for
from metafuse_ray.methods.metafuse.operator.driver import (
    Inputs,
    Wanted,
    fused,
    gradients,
    second_gradients,
)
from metafuse_ray.methods.metafuse.operator.plan import Plan
from metafuse_ray.methods.metafuse.operator.shapes import check_shapes
from metafuse_ray.shapes import Grid

Pair = tuple[torch.Tensor, torch.Tensor]
"""Something for omega (h, w) and for theta (H W, 2, 3)."""

_PARAMETERS = Wanted(omega=True, theta=True, heatmaps=False)


class FusionPoint:
    """F, its gradients and its curvature at given omega, theta and source heatmaps.

    Args:
        omega: (h, w) base map.
        theta: (H W, 2, 3) affines.
        heatmaps: (B, J, h, w) source heatmaps.
        grid: (H, W) of the target; the source grid where None.
        implementation: As in ``fuse``; the reference has no such pieces.

    Raises:
        ValueError: As in ``fuse``.
    """

    def __init__(
        self,
        omega: torch.Tensor,
        theta: torch.Tensor,
        heatmaps: torch.Tensor,
        *,
        grid: Grid | None = None,
        implementation: str = "auto",
    ) -> None:
        shape = check_shapes(omega, theta, heatmaps, grid)
        sweeps = sweeps_for(implementation, omega.device.type)
        self._plan = Plan.of(shape, sweeps, omega, theta, heatmaps)

    def fused(self) -> torch.Tensor:
        """F, (B, J, H, W)."""
        return fused(self._plan)

    def gradients(self, grad_BJHW: torch.Tensor) -> Pair:
        """Gradients to omega and theta of a loss whose gradient to F is ``grad_BJHW``."""
        return _both(gradients(self._plan, grad_BJHW, _PARAMETERS))

    def along(self, direction: Pair, grad_BJHW: torch.Tensor) -> tuple[torch.Tensor, Pair]:
        """Move omega and theta along a direction.

        Returns:
            The derivative of F, (B, J, H, W), and that of ``gradients(grad_BJHW)`` at constant
            ``grad_BJHW``.
        """
        moved, inputs = second_gradients(
            self._plan, grad_BJHW, Inputs(*direction, None), _PARAMETERS, to_grad=True
        )
        assert moved is not None
        return moved, _both(inputs)


def _both(inputs: Inputs) -> Pair:
    assert inputs.omega is not None
    assert inputs.theta is not None
    return inputs.omega, inputs.theta
