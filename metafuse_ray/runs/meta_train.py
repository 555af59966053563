"""Meta-train omega and theta over the training camera pairs of a shard set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.config.schema import ClusterConfig, RunConfig
from metafuse_ray.data.episodes import EpisodeSampler
from metafuse_ray.data.open_shards import open_shards
from metafuse_ray.errors import ConfigError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.checkpoint import prune, save_weights
from metafuse_ray.meta.pool import InProcessPool, TaskPool
from metafuse_ray.meta.sinks import ConsoleSink, JsonlSink, TensorBoardSink
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord, Sink
from metafuse_ray.models.start import start_weights
from metafuse_ray.runs.outputs import clear_earlier_training, start_run

_log = logging.getLogger(__name__)


def meta_train(config: RunConfig) -> Path:
    """Run Algorithm 1 and leave ``final/model.safetensors`` and ``metrics.jsonl``.

    Those of an earlier run in the same folder are removed before the first round.

    Returns:
        The run's folder, ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    _check_backend(config.cluster)
    shards = open_shards(config)
    pairs = shards.rig.subset(shards.manifest.train_cameras).pairs()
    if not pairs:
        raise ConfigError(
            f"{config.data.shards} has {len(shards.manifest.train_cameras)} training camera(s) and"
            " a pair needs two: lower data.test_camera_share and make the shards again"
        )
    sampler = EpisodeSampler(shards, config.episode.shots, config.seed)
    pairs, every = sampler.trainable(pairs), len(pairs)
    if len(pairs) < every:
        _log.warning(
            "%d of %d camera pairs left out: fewer than %d images seen by both (2 episode.shots)",
            every - len(pairs),
            every,
            2 * config.episode.shots,
        )
    start = start_weights(config.model, shards.grid, config.seed)
    with closing(_open_pool(config, pairs)) as pool:
        run = start_run(config)
        clear_earlier_training(run)
        trainer = MetaTrainer(config, pairs, pool, start)
        trainer.sinks = _sinks(config, run, trainer)
        trainer.fit(config.meta.rounds)
        save_weights(run / "final", trainer.outer, trainer.round)
    _log.info("weights: %s", run / "final" / "model.safetensors")
    return run


def _check_backend(cluster: ClusterConfig) -> None:
    if cluster.backend == "in_process" and cluster.gpus_per_actor > 0:
        raise ConfigError(
            f"cluster.gpus_per_actor={cluster.gpus_per_actor:g} with cluster.backend=in_process:"
            " GPUs are for Ray actors; set cluster.backend=ray or cluster.gpus_per_actor=0",
            key="cluster.gpus_per_actor",
        )


def _open_pool(config: RunConfig, pairs: Sequence[CameraPair]) -> TaskPool:
    if config.cluster.backend == "ray":
        return RayTaskPool(config, pairs)
    return InProcessPool(config, pairs)


def _sinks(config: RunConfig, run: Path, trainer: MetaTrainer) -> list[Sink]:
    def checkpoint(record: RoundRecord) -> None:
        if record.round % config.checkpoint.every == 0:
            folder = run / "checkpoints"
            save_weights(folder / f"round_{record.round:06d}", trainer.outer, record.round)
            prune(folder, config.checkpoint.keep)

    sinks: list[Sink] = [ConsoleSink(config.meta.rounds, config.meta.log_every), JsonlSink(run)]
    if config.output.tensorboard:
        sinks.append(TensorBoardSink(run))
    return [*sinks, checkpoint]
