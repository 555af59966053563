"""Fuse a view's heatmaps with the other views' evidence; the weight of each term fades with doubt.

    fused = sum_k w_k E_k / sum_k w_k

over the view's own heatmap (scaled to height 1), a ridge along the lines of every source's peaks,
a Gaussian about the point of all views and one about the point of the others. The weights and
spreads are power laws with meta-learned exponents: see `metafuse_ray.methods.plus.weights`. The
result is differentiable in these exponents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from metafuse_ray.methods.plus.crop_cameras import PX64
from metafuse_ray.methods.plus.evidence import WORST_DOUBT, Evidence, Points
from metafuse_ray.methods.plus.weights import Scalars

FAINT = 0.02
"""Added to heights before their logarithm is taken."""
_LEAST = 1e-9
"""Share of a peak that counts as none."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Where a grid's columns and rows are, px64."""

    x_W: Tensor
    y_H: Tensor

    @classmethod
    def of(cls, grid: tuple[int, int], stride: int = 1) -> Pixels:
        """Return those of every ``stride``-th pixel of a grid (h, w)."""
        y_H, x_W = (
            (torch.arange(stride // 2, size, stride) + 0.5) * (PX64 / size) - 0.5 for size in grid
        )
        return cls(x_W, y_H)

    def bells(self, px64_BJ2: Tensor, sigma_B11: Tensor) -> Tensor:
        """Return Gaussians (B, J, H, W) of height 1 about places in px64."""
        x_BJ1, y_BJ1 = px64_BJ2.split(1, -1)
        along_x_BJW = torch.exp(-(((self.x_W - x_BJ1) / sigma_B11) ** 2) / 2)
        along_y_BJH = torch.exp(-(((self.y_H - y_BJ1) / sigma_B11) ** 2) / 2)
        return along_y_BJH[..., :, None] * along_x_BJW[..., None, :]


class FadingFusion:
    """Samples of one rig, ready to be fused with any scalars.

    Args:
        heatmaps_VBJhw: The views' own heatmaps.
        evidence: What the views show of each other's joints.
        doubt_VV: Doubt of every pair over all available samples, px64.
    """

    def __init__(self, heatmaps_VBJhw: Tensor, evidence: Evidence, doubt_VV: np.ndarray) -> None:
        self._heatmaps_VBJhw = heatmaps_VBJhw
        height_VBJK = _float(evidence.peaks.height_VBJK)
        self._peak_VBJ = height_VBJK[..., 0] + FAINT
        self._log_peak_VBJ = self._peak_VBJ.log()
        self._share_VBJK = height_VBJK / self._peak_VBJ[..., None]
        self._lines_VVBJK3 = _float(evidence.lines_VVBJK3)
        self._seen_VB = (height_VBJK[..., 0] > 0).any(-1).float()
        self._doubt_VV = _float(np.minimum(doubt_VV, WORST_DOUBT))
        self._doubt_VVB = _float(evidence.doubt_VVB)
        self._points = {"every": evidence.every, "others": evidence.others}

    def fuse_view(self, scalars: Scalars, view: int, stride: int = 1) -> Tensor:
        """Return one view's fused heatmaps.

        Args:
            scalars: Meta-learned, or being learned.
            view: Number of the view.
            stride: Fuse every ``stride``-th pixel only, as training does to save time.

        Returns:
            (B, J, H, W) float32, of height 1 at most; where the view sees nobody, the evidence of
            the others.
        """
        views, _, _, height, width = self._heatmaps_VBJhw.shape
        pixels = Pixels.of((height, width), stride)
        start = stride // 2
        own_BJHW = self._heatmaps_VBJhw[view, :, :, start::stride, start::stride]
        own_BJHW = own_BJHW / self._peak_VBJ[view][..., None, None]
        weight_BJ = self._trusted(scalars, "own", view).exp()
        total_BJ = weight_BJ
        fused_BJHW = weight_BJ[..., None, None] * own_BJHW
        for source in range(views):
            if source != view:
                weight_BJ, ridge_BJHW = self._ridge(scalars, view, source, pixels)
                fused_BJHW = fused_BJHW + weight_BJ[..., None, None] * ridge_BJHW
                total_BJ = total_BJ + weight_BJ
        for name, points in self._points.items():
            weight_BJ, bell_BJHW = self._bell(scalars, name, points, view, pixels)
            fused_BJHW = fused_BJHW + weight_BJ[..., None, None] * bell_BJHW
            total_BJ = total_BJ + weight_BJ
        return fused_BJHW / total_BJ[..., None, None]

    def _trusted(self, scalars: Scalars, name: str, view: int) -> Tensor:
        """Log weight (B, J) by the shape of a view's heatmap."""
        by_peak = scalars[f"{name}_peak"] * self._log_peak_VBJ[view]
        by_second = scalars[f"{name}_second"] * self._share_VBJK[view, ..., 1]
        return scalars[f"{name}_bias"] + by_peak + by_second

    def _ridge(
        self, scalars: Scalars, view: int, source: int, pixels: Pixels
    ) -> tuple[Tensor, Tensor]:
        doubt, now_B = self._doubt_VV[view, source], self._doubt_VVB[view, source]
        weight_BJ = self._trusted(scalars, "line", source) + _fade(scalars, "line", doubt, now_B)
        sigma_B111 = _sigma(scalars, "line", doubt, now_B)[:, None, None, None]
        logs = []
        for mode, share_BJ in enumerate(self._share_VBJK[source].unbind(-1)):
            line_BJ3 = self._lines_VVBJK3[view, source, :, :, mode] / sigma_B111[..., 0]
            a, b, c = (part[..., None, None] for part in line_BJ3.unbind(-1))
            off_BJHW = a * pixels.x_W + (b * pixels.y_H[:, None] + c)
            log_share_BJ = share_BJ.clamp(min=_LEAST).log()
            logs.append(log_share_BJ[..., None, None] - off_BJHW.square() / 2)
        # The highest ridge, by one exponential instead of one a mode.
        ridge_BJHW = reduce(torch.maximum, logs).exp()
        return weight_BJ.exp() * self._seen_VB[source][:, None], ridge_BJHW

    def _bell(
        self, scalars: Scalars, name: str, points: Points, view: int, pixels: Pixels
    ) -> tuple[Tensor, Tensor]:
        others = [other for other in range(len(self._doubt_VV)) if other != view]
        doubt, now_B = self._doubt_VV[view, others].mean(), _float(points.miss_B)
        support_BJ = (_float(points.support_VBJ[view]) + FAINT).log()
        weight_BJ = scalars[f"{name}_bias"] + scalars[f"{name}_support"] * support_BJ
        weight_BJ = weight_BJ + scalars[f"{name}_peak"] * self._log_peak_VBJ[view]
        weight_BJ = weight_BJ + _fade(scalars, "point", doubt, now_B)
        sigma_B11 = _sigma(scalars, "point", doubt, now_B)[:, None, None]
        bell_BJHW = pixels.bells(_float(points.px64_VBJ2[view]), sigma_B11)
        return weight_BJ.exp() * _float(points.known_VBJ[view]), bell_BJHW


def _fade(scalars: Scalars, name: str, doubt: Tensor, now_B: Tensor) -> Tensor:
    floor = scalars["log_floor"].exp()
    fade_B = scalars[f"{name}_fade"] * (doubt + floor).log()
    fade_B = fade_B + scalars[f"{name}_fade_now"] * (now_B + floor).log()
    return -fade_B[:, None]


def _sigma(scalars: Scalars, name: str, doubt: Tensor, now_B: Tensor) -> Tensor:
    sure, slope, now = (scalars[f"{name}_{part}"].exp() for part in ("sigma", "slope", "slope_now"))
    return (sure**2 + (slope * doubt) ** 2 + (now * now_B) ** 2).sqrt()


def _float(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
