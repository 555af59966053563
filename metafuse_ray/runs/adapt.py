"""Adapt the meta-learned fusion to one rig: what a lab with new cameras runs."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from importlib.metadata import version
from typing import Any

import numpy as np

from metafuse_ray.adapt.adapted_file import save_adapted_rig
from metafuse_ray.adapt.methods import AffineMethod, FusionMethod, NoFusionMethod
from metafuse_ray.adapt.rig import AdaptedRig, adapt_rig, time_blocks
from metafuse_ray.adapt.rig_method import with_label_points
from metafuse_ray.adapt.stored_rig import StoredRig
from metafuse_ray.adapt.watched import WatchedMethod, number_of_fits
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.open_shards import open_shards
from metafuse_ray.data.rig_batch import RigBatch, load_rig_batch
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.data.working_folder import working_folder
from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.eval.adapt_report import print_adapt_report, rig_scores
from metafuse_ray.eval.cells import Cell
from metafuse_ray.eval.heatmap_sheet import SHEET_FILE, adapted_sheet
from metafuse_ray.eval.rigs import labelled_rows, test_rows
from metafuse_ray.progress import track
from metafuse_ray.runs.outputs import check_apart, start_run
from metafuse_ray.runs.rig_choice import choose_rig
from metafuse_ray.runs.test_frames import open_test_shards
from metafuse_ray.runs.weights import load_meta_weights

_log = logging.getLogger(__name__)
_OWNED = re.compile(re.escape(SHEET_FILE))
"""What an earlier run may leave that a later one does not replace."""


def adapt(config: RunConfig) -> str:
    """Fine-tune the affine transforms of every ordered pair of a rig on labelled frames.

    Leaves `rig.safetensors`, `rig.json` (`metafuse_ray.adapt.adapted_file` reads them back) and a
    sheet of heatmaps in ``output.dir``, prints a table and says where they lie. The labelled
    frames, and so the result, are those of `evaluate` for the same rig and N.

    Returns:
        ``output.dir``.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    limit_threads(config.cluster.threads)
    shards = open_shards(config)
    weights = load_meta_weights(config.evaluate.checkpoint, shards)
    cameras = choose_rig(config, shards)
    method = AffineMethod(config, lambda _grid, _view: weights)
    labelled = _load_labelled(config, shards, cameras, method)
    test_shards = open_test_shards(config, shards)
    test = _load_test(config, test_shards, cameras)
    check_apart(config, [config.evaluate.checkpoint or ""])
    with working_folder(config.output.dir, _OWNED, resume=False) as folder:
        start_run(config, folder)
        adapted = _adapt(method, labelled, config, (*cameras, len(labelled), 0))
        alone = adapt_rig(NoFusionMethod(), labelled, config, ())
        figures = _test_figures(config, shards, alone, adapted, test)
        stored = _stored(config, shards, labelled, adapted, figures)
        save_adapted_rig(folder.path, stored)

        path = folder.path / SHEET_FILE
        path.unlink(missing_ok=True)
        if test is None:
            shown, source, frames = labelled, shards, "the labelled frames that it was fitted to"
        else:
            shown, source, frames = test, test_shards, "test frames"
        cell = Cell(cameras, len(labelled), 0, "MetaFuse")
        picture = adapted_sheet(config, cell, adapted, shown, source, path, frames)
    print_adapt_report(stored, config.output.dir, picture)
    return config.output.dir


def _load_labelled(
    config: RunConfig, shards: ShardSet, cameras: tuple[str, ...], method: FusionMethod
) -> RigBatch:
    address = (config.seed, 0)
    rows = labelled_rows(shards, cameras, config.adapt.frames, config.evaluate, address)
    labelled = load_rig_batch(shards, cameras, rows)
    labelled = with_label_points(labelled, labelled.rig)
    if number_of_fits(method, labelled, config) > len(cameras):
        blocks = time_blocks(labelled.time_B2, config.adapt.folds)
    else:
        blocks = [np.arange(0)]
    for name, seen_B in zip(cameras, labelled.seen_VB.numpy(), strict=True):
        left = min(int(np.delete(seen_B, block).sum()) for block in blocks)
        if left == 0:
            raise NotEnoughFramesError(
                f"camera {name} sees nobody in {'some' if seen_B.any() else 'any'} of the"
                f" {len(labelled)} labelled frames that it would be fitted to; raise adapt.frames"
                " or evaluate.label_clips, or leave it out of adapt.cameras",
                camera=name,
                frames=int(seen_B.sum()),
            )
    return labelled


def _load_test(
    config: RunConfig, test_shards: ShardSet, cameras: tuple[str, ...]
) -> RigBatch | None:
    whole = config.evaluate.test_shards is not None
    try:
        rows = test_rows(test_shards, cameras, config.evaluate.test_frames, whole)
    except NotEnoughFramesError as error:
        _log.info("no test figures: %s", error.message)
        return None
    return load_rig_batch(test_shards, cameras, rows)


def _adapt(
    method: FusionMethod, labelled: RigBatch, config: RunConfig, address: tuple[int | str, ...]
) -> AdaptedRig:
    _log.info(
        "adapting %s on %d labelled person-frames", " ".join(labelled.rig.names), len(labelled)
    )
    total = number_of_fits(method, labelled, config)
    with closing(track(range(total), total, "adapt (fits of a view)")) as fits:
        adapted = adapt_rig(WatchedMethod(method, fits), labelled, config, address)
        next(fits, None)
    return adapted


def _test_figures(
    config: RunConfig,
    shards: ShardSet,
    alone: AdaptedRig,
    adapted: AdaptedRig,
    test: RigBatch | None,
) -> dict[str, Any]:
    if test is None:
        return {}
    threshold_px = config.evaluate.robust_threshold_px
    return {
        "samples": len(test),
        "alone": rig_scores(alone, test, shards.skeleton, threshold_px),
        "fused": rig_scores(adapted, test, shards.skeleton, threshold_px),
    }


def _stored(
    config: RunConfig,
    shards: ShardSet,
    labelled: RigBatch,
    adapted: AdaptedRig,
    figures: dict[str, Any],
) -> StoredRig:
    return StoredRig(
        models=adapted.models,
        choice=adapted.choice,
        rig=labelled.rig,
        skeleton=shards.skeleton,
        grid=shards.grid,
        crop_px=labelled.crop_px,
        test=figures,
        provenance={
            "metafuse_ray": version("metafuse_ray"),
            "method": "MetaFuse",
            "checkpoint": config.evaluate.checkpoint,
            "shards": config.data.shards,
            "data": shards.manifest.source,
            "test_shards": config.evaluate.test_shards,
            "labelled_frames": len(labelled),
            "labelled_clips": np.unique(labelled.time_B2[:, 0]).tolist(),
            "folds": config.adapt.folds,
            "seed": config.seed,
        },
    )
