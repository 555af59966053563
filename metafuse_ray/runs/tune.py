"""Search a problem's settings, and compare the best ones with the configuration's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.benchmark.results import plain
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.config.load import config_tree, dump_config
from metafuse_ray.config.section import replaced
from metafuse_ray.errors import CheckpointError, ConfigError, NotEnoughFramesError
from metafuse_ray.meta.checkpoint import newest_checkpoint
from metafuse_ray.meta.tasks import Judgement, Weights
from metafuse_ray.methods.table import PROBLEMS
from metafuse_ray.runs.job import job
from metafuse_ray.runs.outputs import start_run
from metafuse_ray.runs.problems import build_trial, own_settings
from metafuse_ray.runs.resume import decisive_settings, differing_settings
from metafuse_ray.runs.settings import RunConfig, config_from_tree
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.files import atomic_file, storage_errors
from metafuse_ray.storage.location import is_uri
from metafuse_ray.storage.working_folder import WorkingFolder
from metafuse_ray.tuning.report import best_header, print_tune_report, write_tune_report
from metafuse_ray.tuning.search_space import rungs, search_space
from metafuse_ray.tuning.sweep import search
from metafuse_ray.tuning.trial import Sweep, checkpoint_folder, judge
from metafuse_ray.tuning.trials import Trial, best_trial

_log = logging.getLogger(__name__)
_FREE = (
    *("meta.log_every", "meta.max_bad_tasks", "tune.trials", "tune.searcher", "tune.scheduler"),
    *("tune.metric", "tune.final_draws", "tune.driver_cpus", "tune.concurrent"),
)
"""Settings that change which trials there are, or how they run, but no number of a trial."""
SWEEP_FILE, RESULT_FILE, BEST_FILE = "sweep.json", "tune.json", "best.yaml"


def _reads(config: RunConfig) -> tuple[str, ...]:
    cluster = ("backend", "address", "actors", "max_actors", "cpus_per_actor", "gpus_per_actor",
               "threads", "max_retries", "straggler_factor")  # fmt: skip
    return (
        *PROBLEMS[config.problem.kind].reads,
        *("outer.optimizer", "outer.clip_norm", "tune", "checkpoint.resume", "output.dir"),
        *("meta.rounds", "meta.meta_batch_size", "meta.max_bad_tasks"),
        *(f"cluster.{name}" for name in cluster),
    )


@job(_reads, resumes=True)
def tune(config: RunConfig) -> Path:
    """Run a sweep over the settings that the problem searches, or go on with one, and report.

    Leaves `best.yaml`, which meta_train takes as it is, `tune.json`, `tune.md` and `tune.png` in
    ``output.dir``, and prints how the best settings compare.

    Returns:
        Path of `best.yaml`.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    if config.cluster.backend != "ray":
        raise ConfigError(
            "cluster.backend=in_process: a sweep's trials run on Ray; leave cluster.backend=ray",
            key="cluster.backend",
        )
    if is_uri(config.output.dir):
        raise ConfigError(
            f"output.dir: {config.output.dir} is a URI, but the trials of a sweep share a folder"
            " that all nodes see; give a path there (the shards may lie at a URI)",
            key="output.dir",
        )
    shards = open_shards(config.data)
    sweep = plan_sweep(config)
    tree, digest = config_tree(config), shards.manifest.digest
    _open_folder(sweep, tree, digest, resume=config.checkpoint.resume)
    if not _is_done(sweep):
        search(sweep)
    document = plain(_document(sweep, tree, shards, sweep.store.all()))
    for name, text in (
        (RESULT_FILE, json.dumps(document, indent=1, allow_nan=False)),
        (BEST_FILE, best_header(document) + dump_config(_best(sweep, document))),
    ):
        with atomic_file(sweep.folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    picture = write_tune_report(document, sweep.folder)
    print_tune_report(document, sweep.folder / BEST_FILE, picture)
    return sweep.folder / BEST_FILE


def plan_sweep(config: RunConfig) -> Sweep:
    """Return the sweep; check that every trial has tasks, and cameras to be judged on.

    Raises:
        ConfigError: There are too few training cameras, or a range is impossible.
        NotEnoughFramesError: No task has the frames for the largest of the searched numbers, or
            no held-out task has enough to be judged on.
    """
    # Workers on other nodes, or in other folders, as those of trials are, find the data too.
    if not is_uri(config.data.shards):
        there = str(Path(config.data.shards).resolve())
        config = replaced(config, data=replaced(config.data, shards=there))
    row = PROBLEMS[config.problem.kind]
    own = own_settings(config_tree(config), row.searched)
    space = search_space(row.searched, own, config.tune.ranges)
    largest = {one.name: int(one.high) for one in space if one.integer}
    problem, _ = build_trial(config, {**own, **largest})
    if not problem.held_out():
        raise NotEnoughFramesError(
            "a sweep judges its trials on training cameras that are held out, and there are none:"
            " set held_out.cameras to 2 or more, train on more cameras, or record more",
            frames=0,
        )
    _log.info("%s; judged on %d tasks of held-out cameras", problem.describe(),
              len(problem.held_out()))  # fmt: skip
    return Sweep(
        build=partial(build_trial, config, row=row),
        space=space,
        own=own,
        shards=(config.data.shards, config.data.cache_dir),
        folder=Path(config.output.dir).resolve(),
        rungs=rungs(config.tune.first_rung, config.tune.reduction, config.meta.rounds),
        meta=config.meta,
        outer=config.outer,
        cluster=config.cluster,
        tune=config.tune,
        seed=config.seed,
    )


def _is_done(sweep: Sweep) -> bool:
    """Whether there are as many trials as asked for, the configuration's own among them."""
    done = [trial for trial in sweep.store.all() if trial.state != "running"]
    return len(done) >= sweep.tune.trials and any(trial.settings == sweep.own for trial in done)


def _open_folder(sweep: Sweep, tree: Mapping[str, Any], digest: str, *, resume: bool) -> None:
    """Begin a sweep's folder, or check that the one that is there may go on."""
    path = sweep.folder / SWEEP_FILE
    if path.is_file() and not resume:
        raise ConfigError(
            f"output.dir: {sweep.folder} holds a sweep; go on with it by --resume, or choose"
            " another folder",
            key="output.dir",
        )
    if path.is_file():
        before, shards_before = _read_sweep_file(path)
        read = tune.reads(config_from_tree(tree, "the settings"))
        decisive = [*decisive_settings(read), "tune", "meta.rounds"]
        different = list(differing_settings(before, tree, decisive, _FREE))
        if shards_before != digest:
            different.append(f"the content of the shards differs (now {tree['data']['shards']})")
        if different:
            raise CheckpointError(
                f"{sweep.folder} holds a sweep with other settings: {'; '.join(different)}; set"
                " these as they were, or choose another output.dir",
                path=str(sweep.folder),
                different=different,
            )
    start_run(
        dump_config(config_from_tree(tree, "the settings")),
        WorkingFolder(str(sweep.folder), sweep.folder),
    )
    if not path.is_file():
        with atomic_file(path) as partial:
            partial.write_text(json.dumps({"config": tree, "shards": digest}), encoding="utf-8")


def _read_sweep_file(path: Path) -> tuple[dict[str, Any], str]:
    with storage_errors(path, "reading"):
        text = path.read_bytes()
    try:
        content = json.loads(text)
        return dict(content["config"]), str(content["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); choose another output.dir", path=str(path)
        ) from None


def _document(
    sweep: Sweep, tree: Mapping[str, Any], shards: ShardSet, trials: Sequence[Trial]
) -> dict[str, Any]:
    """Collect all that the report shows; judge the best trial and the defaults on new draws."""
    metric = sweep.tune.metric
    best = best_trial(trials, metric)
    defaults = next(trial for trial in trials if trial.settings == sweep.own)
    comparison = compare(sweep, [defaults, best])
    problem, _ = sweep.build(sweep.own)
    gain = comparison["gain"]["jdr"] if metric == "jdr" else -comparison["gain"]["loss"]
    return {
        "trials": [asdict(trial) for trial in trials],
        "space": [asdict(one) for one in sweep.space],
        "rungs": list(sweep.rungs),
        "metric": metric,
        "defaults": defaults.number,
        "best": best.number,
        # What looked best on the frames of the search may not be best on others.
        "chosen": defaults.number if gain < 0 else best.number,
        "comparison": comparison,
        "data": {
            "shards": shards.manifest.source,
            "grid": shards.grid,
            "held_out": [task.name for task in problem.held_out()],
            "tasks": len(problem.tasks()),
        },
        "config": tree,
    }


def compare(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """Judge the weights of two trials on the same new frames of every held-out task.

    Returns:
        Means of each, and of the paired difference (second less first) with its standard error
        over tasks.
    """
    draws = range(1, 1 + sweep.tune.final_draws)
    found: list[list[Judgement]] = []
    with ensure_ray(sweep.cluster):
        for trial in trials:
            problem, _ = sweep.build(trial.settings)
            with closing(RayTaskPool(problem, sweep.cluster)) as pool:
                found.append(judge(pool, problem, _final_weights(sweep, trial), draws))
    shape = (len(draws), len(found[0]) // len(draws))
    jdr_TDP = 100 * np.array([[score.jdr for score in scores] for scores in found])
    loss_TDP = np.array([[score.loss for score in scores] for scores in found])
    alone = 100 * float(np.mean([score.jdr_alone for score in found[0]]))
    gain, error = {}, {}
    for name, values in (("jdr", jdr_TDP), ("loss", loss_TDP)):
        by_task = (values[1] - values[0]).reshape(shape).mean(0)
        gain[name] = float(by_task.mean())
        error[name] = float(by_task.std(ddof=1) / np.sqrt(len(by_task))) if len(by_task) > 1 else 0
    return {
        "draws": len(draws),
        "jdr_alone": alone,
        "defaults": {"jdr": float(jdr_TDP[0].mean()), "loss": float(loss_TDP[0].mean())},
        "best": {"jdr": float(jdr_TDP[1].mean()), "loss": float(loss_TDP[1].mean())},
        "gain": gain,
        "error": error,
    }


def _final_weights(sweep: Sweep, trial: Trial) -> Weights:
    folder = checkpoint_folder(sweep, trial.settings)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(
            f"{folder} has lost the weights of trial {trial.number}; remove {folder.parent} and go"
            " on with --resume: that trial is run again",
            path=str(folder),
        )
    return Weights({name: tensor.numpy() for name, tensor in checkpoint.weights.items()})


def _best(sweep: Sweep, document: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with the chosen settings, for a run of its own."""
    chosen = next(one for one in document["trials"] if one["number"] == document["chosen"])
    _, tree = sweep.build(chosen["settings"])
    output = {**tree["output"], "dir": str(Path(tree["output"]["dir"]) / "best")}
    checkpoint = {**tree["checkpoint"], "resume": False}
    tree = {**tree, "output": output, "checkpoint": checkpoint}
    return config_from_tree(tree, "the sweep")
