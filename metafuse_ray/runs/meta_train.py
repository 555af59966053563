"""Meta-train over the training cameras of a shard set."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from pathlib import Path

from metafuse_ray.cluster.groups import GroupedPool
from metafuse_ray.cluster.metrics import RayMetricsSink
from metafuse_ray.cluster.placement import cameras_of
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.load import config_tree, dump_config
from metafuse_ray.errors import CheckpointError, ConfigError
from metafuse_ray.meta.checkpoint import (
    CHECKPOINT_FOLDER,
    OPTIMIZER_FILE,
    STATE_FILE,
    Checkpoint,
    Origin,
    model_bytes,
    prune,
    restore,
    save_checkpoint,
)
from metafuse_ray.meta.pool import InProcessPool, TaskPool
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.reduce import Reducer
from metafuse_ray.meta.settings import CheckpointConfig, MetaConfig
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
    weights_path,
)
from metafuse_ray.methods.table import PROBLEMS
from metafuse_ray.reports.plots import learning_figure, save_figure
from metafuse_ray.reports.report import read_metrics
from metafuse_ray.runs.job import job
from metafuse_ray.runs.outputs import (
    CONFIG_FILE,
    clear_earlier_training,
    clear_later_training,
    start_run,
)
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.resume import decisive_settings, find_checkpoint
from metafuse_ray.runs.settings import OutputConfig, RunConfig
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.storage.files import atomic_file, flush_to_disk
from metafuse_ray.storage.location import join
from metafuse_ray.storage.working_folder import WorkingFolder, working_folder

_log = logging.getLogger(__name__)
CURVES_FILE = "learning_curves.png"
_OWNED = re.compile(
    "|".join(
        (
            re.escape(CONFIG_FILE),
            re.escape(METRICS_FILE),
            re.escape(CURVES_FILE),
            rf"{EVENTS_FOLDER}/{EVENTS_PATTERN.replace('.', '[.]').replace('*', '[^/]*')}",
            rf"{FINAL_FOLDER}/{re.escape(MODEL_FILE)}",
            rf"{CHECKPOINT_FOLDER}/round_\d{{6,}}/"
            rf"({'|'.join(map(re.escape, (MODEL_FILE, OPTIMIZER_FILE, STATE_FILE)))})",
        )
    )
)
"""Files that a meta-training leaves in its folder."""


def _reads(config: RunConfig) -> tuple[str, ...]:
    cluster = ["backend", "gpus_per_actor", "threads"]
    if config.cluster.backend == "ray":
        cluster += ["address", "actors", "max_actors", "groups", "cpus_per_actor", "max_retries"]
        cluster += ["straggler_factor"]
    said = [] if config.output.log_json else ["meta.log_every"]
    return (
        *PROBLEMS[config.problem.kind].reads,
        *("outer.optimizer", "outer.clip_norm", "held_out.every", "checkpoint", "output"),
        *("meta.rounds", "meta.meta_batch_size", "meta.max_bad_tasks", *said),
        *(f"cluster.{name}" for name in cluster),
    )


@job(_reads, resumes=True)
def meta_train(config: RunConfig) -> str:
    """Run the outer loop; leave ``final/model.safetensors``, ``metrics.jsonl`` and its picture.

    ``problem.kind`` names what is learned: MetaFuse over camera pairs (Algorithm 1), or MetaFuse+
    over whole rigs. With ``checkpoint.resume`` it goes on from the newest whole checkpoint of the
    folder, and ends with the weights of a run that was never interrupted. Otherwise what an earlier
    run left there is removed before the first round.

    Returns:
        The run's folder, ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    _check_cluster(config.cluster)
    shards = open_shards(config.data)
    digest, rounds, tree = shards.manifest.digest, config.meta.rounds, config_tree(config)
    resume = config.checkpoint.resume
    with working_folder(config.output.dir, _OWNED, resume=resume) as folder:
        run, checkpoint = folder.path, None
        if resume:
            decisive = decisive_settings(meta_train.reads(config))
            checkpoint = find_checkpoint(run, tree, decisive, digest, rounds)
        if checkpoint is not None and checkpoint.round == rounds and _is_final(run):
            _log.info("%s has done its %d rounds: nothing to do", folder.location, rounds)
            return config.output.dir
        problem = build_problem(config)
        _log.info("%s", problem.describe())
        with closing(_open_pool(problem, config.cluster, config.outer.clip_norm)) as pool:
            start_run(dump_config(config), folder)
            trainer = MetaTrainer(
                problem,
                pool,
                config.meta,
                config.outer,
                judge_every=config.held_out.every if problem.held_out() else 0,
                rounds=rounds,
            )
            _begin(trainer, run, checkpoint)
            cameras = used_camera_digests(shards.rig, cameras_of(problem.tasks()))
            origin = Origin(tree, digest, cameras)
            trainer.sinks = [
                *_shown(config.meta, config.output, run, trainer.round),
                *([RayMetricsSink()] if config.cluster.backend == "ray" else []),
                _saves(trainer, origin, config.checkpoint, folder, rounds),
            ]
            trainer.fit(rounds)
            with atomic_file(run / FINAL_FOLDER / MODEL_FILE) as path:
                path.write_bytes(model_bytes(trainer, origin))
        curves = learning_figure(read_metrics(run / METRICS_FILE), problem.kind)
        save_figure(curves, run / CURVES_FILE)
    _log.info("weights: %s", join(config.output.dir, f"{FINAL_FOLDER}/{MODEL_FILE}"))
    _log.info("curves: %s", join(config.output.dir, CURVES_FILE))
    return config.output.dir


