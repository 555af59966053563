"""Whether a meta-training run may go on, and from which checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metafuse_ray.config.job import covers
from metafuse_ray.config.section import settings
from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.checkpoint import CHECKPOINT_FOLDER, Checkpoint, newest_checkpoint
from metafuse_ray.runs.settings import RunConfig

_log = logging.getLogger(__name__)
_FREE = (
    *("root", "data.shards", "data.cache_dir", "cluster", "checkpoint", "output", "model.operator"),
    *("meta.rounds", "meta.log_every", "meta.max_bad_tasks", "held_out.every"),
)
"""Settings of where and how a training runs, when it ends and what it logs, which change no
number."""


def decisive_settings(read: Iterable[str]) -> list[str]:
    """Return those of the settings that a training reads from which its numbers come."""
    return [path for path in read if not covers(_FREE, path)]


def find_checkpoint(
    run: Path, tree: Mapping[str, Any], decisive: Sequence[str], shards: str, rounds: int
) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from, or None where there is none.

    Args:
        run: Its folder.
        tree: Its settings as a plain tree.
        decisive: Paths of the settings that its numbers come from.
        shards: Digest of the shards' manifest.
        rounds: Rounds of the whole run.

    Raises:
        CheckpointError: The checkpoint is of a run with other settings or shards, of a later
            round, or of an earlier release.
    """
    checkpoint = newest_checkpoint(run / CHECKPOINT_FOLDER)
    if checkpoint is None:
        _log.info("no whole checkpoint in %s: starting from the beginning", run / CHECKPOINT_FOLDER)
        return None
    if "held_out" not in checkpoint.config:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is of an earlier release, which trained on other tasks"
            " by default; choose another output.dir, or start again without --resume",
            path=str(checkpoint.path),
        )
    different = list(differing_settings(checkpoint.config, tree, decisive, _FREE))
    if checkpoint.shards != shards:
        different.append(f"the content of the shards differs (now {tree['data']['shards']})")
    if checkpoint.round > rounds:
        different.append(f"it has done {checkpoint.round} rounds, meta.rounds is {rounds}")
    if different:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is of another run: {'; '.join(different)}; set these as"
            " they were, choose another output.dir, or start again without --resume",
            path=str(checkpoint.path),
            different=different,
        )
    return checkpoint


def differing_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], parts: Sequence[str], free: Sequence[str]
) -> Iterator[str]:
    """List the settings that differ, with their values before and now.

    Args:
        before: A configuration as a plain tree.
        now: Another one.
        parts: Settings, and parts of them, to compare.
        free: Settings in there that may differ.
    """
    defaults = {name: _plain(default) for name, _, default in settings(RunConfig)}
    one, other = dict(_flat(before)), dict(_flat(now))
    for name in sorted(one.keys() | other.keys()):
        if not covers(parts, name) or covers(free, name):
            continue
        # A setting that the checkpoint does not hold, being newer, had its default's effect.
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
