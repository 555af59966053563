"""Meta-train over the training cameras of a shard set: pairs of them, or whole rigs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from metafuse_ray.cluster.groups import GroupedPool
from metafuse_ray.cluster.metrics import RayMetricsSink
from metafuse_ray.cluster.placement import cameras_of
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.config.schema import ClusterConfig, RunConfig
from metafuse_ray.errors import CheckpointError, ConfigError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.checkpoint import (
    CHECKPOINT_FOLDER,
    OPTIMIZER_FILE,
    STATE_FILE,
    prune,
    restore,
    save_checkpoint,
)
from metafuse_ray.meta.pool import InProcessPool, TaskPool
from metafuse_ray.meta.reduce import Reducer
from metafuse_ray.meta.sinks import (
    EVENTS_FOLDER,
    EVENTS_PATTERN,
    METRICS_FILE,
    ConsoleSink,
    JsonLogSink,
    JsonlSink,
    TensorBoardSink,
)
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord, Sink
from metafuse_ray.meta.weights_file import (
    FINAL_FOLDER,
    MODEL_FILE,
    read_tensors,
    used_camera_digests,
    weights_bytes,
    weights_path,
)
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.methods.metafuse.worker import TaskWorker
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.plus.worker import RigWorker
from metafuse_ray.runs.outputs import (
    CONFIG_FILE,
    clear_earlier_training,
    clear_later_training,
    start_run,
)
from metafuse_ray.runs.resume import find_checkpoint
from metafuse_ray.runs.training_pairs import keep_trainable
from metafuse_ray.samples.episodes import EpisodeSampler
from metafuse_ray.samples.rig_episodes import training_rigs
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.files import atomic_file, flush_to_disk
from metafuse_ray.storage.location import join
from metafuse_ray.storage.working_folder import WorkingFolder, working_folder

_log = logging.getLogger(__name__)
_OWNED = re.compile(
    "|".join(
        (
            re.escape(CONFIG_FILE),
            re.escape(METRICS_FILE),
            rf"{EVENTS_FOLDER}/{EVENTS_PATTERN.replace('.', '[.]').replace('*', '[^/]*')}",
            rf"{FINAL_FOLDER}/{re.escape(MODEL_FILE)}",
            rf"{CHECKPOINT_FOLDER}/round_\d{{6,}}/"
            rf"({'|'.join(map(re.escape, (MODEL_FILE, OPTIMIZER_FILE, STATE_FILE)))})",
        )
    )
)
"""Files that a meta-training leaves in its folder."""


def meta_train(config: RunConfig) -> str:
    """Run the outer loop and leave ``final/model.safetensors`` and ``metrics.jsonl``.

    Tasks are camera pairs (Algorithm 1) or whole rigs (MetaFuse+), as ``meta.tasks`` says.
    With ``checkpoint.resume`` it goes on from the newest whole checkpoint of the folder, and ends
    with the weights of a run that was never interrupted. Otherwise what an earlier run left there
    is removed before the first round.

    Returns:
        The run's folder, ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    _check_cluster(config.cluster)
    shards = open_shards(config)
    resume = config.checkpoint.resume
    with working_folder(config.output.dir, _OWNED, resume=resume) as folder:
        _train(config, shards, folder)
    return config.output.dir


def _train(config: RunConfig, shards: ShardSet, folder: WorkingFolder) -> None:
    run = folder.path
    checkpoint = find_checkpoint(config, run, shards.manifest.digest)
    if checkpoint is not None and checkpoint.round == config.meta.rounds and _is_final(run):
        _log.info("%s has gone its %d rounds: nothing to do", folder.location, checkpoint.round)
        return
    rigs = training_rigs(config, shards) if config.meta.tasks == "rigs" else []
    pairs = _rig_pairs(rigs) if rigs else _training_pairs(config, shards)
    start = (
        PlusWeights.start(len(shards.skeleton))
        if rigs
        else start_weights(config.model, shards.grid, config.seed)
    )
    with closing(_open_pool(config, pairs)) as pool:
        start_run(config, folder)
        trainer = MetaTrainer(config, pairs, pool, start.named, rigs=rigs)
        if checkpoint is None:
            clear_earlier_training(run)
        else:
            restore(trainer, checkpoint)
            clear_later_training(run, checkpoint.round)
            _log.info("going on from %s", checkpoint.path)
        used = {name for rig in rigs for name in rig} or cameras_of(pairs)
        cameras = used_camera_digests(shards.rig, used)
        trainer.sinks = _sinks(config, folder, trainer, shards.manifest.digest, cameras)
        trainer.fit(config.meta.rounds)
        with atomic_file(run / FINAL_FOLDER / MODEL_FILE) as path:
            path.write_bytes(weights_bytes(trainer.outer.tensors, trainer.round, cameras))
    _log.info("weights: %s", join(folder.location, f"{FINAL_FOLDER}/{MODEL_FILE}"))


