"""Whether, and from where, a meta-training run goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metafuse_ray.config.load import config_tree, settings
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.checkpoint import CHECKPOINT_FOLDER, Checkpoint, newest_checkpoint

_log = logging.getLogger(__name__)
DECISIVE = (
    *("seed", "model", "inner", "outer", "episode", "meta"),
    *("data.fold", "data.time_margin", "evaluate.folds"),
)
"""Settings, and parts of them, that a training's numbers come from, with the shards' content."""
_FREE = ("meta.rounds", "meta.log_every", "meta.max_bad_tasks")
"""Settings in there that change when a run ends, or what it says, but no number."""


def find_checkpoint(config: RunConfig, run: Path, shards: str) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from, or None where it starts afresh.

    Args:
        config: The run; without ``checkpoint.resume`` it starts afresh.
        run: Its folder.
        shards: Digest of the shards' manifest.

    Raises:
        CheckpointError: The checkpoint is of a run with other settings or shards, or has gone
            further than ``meta.rounds``.
    """
    if not config.checkpoint.resume:
        return None
    checkpoint = newest_checkpoint(run / CHECKPOINT_FOLDER)
    if checkpoint is None:
        _log.info("no whole checkpoint in %s: starting afresh", run / CHECKPOINT_FOLDER)
        return None
    different = list(differing_settings(checkpoint.config, config_tree(config), DECISIVE, _FREE))
    if checkpoint.shards != shards:
        different.append(f"the shards have another content (now {config.data.shards})")
    if checkpoint.round > config.meta.rounds:
        different.append(
            f"it has gone {checkpoint.round} rounds, meta.rounds is {config.meta.rounds}"
        )
    if different:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is of another run: {'; '.join(different)}; set these as"
            " they were, choose another output.dir, or train afresh without --resume",
            path=str(checkpoint.path),
            different=different,
        )
    return checkpoint


def differing_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], parts: Sequence[str], free: Sequence[str]
) -> Iterator[str]:
    """Say of every setting what it was and is, where that differs.

    Args:
        before: A configuration as a plain tree.
        now: Another one.
        parts: Settings, and parts of them, to compare.
        free: Settings in there that may differ.
    """
    defaults = {name: _plain(default) for name, _, default in settings()}
    one, other = dict(_flat(before)), dict(_flat(now))
    for name in sorted(one.keys() | other.keys()):
        decisive = any(name == part or name.startswith(f"{part}.") for part in parts)
        if not decisive or name in free:
            continue
        # A setting that is newer than the checkpoint had its default's effect.
        was, is_now = one.get(name, defaults.get(name)), other.get(name, "no setting")
        if was != is_now:
            yield f"{name} was {was}, is {is_now}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
