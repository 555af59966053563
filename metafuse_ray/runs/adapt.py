"""Adapt the meta-learned fusion to one rig: what a lab with new cameras runs."""

from __future__ import annotations

import logging
import re
from importlib.metadata import version
from typing import Any

import numpy as np

from metafuse_ray.benchmark.judged_samples import JudgedSamples
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.export.adapted_rig import save_adapted_rig
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig, Choice
from metafuse_ray.methods.metafuse.fused_rig import FusedRig
from metafuse_ray.methods.metafuse.fusion import NoFusion
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.reports.adapt_report import print_adapt_report, rig_scores
from metafuse_ray.reports.heatmap_sheet import SHEET_FILE, adapted_sheet
from metafuse_ray.runs.adapt_pairs import PairAdaptation
from metafuse_ray.runs.adapt_plus import PlusAdaptation
from metafuse_ray.runs.other_recording import open_test_shards
from metafuse_ray.runs.outputs import check_apart, start_run
from metafuse_ray.runs.rig_choice import choose_rig
from metafuse_ray.runs.weights import adapted_run, load_run
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.working_folder import working_folder

_log = logging.getLogger(__name__)
_OWNED = re.compile(re.escape(SHEET_FILE))
"""What an earlier run may leave that a later one does not replace."""
_ALONE = Choice(0.0, 1.0, 1.0, float("nan"), float("nan"))


def adapt(config: RunConfig) -> str:
    """Adapt MetaFuse+ to a rig, or MetaFuse where the checkpoint is a run over camera pairs.

    Leaves `rig.safetensors`, `rig.json` (`metafuse_ray.export.adapted_rig` reads them back) and a
    sheet of heatmaps in ``output.dir``, prints a table and says where they lie. The labelled
    frames, and so the result, are those of `evaluate` for the same rig and N.

    Returns:
        ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    limit_threads(config.cluster.threads)
    shards = open_shards(config)
    run = adapted_run(config)
    weights = load_run(run, shards)
    cameras = choose_rig(config, shards)
    test_shards = open_test_shards(config, shards)
    test = _load_judged(config, test_shards, cameras)
    if isinstance(weights, PlusWeights):
        asked = None if test is None else test.batch
        adaptation = PlusAdaptation(config, shards, cameras, weights, asked)
    else:
        adaptation = PairAdaptation(config, shards, cameras, weights)
    check_apart(config, [run or ""])
    with working_folder(config.output.dir, _OWNED, resume=False) as folder:
        start_run(config, folder)
        adapted, store = adaptation.adapt()
        rig = shards.rig.subset(cameras)
        figures: dict[str, Any] = {}
        if test is not None:
            settings = config.evaluate
            figures = {
                "samples": len(test.batch),
                "alone": rig_scores(_alone(rig), test, settings, "exact"),
                "fused": rig_scores(adapted, test, settings, adaptation.given),
            }
        stored = store(
            rig=rig,
            skeleton=shards.skeleton,
            grid=shards.grid,
            crop_px=shards.manifest.crop_px,
            test=figures,
            provenance=_provenance(config, shards, adaptation),
        )
        save_adapted_rig(folder.path, stored)

        path = folder.path / SHEET_FILE
        path.unlink(missing_ok=True)
        if test is None:
            shown, source, frames = adaptation.own_samples, shards, "the frames it was adapted on"
        else:
            shown, source, frames = test.batch, test_shards, "test frames"
        picture = adapted_sheet(config, adaptation.cell, adapted, shown, source, path, frames)
    print_adapt_report(stored, config.output.dir, picture)
    return config.output.dir


def _load_judged(
    config: RunConfig, test_shards: ShardSet, cameras: tuple[str, ...]
) -> JudgedSamples | None:
    try:
        return JudgedSamples.load(test_shards, cameras, config.evaluate)
    except NotEnoughFramesError as error:
        _log.info("no test figures: %s", error.message)
        return None


def _alone(rig: Rig) -> FusedRig:
    """The views by themselves, triangulated with the calibration of the shards."""
    return FusedRig(AdaptedRig(tuple(NoFusion() for _ in rig.cameras), _ALONE), rig)


def _provenance(
    config: RunConfig, shards: ShardSet, adaptation: PlusAdaptation | PairAdaptation
) -> dict[str, Any]:
    return {
        "metafuse_ray": version("metafuse_ray"),
        "method": adaptation.cell.method,
        "checkpoint": adapted_run(config),
        "shards": config.data.shards,
        "data": shards.manifest.source,
        "test_shards": config.evaluate.test_shards,
        "labelled_frames": adaptation.cell.labelled_frames,
        "labelled_clips": np.unique(adaptation.labelled_clips).tolist(),
        "seed": config.seed,
        **adaptation.provenance,
    }
