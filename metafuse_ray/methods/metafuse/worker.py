"""The inner loop on one camera pair's shard; the same code in process and in an actor."""

from __future__ import annotations

import time

import torch

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import ConfigError
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.losses import target_heatmaps
from metafuse_ray.methods.metafuse.operator.dispatch import sweeps_for
from metafuse_ray.methods.metafuse.set_loss import SetLoss
from metafuse_ray.methods.metafuse.smoothing import ThetaSmoothing
from metafuse_ray.methods.metafuse.task_gradient import task_gradient
from metafuse_ray.samples.episodes import EpisodeSampler, FusionBatch
from metafuse_ray.shards.opening import open_shards


class TaskWorker:
    """Holds task shards and turns (weights, task) into an outer gradient.

    Args:
        config: The run; its seed, data, model, inner and episode parts are used.
        device: Where the inner loop runs.

    Raises:
        ConfigError: The device is not there, or ``model.operator`` does not run on it.
        ShardFormatError: The shards are damaged or missing.
    """

    def __init__(self, config: RunConfig, device: str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        _check_device(self.device, config.model.operator)
        shards = open_shards(config)
        self.sampler = EpisodeSampler(shards, config.episode.shots, config.seed)

        sigma = config.model.theta_smoothing
        smoothing = ThetaSmoothing(shards.grid, sigma, self.device) if sigma else None
        self.condition_theta = smoothing.condition if smoothing else None

    def open(self, cameras: tuple[str, ...]) -> None:
        """Open and verify the files of some cameras, before the first round needs them."""
        for name in cameras:
            self.sampler.shards.camera(name)

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Sample the task's episode, adapt on its support set, differentiate its query loss.

        Raises:
            NotEnoughFramesError: The pair has fewer than 2 K usable images.
        """
        started = time.perf_counter()
        episode = self.sampler.sample(task.round, task.pair)
        config = self.config
        lr_omega = config.inner.lr_omega
        result = task_gradient(
            self.model(weights),
            self.set_loss(episode.support),
            self.set_loss(episode.query),
            config.inner,
            step_sizes={} if lr_omega is None else {"omega": lr_omega},
            conditioners={"theta_VP23": condition} if (condition := self.condition_theta) else {},
        )
        omega, theta = (gradient.cpu().numpy() for gradient in result.gradients)
        return MetaGradient(
            task=task,
            arrays={"omega": omega, "theta": theta[0]},
            support_loss=result.support_loss,
            query_loss=result.query_loss,
            seconds=time.perf_counter() - started,
        )

    def model(self, weights: Weights) -> AffineFusion:
        """Return the model of one pair with these weights, on the worker's device."""
        return AffineFusion(
            torch.tensor(weights.arrays["omega"], device=self.device),
            torch.tensor(weights.arrays["theta"], device=self.device)[None],
            self.sampler.shards.grid,
            self.config.model.operator,
        )

    def set_loss(self, batch: FusionBatch) -> SetLoss:
        """Return the heatmap loss on some samples, on the worker's device."""
        sigma_px = self.config.model.target_sigma * self.sampler.shards.grid[1]
        truth_BJHW = target_heatmaps(batch, sigma_px).to(self.device)
        return SetLoss(batch.to(self.device), truth_BJHW, self.config.model.self_weight)


def _check_device(device: torch.device, operator: str) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "cluster.gpus_per_actor: PyTorch finds no GPU on the actor's node; install a CUDA build"
            " of torch and check the driver, or set cluster.gpus_per_actor=0",
            key="cluster.gpus_per_actor",
        )
    if operator == "reference":
        return
    try:
        sweeps_for(operator, device.type)
    except ValueError as error:
        raise ConfigError(f"model.operator: {error}", key="model.operator") from None
