"""Synthetic rigs, for tests that need geometry but no recording."""

from __future__ import annotations

import numpy as np

from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.rig import Rig

HD_LENS = (-0.2224, 0.1992, 8.7e-05, 9.8e-04, 0.0238)
"""The distortion of a real Panoptic HD camera."""
FOLDING_LENS = (-0.3, 0.02, -9.1e-04, 1.1e-03, 0.0)
"""A barrel whose polynomial turns round at radius 1.1, just beyond the image's corners."""


def looking_at(
    centre, point=(0.0, -100.0, 0.0), *, name="00_00", focal=800.0, lens=(0.0,) * 5, roll=0.0
) -> Camera:
    """Return a 1280 x 720 camera at ``centre`` that looks at ``point``; the world has y down."""
    centre = np.asarray(centre, dtype=np.float64)
    forward = np.asarray(point) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    spin = np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1.0]]
    )
    rotation = spin @ np.stack([right, down, forward])
    intrinsics = [[focal, 0, 645.0], [0, focal * 0.99, 352.0], [0, 0, 1]]
    return Camera(name, intrinsics, lens, rotation, -rotation @ centre, 1280, 720)


def random_rig(seed: int, views: int = 4, lens=(0.0,) * 5) -> Rig:
    """Return cameras at distinct bearings, 250 to 330 cm around the dome's middle."""
    rng = np.random.default_rng(seed)
    bearings = 2 * np.pi * (np.arange(views) + rng.uniform(-0.2, 0.2, views)) / views
    cameras = []
    for index, bearing in enumerate(bearings):
        distance, height = rng.uniform(250, 330), rng.uniform(-260, -20)
        cameras.append(
            looking_at(
                (distance * np.cos(bearing), height, distance * np.sin(bearing)),
                name=f"00_{index:02d}",
                focal=rng.uniform(600, 1000),
                lens=lens,
                roll=rng.uniform(-0.3, 0.3),
            )
        )
    return Rig(tuple(cameras))


def random_points(seed: int, count: int) -> np.ndarray:
    """Return ``(count, 3)`` points where people stand: seen, or nearly, by every camera."""
    rng = np.random.default_rng(seed)
    return rng.uniform([-60, -180, -60], [60, -10, 60], (count, 3))


def ideal_pixels(rig: Rig, points: np.ndarray) -> np.ndarray:
    """Return ``(V, N, 2)`` ideal pixels of world points."""
    return np.stack([camera.undistort(camera.project(points)) for camera in rig.cameras])


def projections(rig: Rig) -> np.ndarray:
    """Return ``(V, 3, 4)``."""
    return np.stack([camera.projection_matrix for camera in rig.cameras])
