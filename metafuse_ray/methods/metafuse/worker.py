"""The inner loop on one camera pair's shard; the same code in process and in an actor."""

from __future__ import annotations

import time

import numpy as np
import torch

from metafuse_ray.errors import ConfigError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Judgement, MetaGradient, Task, Weights
from metafuse_ray.methods.metafuse.fusion import AffineFusion, NoFusion
from metafuse_ray.methods.metafuse.held_out import draw_frames
from metafuse_ray.methods.metafuse.inner import LinearMap
from metafuse_ray.methods.metafuse.losses import target_heatmaps
from metafuse_ray.methods.metafuse.operator.dispatch import sweeps_for
from metafuse_ray.methods.metafuse.set_loss import SetLoss
from metafuse_ray.methods.metafuse.settings import EpisodeConfig, InnerConfig, ModelConfig
from metafuse_ray.methods.metafuse.smoothing import ThetaSmoothing
from metafuse_ray.methods.metafuse.task_gradient import task_gradient
from metafuse_ray.methods.metafuse.theta_steps import take_theta_steps
from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_argmax
from metafuse_ray.pose.metrics import detections
from metafuse_ray.samples.episodes import EpisodeSampler, FusionBatch, load_batch
from metafuse_ray.shards.shards import ShardSet


class PairWorker:
    """Holds task shards and turns (weights, camera pair) into an outer gradient.

    Args:
        shards: Where the samples are.
        seed: Of every draw.
        model: Lambda, targets, smoothing, operator.
        inner: The inner loop.
        episode: K.
        held_out: What held-out pairs adapt to and are judged on.
        device: Where the inner loop runs.

    Raises:
        ConfigError: The device is not there, or ``model.operator`` does not run on it.
    """

    def __init__(
        self,
        shards: ShardSet,
        seed: int,
        *,
        model: ModelConfig,
        inner: InnerConfig,
        episode: EpisodeConfig,
        held_out: HeldOutConfig,
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        _check_device(self.device, model.operator)
        self.sampler = EpisodeSampler(shards, episode.shots, seed)
        self._seed = seed
        self._model, self._inner, self._held_out = model, inner, held_out
        self._condition, self._step_map = None, None
        if sigma := model.theta_smoothing:
            smoothing = ThetaSmoothing(shards.grid, sigma, self.device)
            self._condition, self._step_map = smoothing.maps(inner.optimizer)

    def open(self, cameras: Cameras) -> None:
        """Open and verify the files of some cameras, before the first round needs them."""
        for name in cameras:
            self.sampler.shards.camera(name)

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Sample the task's episode, adapt on its support set, differentiate its query loss.

        Raises:
            NotEnoughFramesError: The pair has fewer than 2 K usable images.
        """
        started = time.perf_counter()
        episode = self.sampler.sample(task.round, CameraPair(*task.cameras))
        lr_omega = self._inner.lr_omega
        result = task_gradient(
            self.model(weights),
            self.set_loss(episode.support),
            self.set_loss(episode.query),
            self._inner,
            step_sizes={} if lr_omega is None else {"omega": lr_omega},
            conditioners=_of_theta(self._condition),
            step_maps=_of_theta(self._step_map),
        )
        omega, theta = (gradient.cpu().numpy() for gradient in result.gradients)
        return MetaGradient(
            task=task,
            arrays={"omega": omega, "theta": theta[0]},
            support_loss=result.support_loss,
            query_loss=result.query_loss,
            seconds=time.perf_counter() - started,
        )

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        """Adapt the affine transforms to a run of labelled frames [P], and judge them on others."""
        started = time.perf_counter()
        shards, pair = self.sampler.shards, CameraPair(*task.cameras)
        support, query = (
            self.set_loss(load_batch(shards, pair.target, [pair.source], rows))
            for rows in draw_frames(shards, pair, task.draw, self._held_out, self._seed)
        )
        model = self.model(weights)
        with torch.no_grad():
            before = float(query(model))
        take_theta_steps(
            model,
            support,
            steps=self._inner.steps,
            lr=self._inner.lr,
            optimizer=self._inner.optimizer,
            conditioner=self._condition,
            step_map=self._step_map,
        )
        with torch.no_grad():
            loss = float(query(model))
            found = self._found(model, query.batch, self._model.self_weight)
            alone = self._found(NoFusion(), query.batch, 1.0)
        return Judgement(task, before, loss, found, alone, time.perf_counter() - started)

    def model(self, weights: Weights) -> AffineFusion:
        """Return the model of one pair with these weights, on the worker's device."""
        return AffineFusion(
            torch.tensor(weights.arrays["omega"], device=self.device),
            torch.tensor(weights.arrays["theta"], device=self.device)[None],
            self.sampler.shards.grid,
            self._model.operator,
        )

    def set_loss(self, batch: FusionBatch) -> SetLoss:
        """Return the heatmap loss on some samples, on the worker's device."""
        sigma_px = self._model.target_sigma * self.sampler.shards.grid[1]
        truth_BJHW = target_heatmaps(batch, sigma_px).to(self.device)
        return SetLoss(batch.to(self.device), truth_BJHW, self._model.self_weight)

    def _found(
        self, model: AffineFusion | NoFusion, batch: FusionBatch, self_weight: float
    ) -> float:
        """Return the share of the visible joints that the fused heatmaps find."""
        crop_px = self.sampler.shards.manifest.crop_px
        fused_BJHW = model(batch, self_weight)
        grid = (fused_BJHW.shape[-2], fused_BJHW.shape[-1])
        found_BJ2, truth_BJ2 = (
            crop_from_heatmap(px.double().cpu().numpy(), crop_px, grid)
            for px in (decode_argmax(fused_BJHW)[0], batch.label_BJ2)
        )
        visible_BJ = batch.visibility_BJ.cpu().numpy() > 0
        return float(np.nanmean(detections(found_BJ2, truth_BJ2, visible_BJ, crop_px)))


def _of_theta(map_: LinearMap | None) -> dict[str, LinearMap]:
    return {} if map_ is None else {"theta_VP23": map_}


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