def _begin(trainer: MetaTrainer, run: Path, checkpoint: Checkpoint | None) -> None:
    """Go on from a checkpoint, or start from the beginning; remove what is left beyond that."""
    if checkpoint is None:
        clear_earlier_training(run)
        return
    restore(trainer, checkpoint)
    clear_later_training(run, checkpoint.round)
    _log.info("going on from %s", checkpoint.path)


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
    if cluster.backend == "ray" and cluster.groups > cluster.actors:
        raise ConfigError(
            f"cluster.groups={cluster.groups} groups cannot share cluster.actors={cluster.actors}"
            " actors; lower cluster.groups",
            key="cluster.groups",
        )


def _open_pool(
    problem: Problem, cluster: ClusterConfig, clip_norm: float | None
) -> TaskPool | Reducer:
    if cluster.backend == "in_process":
        return InProcessPool(problem, cluster.threads)
    if cluster.groups > 1:
        return GroupedPool(problem, cluster, clip_norm)
    return RayTaskPool(problem, cluster)


def _shown(meta: MetaConfig, output: OutputConfig, run: Path, after: int) -> list[Sink]:
    """Return the sinks for a reader: console, `metrics.jsonl`, TensorBoard."""
    sinks: list[Sink] = [
        JsonLogSink() if output.log_json else ConsoleSink(meta.rounds, meta.log_every),
        JsonlSink(run, after),
    ]
    return [*sinks, TensorBoardSink(run, after)] if output.tensorboard else sinks


def _saves(
    trainer: MetaTrainer,
    origin: Origin,
    settings: CheckpointConfig,
    folder: WorkingFolder,
    rounds: int,
) -> Sink:
    """Return the sink that writes checkpoints, the last at the end."""
    run = folder.path

    def checkpoint(record: RoundRecord) -> None:
        if record.round % settings.every == 0 or record.round == rounds:
            # The curves first: they must reach as far as the checkpoint, whatever happens.
            for path in (run / METRICS_FILE, *(run / EVENTS_FOLDER).glob(EVENTS_PATTERN)):
                flush_to_disk(path)
            save_checkpoint(run / CHECKPOINT_FOLDER, trainer, origin)
            prune(run / CHECKPOINT_FOLDER, settings.keep)
            folder.try_to_publish(last=STATE_FILE)

    return checkpoint
