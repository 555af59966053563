"""Neighbouring target pixels learn together: the updates of theta are smoothed.

A few labelled frames touch few target pixels. Where theta moves by a smoothed update,
``theta = start + S delta``, a pixel without a label follows its neighbours. S blurs over the
target grid; a gradient step on delta moves theta by ``S S^T`` times the gradient, and a step of
Adam moves it by S times what Adam makes of ``S^T`` times the gradient.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.inner import LinearMap
from metafuse_ray.shapes import Grid

_DELTA = "parametrizations.theta_VP23.original"


class ThetaSmoothing:
    """A Gaussian blur over the target pixels of theta.

    Args:
        grid: Rows and columns of the target heatmaps.
        sigma: Standard deviation as a share of the grid's width.
        device: Where theta is.
    """

    def __init__(self, grid: Grid, sigma: float, device: torch.device | str = "cpu") -> None:
        self.grid = grid
        sigma_px = sigma * grid[1]
        self._rows, self._columns = (_blur(size, sigma_px).to(device) for size in grid)

    def blur(self, theta_VP23: torch.Tensor) -> torch.Tensor:
        """Return S theta."""
        return self._apply(self._rows, self._columns, theta_VP23)

    def gather(self, gradient_VP23: torch.Tensor) -> torch.Tensor:
        """Return S^T gradient: that of delta, where the gradient is that of theta."""
        return self._apply(self._rows.T, self._columns.T, gradient_VP23)

    def condition(self, gradient_VP23: torch.Tensor) -> torch.Tensor:
        """Return S S^T gradient: a symmetric map, by which smoothed theta moves."""
        return self._apply(
            self._rows @ self._rows.T, self._columns @ self._columns.T, gradient_VP23
        )

    def maps(self, optimizer: str) -> tuple[LinearMap, LinearMap | None]:
        """Return the maps of theta's gradient and of its step that make this a step of delta.

        Plain steps are linear in the gradient, so that one map of the gradient is enough.
        """
        return (self.condition, None) if optimizer == "sgd" else (self.gather, self.blur)

    def _apply(
        self, rows: torch.Tensor, columns: torch.Tensor, theta_VP23: torch.Tensor
    ) -> torch.Tensor:
        on_grid_Vhw6 = theta_VP23.reshape(len(theta_VP23), *self.grid, 6)
        # One axis after the other; both at once would build the (h w, h w) matrix.
        along_x_Vhw6 = columns.to(on_grid_Vhw6.dtype) @ on_grid_Vhw6
        blurred_Vhk = rows.to(on_grid_Vhw6.dtype) @ along_x_Vhw6.flatten(2)
        return blurred_Vhk.reshape(theta_VP23.shape)


def smooth_theta(model: AffineFusion, sigma: float) -> str:
    """Make a model's theta move by smoothed updates only, until `fix_theta`.

    Args:
        model: Changed in place.
        sigma: Smoothing as a share of the grid's width; 0 lets every pixel move by itself.

    Returns:
        Name of the parameter to optimise.
    """
    if sigma == 0:
        return "theta_VP23"
    start = model.theta_VP23.detach().clone()
    smoothing = ThetaSmoothing(model.grid, sigma, start.device)
    parametrize.register_parametrization(model, "theta_VP23", _Smoothed(start, smoothing))
    return _DELTA


class _Smoothed(nn.Module):
    def __init__(self, start: torch.Tensor, smoothing: ThetaSmoothing) -> None:
        super().__init__()
        self._start = start
        self._smoothing = smoothing

    def forward(self, delta: torch.Tensor) -> torch.Tensor:
        return self._start + self._smoothing.blur(delta)

    def right_inverse(self, theta: torch.Tensor) -> torch.Tensor:
        return theta - self._start


def fix_theta(model: AffineFusion) -> AffineFusion:
    """Return the model with theta as a plain parameter at its present value."""
    if not parametrize.is_parametrized(model, "theta_VP23"):
        return model
    return AffineFusion(
        model.omega.detach().clone(), model.theta_VP23.detach().clone(), model.grid, model.operator
    )


def _blur(size: int, sigma_px: float) -> torch.Tensor:
    index = torch.arange(size, dtype=torch.float64)
    weight = torch.exp(-((index[:, None] - index) ** 2) / (2 * sigma_px**2))
    return (weight / weight.sum(1, keepdim=True)).float()
