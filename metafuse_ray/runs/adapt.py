"""Adapt the meta-learned fusion to one rig: what a lab with new cameras runs."""

from __future__ import annotations

import logging
import re
from importlib.metadata import version
from typing import Any

import numpy as np

from metafuse_ray.benchmark.judged_samples import JudgedSamples
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.errors import ConfigError, NotEnoughFramesError
from metafuse_ray.export.adapted_rig import save_adapted_rig
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig, Choice
from metafuse_ray.methods.metafuse.fused_rig import FusedRig
from metafuse_ray.methods.metafuse.fusion import NoFusion
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.table import METHODS
from metafuse_ray.reports.adapt_report import print_adapt_report, rig_scores
from metafuse_ray.reports.heatmap_sheet import SHEET_FILE, adapted_sheet
from metafuse_ray.runs.adapt_pairs import PairAdaptation, pair_adaptation
from metafuse_ray.runs.adapt_plus import PlusAdaptation, plus_adaptation
from metafuse_ray.runs.job import job
from metafuse_ray.runs.other_recording import open_test_shards
from metafuse_ray.runs.outputs import check_apart, start_run
from metafuse_ray.runs.reads import JUDGED, LABELLED, SHARDS
from metafuse_ray.runs.rig_choice import choose_rig
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.runs.weights import fold_path, load_weights
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.working_folder import working_folder

_log = logging.getLogger(__name__)
_OWNED = re.compile(re.escape(SHEET_FILE))
"""What an earlier run may leave that a later one does not replace."""
_ALONE = Choice(0.0, 1.0, 1.0, float("nan"), float("nan"))


def _reads(config: RunConfig) -> set[str]:
    row = METHODS.get(method_of(config), METHODS["MetaFuse"])
    own = {"adapt.method", "adapt.cameras", "adapt.frames", f"weights.{row.name}"}
    if row.calibration == "optional":
        own.add("adapt.calibration")
    if config.adapt.cameras is None:
        own |= {"evaluate.views", "evaluate.rigs"}
    return {*own, *SHARDS, *LABELLED, *JUDGED, *row.reads, "seed", "data.sequence",
            "output.dir", "cluster.threads"}  # fmt: skip


@job(_reads)
def adapt(config: RunConfig) -> str:
    """Adapt MetaFuse+ or MetaFuse to a rig, as ``adapt.method`` says.

    Leaves `rig.safetensors`, `rig.json` (`metafuse_ray.export.adapted_rig` reads them back) and a
    sheet of heatmaps in ``output.dir``, prints a table and says where they lie. The labelled
    frames, and so the result, are those of `evaluate` for the same rig and N.

    Returns:
        ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    limit_threads(config.cluster.threads)
    shards = open_shards(config.data)
    run = adapted_run(config)
    weights = load_weights(run, METHODS[method_of(config)], shards)
    cameras = choose_rig(config, run, shards)
    test_shards = open_test_shards(config.data, shards)
    test = _load_judged(config.samples, test_shards, cameras, whole=test_shards is not shards)
    if isinstance(weights, PlusWeights):
        asked = None if test is None else test.batch
        adaptation = plus_adaptation(config, shards, cameras, weights, asked)
    else:
        adaptation = pair_adaptation(config, shards, cameras, weights)
    check_apart(config.output.dir, [run])
    with working_folder(config.output.dir, _OWNED, resume=False) as folder:
        start_run(config, folder)
        adapted, store = adaptation.adapt()
        rig = shards.rig.subset(cameras)
        figures: dict[str, Any] = {}
        if test is not None:
            ways = config.triangulate
            figures = {
                "samples": len(test.batch),
                "alone": rig_scores(_alone(rig), test, ways, "exact"),
                "fused": rig_scores(adapted, test, ways, adaptation.given),
            }
        stored = store(
            rig=rig,
            skeleton=shards.skeleton,
            grid=shards.grid,
            crop_px=shards.manifest.crop_px,
            test=figures,
            provenance=_provenance(config, run, shards, adaptation),
        )
        save_adapted_rig(folder.path, stored)

        path = folder.path / SHEET_FILE
        path.unlink(missing_ok=True)
        if test is None:
            shown, source, frames = adaptation.own_samples, shards, "the frames it was adapted on"
        else:
            shown, source, frames = test.batch, test_shards, "test frames"
        picture = adapted_sheet(
            adaptation.cell,
            adapted,
            shown,
            source,
            path,
            seed=config.seed,
            sequence=config.data.sequence,
            frames=frames,
        )
    print_adapt_report(stored, config.output.dir, picture)
    return config.output.dir


def method_of(config: RunConfig) -> str:
    """Return ``adapt.method``, or what it is where empty."""
    return config.adapt.method or ("MetaFuse+" if "MetaFuse+" in config.weights else "MetaFuse")


def adapted_run(config: RunConfig) -> str:
    """Return the run that the rig is adapted from.

    Raises:
        ConfigError: The method has no weights, or ``weights`` does not name them.
    """
    name = method_of(config)
    able = [row.name for row in METHODS.values() if row.ours]
    if name not in able:
        raise ConfigError(
            f"adapt.method: a rig cannot be adapted by {name!r:.60}; choose from {', '.join(able)}",
            key="adapt.method",
        )
    if name not in config.weights:
        raise ConfigError(
            f"weights.{name}: adapting a rig needs meta-learned weights; set it to the output.dir"
            " of jobs/meta_train.py",
            key=f"weights.{name}",
        )
    return fold_path(config.weights[name], config.data.fold)


def _load_judged(
    samples: SamplesConfig, test_shards: ShardSet, cameras: tuple[str, ...], *, whole: bool
) -> JudgedSamples | None:
    try:
        return JudgedSamples.load(test_shards, cameras, samples, whole=whole)
    except NotEnoughFramesError as error:
        _log.info("no test figures: %s", error.message)
        return None


def _alone(rig: Rig) -> FusedRig:
    """The views by themselves, triangulated with the calibration of the shards."""
    return FusedRig(AdaptedRig(tuple(NoFusion() for _ in rig.cameras), _ALONE), rig)


def _provenance(
    config: RunConfig, run: str, shards: ShardSet, adaptation: PlusAdaptation | PairAdaptation
) -> dict[str, Any]:
    return {
        "metafuse_ray": version("metafuse_ray"),
        "method": adaptation.cell.method,
        "checkpoint": run,
        "shards": config.data.shards,
        "data": shards.manifest.source,
        "test_shards": config.data.test_shards,
        "labelled_frames": adaptation.cell.labelled_frames,
        "labelled_clips": np.unique(adaptation.labelled_clips).tolist(),
        "seed": config.seed,
        **adaptation.provenance,
    }
