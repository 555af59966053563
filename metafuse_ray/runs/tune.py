"""Search alpha, beta and K, and hold the best settings against the configuration's own."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.benchmark.results import plain
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.config.load import config_tree, dump_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import CheckpointError, ConfigError
from metafuse_ray.meta.checkpoint import newest_checkpoint
from metafuse_ray.meta.tasks import Weights
from metafuse_ray.methods.metafuse.held_out import (
    HeldOutWorker,
    PairScore,
    judge,
    pairs_to_judge,
    split_held_out,
)
from metafuse_ray.runs.outputs import start_run
from metafuse_ray.runs.resume import DECISIVE, differing_settings
from metafuse_ray.runs.training_pairs import keep_trainable
from metafuse_ray.samples.episodes import EpisodeSampler
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.files import atomic_file, storage_errors
from metafuse_ray.storage.location import is_uri
from metafuse_ray.storage.working_folder import WorkingFolder
from metafuse_ray.tuning.report import best_header, print_tune_report, write_tune_report
from metafuse_ray.tuning.search_space import (
    ALPHA,
    SearchRange,
    rungs,
    search_space,
    settings_of,
    with_settings,
)
from metafuse_ray.tuning.sweep import search
from metafuse_ray.tuning.trial import Sweep, checkpoint_folder
from metafuse_ray.tuning.trials import Trial, TrialStore, best_trial

_log = logging.getLogger(__name__)
_FREE = (
    *("meta.log_every", "meta.max_bad_tasks", "tune.trials", "tune.searcher", "tune.scheduler"),
    *("tune.metric", "tune.final_draws", "tune.driver_cpus", "tune.concurrent"),
)
"""Settings that change which trials there are, or how they run, but no number of one."""
SWEEP_FILE, RESULT_FILE, BEST_FILE = "sweep.json", "tune.json", "best.yaml"


def tune(config: RunConfig) -> Path:
    """Run a sweep over camera pairs, whatever ``meta.tasks`` is, or go on with one, and report.

    Leaves `best.yaml`, which meta_train takes as it is, `tune.json`, `tune.md` and `tune.png` in
    ``output.dir``, and prints where the best settings stand.

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
    # Alpha, beta and K are Algorithm 1's: MetaFuse+ has none of them.
    replace: Any = dataclasses.replace  # pyright knows no fields of a pydantic dataclass
    config = replace(config, meta=replace(config.meta, tasks="pairs"))
    space = search_space(config)
    shards = open_shards(config)
    sweep = plan_sweep(config, shards, space)
    _open_folder(sweep, shards)
    store = TrialStore(sweep.folder)
    if sum(trial.state != "running" for trial in store.all()) < config.tune.trials:
        search(sweep, space)
    document = plain(_document(sweep, shards, space, store.all()))
    for name, text in (
        (RESULT_FILE, json.dumps(document, indent=1, allow_nan=False)),
        (BEST_FILE, _best_yaml(sweep, document)),
    ):
        with atomic_file(sweep.folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    picture = write_tune_report(document, sweep.folder)
    print_tune_report(document, sweep.folder / BEST_FILE, picture)
    return sweep.folder / BEST_FILE


def plan_sweep(config: RunConfig, shards: ShardSet, space: Sequence[SearchRange]) -> Sweep:
    """Split the training cameras, and keep the pairs that have the frames every trial needs.

    Raises:
        ConfigError: There are too few training cameras.
        NotEnoughFramesError: No pair has enough frames for the largest K, or to be judged on.
    """
    cameras = shards.manifest.train_cameras
    train, held = split_held_out(cameras, config.tune.held_out_cameras, config.seed)
    most_shots = int(space[-1].high)
    sampler = EpisodeSampler(shards, most_shots, config.seed)
    every = shards.rig.subset(train).pairs()
    train_pairs = keep_trainable(sampler, every, "twice the largest K of tune.shots")
    judged = pairs_to_judge(shards, shards.rig.subset(held).pairs(), config.tune)
    _log.info(
        "training on %d pairs of %d cameras, judging on %d pairs of %s",
        len(train_pairs),
        len(train),
        len(judged),
        ", ".join(held),
    )
    steps = rungs(config.tune.first_rung, config.tune.reduction, config.meta.rounds)
    # Workers on other nodes, or in other folders, as those of trials are, find both too.
    folder = Path(config.output.dir).resolve()
    if not is_uri(config.data.shards):
        replace: Any = dataclasses.replace  # pyright knows no fields of a pydantic dataclass
        there = str(Path(config.data.shards).resolve())
        config = replace(config, data=replace(config.data, shards=there))
    return Sweep(config, folder, train_pairs, judged, steps)


def _open_folder(sweep: Sweep, shards: ShardSet) -> None:
    """Begin a sweep's folder, or check that the one that is there may go on."""
    path = sweep.folder / SWEEP_FILE
    tree, digest = config_tree(sweep.config), shards.manifest.digest
    if path.is_file() and not sweep.config.checkpoint.resume:
        raise ConfigError(
            f"output.dir: {sweep.folder} holds a sweep; go on with it by --resume, or choose"
            " another folder",
            key="output.dir",
        )
    if path.is_file():
        before, shards_before = _read_sweep_file(path)
        different = list(differing_settings(before, tree, (*DECISIVE, "tune"), _FREE))
        if shards_before != digest:
            different.append(f"the shards have another content (now {sweep.config.data.shards})")
        if different:
            raise CheckpointError(
                f"{sweep.folder} holds a sweep with other settings: {'; '.join(different)}; set"
                " these as they were, or choose another output.dir",
                path=str(sweep.folder),
                different=different,
            )
    start_run(sweep.config, WorkingFolder(str(sweep.folder), sweep.folder))
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
    sweep: Sweep, shards: ShardSet, space: Sequence[SearchRange], trials: Sequence[Trial]
) -> dict[str, Any]:
    """Collect all that the report shows, and judge the best trial and the defaults afresh."""
    metric = sweep.config.tune.metric
    best = best_trial(trials, metric)
    defaults = next(trial for trial in trials if trial.settings == settings_of(sweep.config))
    comparison = compare(sweep, [defaults, best])
    gain = comparison["gain"]["jdr"] if metric == "jdr" else -comparison["gain"]["loss"]
    return {
        "trials": [asdict(trial) for trial in trials],
        "space": [asdict(one) for one in space],
        "rungs": list(sweep.rungs),
        "metric": metric,
        "defaults": defaults.number,
        "best": best.number,
        # What looked best on the frames of the search need not be so on others.
        "chosen": defaults.number if gain < 0 else best.number,
        "comparison": comparison,
        "data": {
            "shards": shards.manifest.source,
            "grid": shards.grid,
            "held_out_pairs": [str(pair) for pair in sweep.held_out_pairs],
            "train_pairs": len(sweep.train_pairs),
        },
        "config": config_tree(sweep.config),
    }


