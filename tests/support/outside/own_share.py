"""A problem: the share of a view's own heatmap in `average.py`, learned over pairs of cameras.

With it come a section of settings, and a method that starts from what was learned.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from metafuse_ray.config.kinds import PositiveFloat, PositiveInt, Share
from metafuse_ray.config.section import section
from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Judgement, MetaGradient, Task, Weights
from metafuse_ray.meta.weights_file import StoredWeights
from metafuse_ray.methods.row import MethodRow, ProblemRow, Searched
from metafuse_ray.pose.heatmap import render_gaussian
from metafuse_ray.samples.joints import decoded_joints, own_joints, rig_detections
from metafuse_ray.samples.rig_batch import RigBatch, load_rig_batch, rig_rows
from metafuse_ray.seeds import generator
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.blocks import TRAIN
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.shards.splits import hold_out
from tests.support.outside.average import Average, blend

KIND = "own_share"
_SIGMA_PX = 1.0


@section
class OwnShareSettings:
    """The share of a view's own heatmap."""

    kind: Literal["own_share"] = "own_share"
    """What is meta-learned."""
    lr: PositiveFloat = 0.05
    """Step size of the share."""
    start: Share = 0.5
    """Share to start from."""
    samples: PositiveInt = 6
    """Samples of a pair in a round."""


@dataclass(frozen=True)
class OwnShare:
    """What is learned."""

    value: torch.Tensor

    @property
    def named(self) -> dict[str, torch.Tensor]:
        return {"own_share": self.value}


@dataclass(frozen=True)
class OwnShareProblem:
    """See `metafuse_ray.meta.problem.Problem`."""

    seed: int
    data: DataConfig
    problem: OwnShareSettings
    held: HeldOutConfig

    stream = "pairs of own shares"

    @property
    def kind(self) -> str:
        return self.problem.kind

    def tasks(self) -> Sequence[Cameras]:
        return list(itertools.combinations(self._cameras[0], 2))

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        pairs = itertools.combinations(self._cameras[1], 2)
        return [HeldOutTask(0, index, pair, draw=draw) for index, pair in enumerate(pairs)]

    def start(self) -> Mapping[str, torch.Tensor]:
        return OwnShare(torch.tensor([self.problem.start])).named

    def step_sizes(self) -> Mapping[str, float]:
        return {"own_share": self.problem.lr}

    def worker(self, device: str) -> OwnShareWorker:
        return OwnShareWorker(open_shards(self.data), self.seed, self.problem.samples, device)

    def facts(self) -> Mapping[str, Any]:
        return {"of": "tests"}

    def describe(self) -> str:
        return f"the own share over {len(self.tasks())} pairs"

    def remedy(self) -> str:
        return f"problem.lr (now {self.problem.lr})"

    @cached_property
    def _cameras(self) -> tuple[Cameras, Cameras]:
        shards = open_shards(self.data)
        return hold_out(shards.manifest.train_cameras, self.held.cameras, self.seed)


class OwnShareWorker:
    """Draws samples of a pair and differentiates their loss."""

    def __init__(self, shards: ShardSet, seed: int, samples: int, device: str) -> None:
        self._shards, self._seed, self._samples = shards, seed, samples
        self._device = device

    def open(self, cameras: Cameras) -> None:
        for name in cameras:
            self._shards.camera(name)

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        started = time.perf_counter()
        share = torch.tensor(weights.arrays["own_share"], requires_grad=True)
        loss = _loss(self._draw(task, "query", task.round), share)
        loss.backward()
        assert share.grad is not None
        return MetaGradient(
            task=task,
            arrays={"own_share": share.grad.numpy()},
            support_loss=float(loss.detach()),
            query_loss=float(loss.detach()),
            seconds=time.perf_counter() - started,
        )

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        started = time.perf_counter()
        batch = self._draw(task, "judged", task.draw)
        share = torch.tensor(weights.arrays["own_share"])
        fused = decoded_joints(batch, blend(batch.heatmaps_VBJhw, share))
        return Judgement(
            task=task,
            loss_before=float(_loss(batch, torch.ones(1))),
            loss=float(_loss(batch, share)),
            jdr=float(np.nanmean(rig_detections(batch, fused))),
            jdr_alone=float(np.nanmean(rig_detections(batch, own_joints(batch)))),
            seconds=time.perf_counter() - started,
        )

    def _draw(self, task: Task, stream: str, number: int) -> RigBatch:
        rows = rig_rows(self._shards, task.cameras, self._shards.rows(TRAIN))
        random = generator(self._seed, stream, number, *task.cameras)
        drawn = random.choice(rows, min(self._samples, len(rows)), replace=False)
        return load_rig_batch(self._shards, task.cameras, drawn)


def _loss(batch: RigBatch, own_share: torch.Tensor) -> torch.Tensor:
    fused = blend(batch.heatmaps_VBJhw, own_share)
    height, width = fused.shape[-2:]
    truth = render_gaussian(batch.label_VBJ2, (height, width), _SIGMA_PX)
    return (fused - truth)[batch.visibility_VBJ].square().mean()


def make_problem(*, held_out: HeldOutConfig, **sections: Any) -> OwnShareProblem:
    return OwnShareProblem(held=held_out, **sections)


def check_weights(stored: StoredWeights, grid: Grid, joints: int) -> OwnShare:
    del grid, joints
    if set(stored.tensors) != {"own_share"}:
        raise CheckpointError(f"{stored.path} holds no own share", path=str(stored.path))
    return OwnShare(stored.tensors["own_share"].float())


def make_method(learned: OwnShare | None) -> Average:
    assert learned is not None
    return Average(learned.value)


PROBLEM = ProblemRow(
    kind=KIND,
    settings=OwnShareSettings,
    reads=("seed", "data.shards", "data.cache_dir", "data.fold", "data.folds", "data.time_margin",
           "held_out.cameras", "problem"),
    make=make_problem,
    weights=check_weights,
    searched=(Searched("problem.lr", "lr"),),
)  # fmt: skip
ROW = MethodRow(
    name="Learned average",
    make=make_method,
    colour="#771155",
    marker="X",
    labels="optional",
    calibration="never",
    drawn=True,
    problem=PROBLEM,
)
