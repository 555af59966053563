"""The dome's cameras: procedural after the Panoptic studio, or any Panoptic calibration."""

from __future__ import annotations

import numpy as np

from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.seeds import generator

CENTRE_CM = np.array([0.0, -132.0, 0.0])
"""Where the cameras look; world y is down and the floor lies at y = 0."""
IMAGE_SIZE = (1920, 1080)


def procedural_rig(cameras: int, seed: int) -> Rig:
    """Draw a dome of cameras that resembles the 31 HD cameras of the Panoptic studio.

    They stand 270 to 280 cm from a point 132 cm above the floor, 12 degrees below to 50 degrees
    above its height, spread evenly with jitter, and look about 15 cm past it. Focal lengths are
    0.72 to 0.98 of the image's width; the lenses have Panoptic's barrel distortion.

    Args:
        cameras: Number of cameras, named ``00_00``, ``00_01`` ... in random order on the dome.
        seed: Seed; the same rig for the same seed and number.

    Example::

        rig = procedural_rig(8, seed=0)
    """
    rng = generator(seed, "rig", cameras)
    direction_V3 = _spread_on_cap(rng, cameras)
    return Rig(
        cameras=tuple(
            _look_from(f"00_{number:02d}", rng, direction)
            for number, direction in enumerate(rng.permutation(direction_V3))
        )
    )


def _spread_on_cap(rng: np.random.Generator, count: int) -> np.ndarray:
    """Fibonacci spiral over the band of heights, with jitter: unit vectors, y down."""
    low, high = np.sin(np.radians([-12.0, 50.0]))
    number = np.arange(count)
    height = low + (high - low) * (number + 0.5 + rng.uniform(-0.4, 0.4, count)) / count
    golden = np.pi * (3 - np.sqrt(5))
    azimuth = golden * number + rng.normal(0, 0.15, count) + rng.uniform(0, 2 * np.pi)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(azimuth), -height, radius * np.sin(azimuth)], 1)


def _look_from(name: str, rng: np.random.Generator, direction: np.ndarray) -> Camera:
    centre = CENTRE_CM + direction * rng.uniform(270, 280)
    target = CENTRE_CM + rng.normal(0, 8, 3)
    rotation = _looking(target - centre, roll=np.radians(rng.normal(0, 2.5)))
    width, height = IMAGE_SIZE
    # Most of Panoptic's cameras share one lens; a few have a longer one.
    share = rng.uniform(0.72, 0.76) if rng.uniform() < 0.6 else rng.uniform(0.76, 0.98)
    focal = share * width
    principal = np.array([width, height]) * rng.normal([0.495, 0.515], 0.005)
    return Camera(
        name=name,
        K=np.array([[focal, 0, principal[0]], [0, focal, principal[1]], [0, 0, 1.0]]),
        distortion=_barrel(rng),
        R=rotation,
        t=-rotation @ centre,
        width=width,
        height=height,
    )


def _barrel(rng: np.random.Generator) -> np.ndarray:
    """Distortion (k1, k2, p1, p2, k3) as the Panoptic calibrations have it."""
    k1 = rng.uniform(-0.29, -0.22)
    k3 = -0.05 + 1.1 * (k1 + 0.286)
    return np.array([k1, rng.normal(0.19, 0.008), *rng.normal(0, 4e-4, 2), k3])


def _looking(forward: np.ndarray, roll: float) -> np.ndarray:
    """Rotation cam_from_world of a camera that looks along ``forward``, world y downwards."""
    z = forward / np.linalg.norm(forward)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    level = np.stack([x, np.cross(z, x), z])
    c, s = np.cos(roll), np.sin(roll)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ level
