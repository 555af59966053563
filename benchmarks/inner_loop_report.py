"""The table of the comparison of inner loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from metafuse_ray.benchmark.bootstrap import paired_interval

ALONE, UNTRAINED = "No-Fusion", "not meta-trained"


@dataclass(frozen=True, eq=False)
class Training:
    """The result of a candidate.

    Attributes:
        weights: Omega and theta, meta-learned.
        before: Query loss on held-out pairs, mean.
        after: The same after the candidate's own inner loop.
        task_s: Wall time of a training task, median.
    """

    weights: Mapping[str, torch.Tensor]
    before: float
    after: float
    task_s: float


_HEAD = """Made by `benchmarks/inner_loop.py`: {rounds} rounds of {tasks} tasks, K = {shots}, grid
{grid}. Rigs of {views} held-out training cameras: {rigs}, two views each, with N labelled
frames of one training clip, judged on other training clips. *Over*: percentage points of JDR above
the same start that is fine-tuned without meta-training, and above No-Fusion, paired by rig, with
the 95 % bootstrap interval; mean over lambda {weights} and {steps} steps. *Query loss*: on held-out
camera pairs, before and after the candidate's own inner loop.

| inner loop | N | over no meta-training | over No-Fusion | query loss before | after | s a task |
|---|---|---|---|---|---|---|
"""


def markdown(
    page: Mapping[str, Any],
    rates: Mapping[int, Sequence[Mapping[str, float]]],
    trained: Mapping[str, Training],
) -> str:
    """Return the table.

    Args:
        page: Values for its head.
        rates: N -> of every rig, the percent of joints found by each start and by the views alone.
        trained: The candidates.
    """
    lines = []
    for name in (UNTRAINED, *trained):
        one = trained.get(name)
        losses = f"{one.before:.4f} | {one.after:.4f} | {one.task_s:.3f}" if one else "| |"
        for count, rigs in rates.items():
            over_start = _gain(rigs, name, UNTRAINED) if one else ""
            over_alone = _gain(rigs, name, ALONE)
            lines.append(f"| {name} | {count} | {over_start} | {over_alone} | {losses} |\n")
    head = _HEAD.format(
        **{name: value for name, value in page.items() if name not in ("weights", "steps")},
        rigs=len(next(iter(rates.values()))),
        weights=", ".join(map(str, page["weights"])),
        steps=" and ".join(map(str, page["steps"])),
    )
    return head + "".join(lines)


def _gain(rigs: Sequence[Mapping[str, float]], name: str, other: str) -> str:
    mean, low, high = paired_interval([[rig[name] - rig[other]] for rig in rigs])
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" if len(rigs) > 1 else f"{mean:+.2f}"
