"""Settings of earlier releases: what has become of each, for the error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "meta.tasks": "problem.kind says what is meta-learned: metafuse (pairs) or plus (rigs)",
        "meta.rigs": "it is problem.rigs, with problem.kind=plus",
        "meta.exponents": "it is problem.exponents, with problem.kind=plus",
        "outer.lr_scalars": "it is problem.lr, with problem.kind=plus",
        "episode.views": "it is problem.views, with problem.kind=plus",
        "episode.labels": "it is problem.labels, with problem.kind=plus",
        "episode.label_noise_px": "it is problem.label_noise_px, with problem.kind=plus",
        "episode.degrees": "it is problem.degrees, with problem.kind=plus",
        "episode.unlabelled": "it is problem.unlabelled, with problem.kind=plus",
        "episode.queries": "it is problem.queries, with problem.kind=plus",
        "adapt.lr": "it is fine_tune.lr",
        "adapt.lr_omega": "it is fine_tune.lr_omega",
        "adapt.steps": "it is fine_tune.steps",
        "adapt.batch_size": "it is fine_tune.batch_size and naive_fuse.batch_size",
        "adapt.folds": "it is choose.folds",
        "adapt.self_weights": "it is choose.self_weights",
        "adapt.caution": "it is choose.caution",
        "adapt.naive_lr": "it is naive_fuse.lr",
        "adapt.naive_epochs": "it is naive_fuse.epochs",
        "adapt.ridges": "it is ridge.regularisers",
        "adapt.ridge_self_weights": "it is ridge.self_weights",
        "evaluate.checkpoint": "weights names the run of a method (weights.MetaFuse=RUN)",
        "evaluate.random_checkpoint": "it is weights.MetaFuse random start",
        "evaluate.plus_checkpoint": "it is weights.MetaFuse+",
        "evaluate.test_shards": "it is data.test_shards",
        "evaluate.folds": "it is data.folds",
        "evaluate.robust_threshold_px": "it is triangulate.inlier_px",
        "evaluate.label_clips": "it is samples.label_clips",
        "evaluate.label_order": "it is samples.label_order",
        "evaluate.label_noise_px": "it is samples.label_noise_px",
        "evaluate.unlabelled_frames": "it is samples.unlabelled_frames",
        "evaluate.look_ahead": "it is samples.look_ahead",
        "evaluate.around_frames": "it is samples.around_frames",
        "evaluate.test_frames": "it is samples.test_frames",
        "tune.held_out_cameras": "it is held_out.cameras",
        "tune.labelled_frames": "it is held_out.labelled_frames",
        "tune.query_frames": "it is held_out.query_frames",
        "tune.adapt_steps": "held-out cameras adapt by the inner loop (inner.steps)",
        "tune.inner_lr": "it is tune.ranges, by setting",
        "tune.outer_lr": "it is tune.ranges, by setting",
        "tune.shots": "it is tune.ranges, by setting",
    }
)
"""Settings of earlier releases, and what has become of each."""