def compare(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """Judge the weights of two trials on the same fresh frames of every held-out pair.

    Returns:
        Means of each, and of the paired difference (second less first) with its standard error
        over pairs.
    """
    draws = range(1, 1 + sweep.config.tune.final_draws)
    found: list[list[PairScore]] = []
    with closing(RayTaskPool(sweep.config, sweep.held_out_pairs, HeldOutWorker)) as pool:
        for trial in trials:
            weights = _final_weights(sweep, trial)
            alpha = trial.settings[ALPHA]
            found.append(judge(pool, weights, sweep.held_out_pairs, draws=draws, alpha=alpha))
    shape = (len(draws), len(sweep.held_out_pairs))
    jdr_TDP = 100 * np.array([[score.jdr for score in scores] for scores in found])
    loss_TDP = np.array([[score.loss for score in scores] for scores in found])
    alone = 100 * float(np.mean([score.jdr_alone for score in found[0]]))
    gain, error = {}, {}
    for name, values in (("jdr", jdr_TDP), ("loss", loss_TDP)):
        by_pair = (values[1] - values[0]).reshape(shape).mean(0)
        gain[name] = float(by_pair.mean())
        error[name] = float(by_pair.std(ddof=1) / np.sqrt(len(by_pair))) if len(by_pair) > 1 else 0
    return {
        "draws": len(draws),
        "jdr_alone": alone,
        "defaults": {"jdr": float(jdr_TDP[0].mean()), "loss": float(loss_TDP[0].mean())},
        "best": {"jdr": float(jdr_TDP[1].mean()), "loss": float(loss_TDP[1].mean())},
        "gain": gain,
        "error": error,
    }


def _final_weights(sweep: Sweep, trial: Trial) -> Weights:
    folder = checkpoint_folder(sweep.folder, trial.settings)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(
            f"{folder} has lost the weights of trial {trial.number}; remove {folder.parent} and go"
            " on with --resume: that trial is run again",
            path=str(folder),
        )
    return Weights({name: tensor.numpy() for name, tensor in checkpoint.weights.items()})


def _best_yaml(sweep: Sweep, document: Mapping[str, Any]) -> str:
    """Return the configuration with the chosen settings, and what speaks for them, as YAML."""
    replace: Any = dataclasses.replace  # pyright knows no fields of a pydantic dataclass
    chosen = document["trials"][document["chosen"] - 1]
    config = with_settings(sweep.config, chosen["settings"])
    folder = str(Path(config.output.dir) / "best")
    config = replace(
        config,
        output=replace(config.output, dir=folder),
        checkpoint=replace(config.checkpoint, resume=False),
    )
    return best_header(document) + dump_config(config)