def _training_pairs(config: RunConfig, shards: ShardSet) -> list[CameraPair]:
    pairs = shards.rig.subset(shards.manifest.train_cameras).pairs()
    if not pairs:
        raise ConfigError(
            f"{config.data.shards} has {len(shards.manifest.train_cameras)} training camera(s) and"
            " a pair needs two: lower data.test_camera_share and make the shards again"
        )
    sampler = EpisodeSampler(shards, config.episode.shots, config.seed)
    return keep_trainable(sampler, pairs, "2 episode.shots")


def _is_final(run: Path) -> bool:
    try:
        read_tensors(weights_path(run / FINAL_FOLDER / MODEL_FILE))
    except CheckpointError:
        return False
    return True


def _check_cluster(cluster: ClusterConfig) -> None:
    if cluster.backend == "in_process" and cluster.gpus_per_actor > 0:
        raise ConfigError(
            f"cluster.gpus_per_actor={cluster.gpus_per_actor:g} with cluster.backend=in_process:"
            " GPUs are for Ray actors; set cluster.backend=ray or cluster.gpus_per_actor=0",
            key="cluster.gpus_per_actor",
        )
    if cluster.groups > cluster.actors:
        raise ConfigError(
            f"cluster.groups={cluster.groups} groups cannot share cluster.actors={cluster.actors}"
            " actors; lower cluster.groups",
            key="cluster.groups",
        )


def _open_pool(config: RunConfig, pairs: Sequence[CameraPair]) -> TaskPool | Reducer:
    make_worker = RigWorker if config.meta.tasks == "rigs" else TaskWorker
    if config.cluster.backend == "in_process":
        return InProcessPool(config, pairs, make_worker)
    if config.cluster.groups > 1:
        return GroupedPool(config, pairs, make_worker)
    return RayTaskPool(config, pairs, make_worker)


def _rig_pairs(rigs: Sequence[tuple[str, ...]]) -> list[CameraPair]:
    """Return where the rigs are at home: a pair of cameras each."""
    return sorted({CameraPair(*rig[:2]) for rig in rigs})


def _sinks(
    config: RunConfig,
    folder: WorkingFolder,
    trainer: MetaTrainer,
    shards: str,
    cameras: Mapping[str, str],
) -> list[Sink]:
    run = folder.path

    def checkpoint(record: RoundRecord) -> None:
        if record.round % config.checkpoint.every == 0 or record.round == config.meta.rounds:
            # The curves first: they must reach as far as the checkpoint, whatever happens.
            for path in (run / METRICS_FILE, *(run / EVENTS_FOLDER).glob(EVENTS_PATTERN)):
                flush_to_disk(path)
            save_checkpoint(run / CHECKPOINT_FOLDER, trainer, shards, cameras)
            prune(run / CHECKPOINT_FOLDER, config.checkpoint.keep)
            folder.try_to_publish(last=STATE_FILE)

    after = trainer.round
    sentences = ConsoleSink(config.meta.rounds, config.meta.log_every)
    sinks: list[Sink] = [
        JsonLogSink() if config.output.log_json else sentences,
        JsonlSink(run, after),
    ]
    if config.output.tensorboard:
        sinks.append(TensorBoardSink(run, after))
    if config.cluster.backend == "ray":
        sinks.append(RayMetricsSink())
    return [*sinks, checkpoint]
