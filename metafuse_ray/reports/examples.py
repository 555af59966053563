"""Examples of joints that fusion changed, and the heatmaps that show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.methods.interface import ShowsFusion
from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_argmax
from metafuse_ray.samples.rig_batch import RigBatch

WANTED = {"fixed": 4, "broken": 2, "found either way": 1, "missed either way": 1}
"""Rows of the sheet by what fusion did to the joint."""


@dataclass(frozen=True)
class Example:
    """One joint of one sample in one target view, and what fusion did to it (see `WANTED`)."""

    verdict: str
    view: int
    row: int
    joint: int


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of the sheet.

    Attributes:
        view: The view whose crop is drawn behind.
        heatmap: (h, w).
        truth_px: (2,) in crop pixels.
        found_px: (2,) highest pixel in crop pixels; NaN where the view sees nobody.
    """

    view: int
    heatmap: np.ndarray
    truth_px: np.ndarray
    found_px: np.ndarray


def choose_examples(
    alone_VBJ: np.ndarray, fused_VBJ: np.ndarray, random: np.random.Generator
) -> tuple[list[Example], dict[str, int]]:
    """Draw examples of every verdict at random, from all joints that count.

    Args:
        alone_VBJ: 1 found, 0 missed, NaN where the joint does not count; without fusion.
        fused_VBJ: The same with fusion.
        random: Draws them.

    Returns:
        The examples, by verdict, and how many joints there are of each verdict.
    """
    verdicts = {
        "fixed": (0, 1),
        "broken": (1, 0),
        "found either way": (1, 1),
        "missed either way": (0, 0),
    }
    examples, counts = [], {}
    for verdict, (before, after) in verdicts.items():
        places = np.argwhere((alone_VBJ == before) & (fused_VBJ == after))
        counts[verdict] = len(places)
        for place in random.permutation(places)[: WANTED[verdict]]:
            examples.append(Example(verdict, *place.tolist()))
    return examples, counts


def example_panels(example: Example, adapted: ShowsFusion, batch: RigBatch) -> list[Panel]:
    """Return the panels of one row: own, sources, collected, fused."""
    view, row, joint = example.view, example.row, example.joint
    sample = batch.take(np.array([row]))
    target = sample.target(view)
    collected, fused = adapted.parts(batch, view, row)
    others = [other for other in batch.views if other != view]
    stack = [
        (view, target.target_BJHW[0]),
        *((other, sources[0]) for other, sources in zip(others, target.sources_VBJhw, strict=True)),
        (view, collected),
        (view, fused),
    ]
    return [_panel(sample, number, heatmaps[joint], joint) for number, heatmaps in stack]


def _panel(sample: RigBatch, view: int, heatmap: torch.Tensor, joint: int) -> Panel:
    grid = (heatmap.shape[-2], heatmap.shape[-1])
    found, peak = decode_argmax(heatmap[None, None])
    truth, found = (
        crop_from_heatmap(xy.double().numpy(), sample.crop_px, grid)
        for xy in (sample.label_VBJ2[view, 0, joint], found[0, 0])
    )
    nothing = not bool(sample.seen_VB[view, 0]) or float(peak) <= 0
    return Panel(view, heatmap.numpy(), truth, np.full(2, np.nan) if nothing else found)
