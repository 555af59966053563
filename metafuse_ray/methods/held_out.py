"""The training cameras that a training leaves out, and the tasks of these that judge it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.shards.splits import hold_out

_log = logging.getLogger(__name__)
Found = TypeVar("Found")


def hold_out_to_judge(
    cameras: Sequence[str],
    settings: HeldOutConfig,
    seed: int,
    find: Callable[[tuple[str, ...]], list[Found]],
) -> tuple[tuple[str, ...], list[Found]]:
    """Return the cameras to train on, and what the others are judged on.

    Where nothing says how many to hold out, and the frames are too few to judge any, none is.

    Args:
        cameras: All training cameras.
        settings: How many to hold out.
        seed: Seed of the draw.
        find: Held-out cameras -> pairs or rigs of these.

    Raises:
        ConfigError: See `hold_out`.
        NotEnoughFramesError: As ``find`` raises it, where ``held_out.cameras`` is given.
    """
    train, held = hold_out(cameras, settings.cameras, seed)
    if not held:
        return tuple(cameras), []
    try:
        return train, find(held)
    except NotEnoughFramesError as error:
        if settings.cameras is not None:
            raise
        _log.warning("no camera is held out to judge on: %s", error.message)
        return tuple(cameras), []
