"""Adapt the meta-learned fusion to one rig: what a lab with new cameras runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.benchmark.cells import Cell
from metafuse_ray.benchmark.judged_samples import JudgedSamples
from metafuse_ray.benchmark.settings import Calibration
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.config.choice import chosen
from metafuse_ray.config.load import dump_config
from metafuse_ray.errors import ConfigError, NotEnoughFramesError
from metafuse_ray.export.adapted_rig import save_adapted_rig
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import AdaptedMethod
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig, Choice, Choosing
from metafuse_ray.methods.metafuse.fused_rig import FusedRig
from metafuse_ray.methods.metafuse.fusion import NoFusion
from metafuse_ray.methods.metafuse.fusion_methods import AffineMethod
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.row import MethodRow
from metafuse_ray.methods.table import METHODS
from metafuse_ray.reports.adapt_report import print_adapt_report, rig_scores
from metafuse_ray.reports.heatmap_sheet import SHEET_FILE, adapted_sheet
from metafuse_ray.runs.adapt_pairs import PairAdaptation, labelled_batch
from metafuse_ray.runs.adapt_plus import PlusAdaptation, plus_adaptation
from metafuse_ray.runs.job import job
from metafuse_ray.runs.other_recording import open_test_shards
from metafuse_ray.runs.outputs import check_apart, start_run
from metafuse_ray.runs.reads import JUDGED, LABELLED, SHARDS, of_method
from metafuse_ray.runs.rig_choice import choose_rig
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.runs.weights import fold_path, load_weights
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.samples.settings import SamplesConfig, TriangulateConfig
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.working_folder import working_folder

_log = logging.getLogger(__name__)
_OWNED = re.compile(re.escape(SHEET_FILE))
"""Files of an earlier run that a later run may not replace."""
_ABLE = ("MetaFuse", "MetaFuse+")
_ALONE = Choice(0.0, 1.0, 1.0, float("nan"), float("nan"))


def _reads(config: RunConfig) -> set[str]:
    name = config.adapt.method or _usual(config.weights)
    row = METHODS.get(name, METHODS["MetaFuse"])
    own = {"adapt.method", "adapt.cameras", "adapt.frames", *of_method(row), *LABELLED}
    if row.calibration == "optional":
        own.add("adapt.calibration")
    else:
        own.remove("samples.unlabelled_frames")
    if config.adapt.cameras is None:
        own |= {"evaluate.views", "evaluate.rigs"}
    return {*own, *SHARDS, *JUDGED, "seed", "data.sequence",
            "output.dir", "cluster.threads"}  # fmt: skip


@job(_reads)
def adapt(config: RunConfig) -> str:
    """Adapt MetaFuse+ or MetaFuse, whichever ``adapt.method`` names, to a rig.

    Leaves `rig.safetensors`, `rig.json` (`metafuse_ray.export.adapted_rig` reads them back) and a
    sheet of heatmaps in ``output.dir``, and prints a table and where they are. The labelled frames,
    and so the result, are those of `evaluate` for the same rig and N.

    Returns:
        ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    limit_threads(config.cluster.threads)
    shards = open_shards(config.data)
    row, run = _adapted_from(config.adapt.method, config.weights, config.data.fold)
    weights = load_weights(run, row, shards)
    settings, samples, seed = config.adapt, config.samples, config.seed
    cameras = choose_rig(settings.cameras, config.evaluate, seed, run, shards)
    test_shards = open_test_shards(config.data, shards)
    test = _load_judged(samples, test_shards, cameras, whole=test_shards is not shards)
    if isinstance(weights, PlusWeights):
        asked = None if test is None else test.batch
        adaptation = plus_adaptation(settings, samples, seed, shards, cameras, weights, asked)
    else:
        choosing = Choosing(config.choose, config.triangulate)
        method = AffineMethod(
            config.model, config.fine_tune, choosing.choose.self_weights, lambda *_: weights
        )
        labelled = labelled_batch(settings.frames, samples, seed, shards, cameras)
        adaptation = PairAdaptation(method, choosing, seed, labelled)
    check_apart(config.output.dir, [run])
    with working_folder(config.output.dir, _OWNED, resume=False) as folder:
        start_run(dump_config(config), folder)
        adapted, store = adaptation.adapt()
        stored = store(
            rig=shards.rig.subset(cameras),
            skeleton=shards.skeleton,
            grid=shards.grid,
            crop_px=shards.manifest.crop_px,
            test=_figures(adapted, test, config.triangulate, adaptation.given),
            provenance=_provenance(config.data, seed, run, shards, adaptation),
        )
        save_adapted_rig(folder.path, stored)
        shown = (adaptation.own_samples, shards, "the frames it was adapted on")
        if test is not None:
            shown = (test.batch, test_shards, "test frames")
        sequence = config.data.sequence
        picture = _draw(folder.path, adaptation.cell, adapted, *shown, seed, sequence)
    print_adapt_report(stored, config.output.dir, picture)
    return config.output.dir


def _usual(weights: Mapping[str, str]) -> str:
    """Return the method where ``adapt.method`` is empty."""
    return "MetaFuse+" if "MetaFuse+" in weights else "MetaFuse"


def _adapted_from(
    method: str | None, weights: Mapping[str, str], fold: int
) -> tuple[MethodRow, str]:
    """Return the method, and the run whose weights the rig is adapted from.

    Raises:
        ConfigError: The method cannot adapt a rig, or ``weights`` does not name its run.
    """
    name = method or _usual(weights)
    row = chosen({able: METHODS[able] for able in _ABLE}, name, "adapt.method")
    if name not in weights:
        raise ConfigError(
            f"weights.{name}: adapting a rig needs meta-learned weights; set it to the output.dir"
            " of jobs/meta_train.py",
            key=f"weights.{name}",
        )
    return row, fold_path(weights[name], fold)


def _figures(
    adapted: AdaptedMethod,
    test: JudgedSamples | None,
    triangulate: TriangulateConfig,
    given: Calibration | None,
) -> dict[str, Any]:
    """Judge the views alone and the adapted rig; nothing where there are no test samples."""
    if test is None:
        return {}
    return {
        "samples": len(test.batch),
        "alone": rig_scores(_alone(test.batch.rig), test, triangulate, "exact"),
        "fused": rig_scores(adapted, test, triangulate, given),
    }


def _draw(
    folder: Path,
    cell: Cell,
    adapted: AdaptedMethod,
    batch: RigBatch,
    shards: ShardSet,
    frames: str,
    seed: int,
    sequence: str | None,
) -> Path | None:
    path = folder / SHEET_FILE
    path.unlink(missing_ok=True)
    return adapted_sheet(
        cell, adapted, batch, shards, path, seed=seed, sequence=sequence, frames=frames
    )


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
    data: DataConfig,
    seed: int,
    run: str,
    shards: ShardSet,
    adaptation: PlusAdaptation | PairAdaptation,
) -> dict[str, Any]:
    return {
        "metafuse_ray": version("metafuse_ray"),
        "method": adaptation.cell.method,
        "checkpoint": run,
        "shards": data.shards,
        "data": shards.manifest.source,
        "test_shards": data.test_shards,
        "labelled_frames": adaptation.cell.labelled_frames,
        "labelled_clips": np.unique(adaptation.labelled_clips).tolist(),
        "seed": seed,
        **adaptation.provenance,
    }
