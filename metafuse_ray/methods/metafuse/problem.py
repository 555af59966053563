"""MetaFuse as a problem: a task is an ordered camera pair (Algorithm 1 [S])."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from metafuse_ray.errors import CheckpointError, ConfigError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.settings import HeldOutConfig, OuterConfig
from metafuse_ray.meta.tasks import Cameras, HeldOutTask
from metafuse_ray.meta.weights_file import StoredWeights
from metafuse_ray.methods.held_out import hold_out_to_judge
from metafuse_ray.methods.metafuse.held_out import pairs_to_judge
from metafuse_ray.methods.metafuse.settings import (
    EpisodeConfig,
    InnerConfig,
    MetaFuseSettings,
    ModelConfig,
)
from metafuse_ray.methods.metafuse.start import FusionWeights, start_weights
from metafuse_ray.methods.metafuse.task_gradient import check_path
from metafuse_ray.methods.metafuse.worker import PairWorker
from metafuse_ray.samples.episodes import EpisodeSampler
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.settings import DataConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetaFuseProblem:
    """Omega (h, w) and theta (H W, 2, 3) are learned; see `Problem` for the members."""

    seed: int
    data: DataConfig
    problem: MetaFuseSettings
    model: ModelConfig
    inner: InnerConfig
    outer: OuterConfig
    episode: EpisodeConfig
    judging: HeldOutConfig

    stream = "pairs"

    def __post_init__(self) -> None:
        """Check before any work that the inner loop has the path that is asked for."""
        check_path(self.inner, self.model.operator)

    @property
    def kind(self) -> str:
        """``metafuse``."""
        return self.problem.kind

    def tasks(self) -> Sequence[Cameras]:
        """Return the ordered pairs (target, source) with the images that an episode needs.

        Raises:
            ConfigError: There are no two cameras to train on.
            NotEnoughFramesError: No pair has enough images.
        """
        return self._tasks

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        """Return the ordered pairs of the held-out cameras that have the frames to judge on."""
        return [
            HeldOutTask(0, index, (pair.target, pair.source), draw=draw)
            for index, pair in enumerate(self._cameras[1])
        ]

    def start(self) -> Mapping[str, torch.Tensor]:
        """Return omega and theta as ``model.start`` sets them."""
        return start_weights(self.model, open_shards(self.data).grid, self.seed).named

    def step_sizes(self) -> Mapping[str, float]:
        """Return beta of each."""
        lr_omega = self.outer.lr_omega
        return {
            "omega": self.outer.lr if lr_omega is None else lr_omega,
            "theta": self.outer.lr,
        }

    def worker(self, device: str) -> PairWorker:
        """Make a worker."""
        return PairWorker(
            open_shards(self.data),
            self.seed,
            model=self.model,
            inner=self.inner,
            episode=self.episode,
            held_out=self.judging,
            device=device,
        )

    def facts(self) -> Mapping[str, Any]:
        """No facts: the tensors hold everything."""
        return {}

    def describe(self) -> str:
        """Describe a task and its inner loop."""
        inner = self.inner
        steps = f"{inner.steps} step{'' if inner.steps == 1 else 's'} of {inner.optimizer}"
        path = "through higher" if inner.path == "higher" else "in closed form"
        return (
            f"MetaFuse (problem.kind=metafuse) over {len(self.tasks())} ordered camera pairs; inner"
            f" loop: {steps}, alpha {inner.lr:g}, {inner.order} order {path}, K"
            f" {self.episode.shots}"
        )

    def remedy(self) -> str:
        """Name alpha and beta."""
        return f"inner.lr (now {self.inner.lr}) or outer.lr (now {self.outer.lr})"

    @cached_property
    def _tasks(self) -> list[Cameras]:
        shards = open_shards(self.data)
        train, _ = self._cameras
        pairs = shards.rig.subset(train).pairs()
        if not pairs:
            raise ConfigError(
                f"{self.data.shards} has {len(train)} training camera(s) and a pair needs two:"
                " lower data.test_camera_share and make the shards again"
            )
        sampler = EpisodeSampler(shards, self.episode.shots, self.seed)
        kept = sampler.trainable(pairs)
        if len(kept) < len(pairs):
            _log.warning(
                "%d of %d camera pairs left out: fewer than %d images seen by both"
                " (2 episode.shots)",
                len(pairs) - len(kept),
                len(pairs),
                2 * self.episode.shots,
            )
        return [(pair.target, pair.source) for pair in kept]

    @cached_property
    def _cameras(self) -> tuple[tuple[str, ...], list[CameraPair]]:
        """The cameras to train on, and the pairs of the others to judge on."""
        shards, settings = open_shards(self.data), self.judging

        def pairs(held: tuple[str, ...]) -> list[CameraPair]:
            return pairs_to_judge(shards, shards.rig.subset(held).pairs(), settings)

        return hold_out_to_judge(shards.manifest.train_cameras, settings, self.seed, pairs)


def metafuse_weights(stored: StoredWeights, grid: Grid, joints: int) -> FusionWeights:
    """Check the weights of a run over camera pairs.

    Args:
        stored: What was read.
        grid: Rows and columns of the heatmaps that they will be used on.
        joints: Not used: the joints share the weights.

    Raises:
        CheckpointError: They are of another problem, shape or grid.
    """
    del joints
    path, tensors = stored.path, stored.tensors
    if not {"omega", "theta"} <= tensors.keys():
        raise CheckpointError(
            f"{path} holds {', '.join(sorted(tensors))}, and MetaFuse needs omega and theta: it is"
            " of another problem; train one with problem.kind=metafuse",
            path=str(path),
        )
    omega, theta = tensors["omega"], tensors["theta"]
    if omega.ndim != 2 or theta.shape != (omega.numel(), 2, 3):
        raise CheckpointError(
            f"{path}: omega {tuple(omega.shape)} and theta {tuple(theta.shape)}, expected (h, w)"
            " and (h w, 2, 3); train again",
            path=str(path),
        )
    if tuple(omega.shape) != grid:
        raise CheckpointError(
            f"{path} was trained on heatmaps of {omega.shape[0]} x {omega.shape[1]}, and these"
            f" shards hold {grid[0]} x {grid[1]}; train on these shards, or make them again with"
            " data.grid of the run",
            path=str(path),
        )
    return FusionWeights(omega.float(), theta.float())
