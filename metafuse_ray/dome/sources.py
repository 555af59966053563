"""Choose the source of motion from the settings."""

from __future__ import annotations

from pathlib import Path

from metafuse_ray.dome.mocap import MocapMotion
from metafuse_ray.dome.motion import Motion
from metafuse_ray.dome.procedural import ProceduralMotion
from metafuse_ray.dome.recorded import RecordedMotion
from metafuse_ray.dome.settings import SimulateConfig
from metafuse_ray.errors import DataError


def open_motion(settings: SimulateConfig, seed: int) -> Motion:
    """Open the motion that the settings ask for.

    Raises:
        DataError: ``simulate.motion`` is neither a file nor a folder, or cannot be used.
        ConfigError: It has no stretch long enough for a clip.
        NotEnoughFramesError: It has too few frames for two clips.
    """
    common = {
        "clips": settings.clips,
        "frames": settings.frames_per_clip,
        "frame_step": settings.frame_step,
        "test_share": settings.test_clip_share,
    }
    if settings.motion is None:
        return ProceduralMotion(people=settings.people, seed=seed, **common)
    path = Path(settings.motion)
    if path.is_dir():
        return RecordedMotion(path, **common)
    if path.is_file():
        return MocapMotion(path, people=settings.people, seed=seed, **common)
    raise DataError(
        f"simulate.motion: {path} is neither a mocap npz nor a folder of Panoptic poses; correct"
        " it, or leave it empty for procedural motion",
        path=str(path),
        key="simulate.motion",
    )
