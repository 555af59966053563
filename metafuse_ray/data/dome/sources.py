"""Choose the source of motion from the settings."""

from __future__ import annotations

from metafuse_ray.config.schema import SimulateConfig
from metafuse_ray.data.dome.motion import Motion
from metafuse_ray.data.dome.procedural import ProceduralMotion


def open_motion(settings: SimulateConfig, seed: int) -> Motion:
    """Open the motion that the settings ask for."""
    return ProceduralMotion(
        clips=settings.clips,
        frames=settings.frames_per_clip,
        people=settings.people,
        frame_step=settings.frame_step,
        test_share=settings.test_clip_share,
        seed=seed,
    )
