"""Someone who turns, walks and waves: few joints, but a frame of the body can be read off them."""

from __future__ import annotations

import numpy as np

from metafuse_ray.pose.skeleton import Skeleton

BODY = Skeleton(
    "small",
    ("nose", "lShoulder", "lHip", "lWrist", "rShoulder", "rHip", "rWrist"),
    limbs=((1, 4), (2, 5), (1, 2), (4, 5)),
    groups={"shoulder": (1, 4), "hip": (2, 5)},
    flip_pairs=((1, 4), (2, 5), (3, 6)),
)
REST_J3 = np.array(
    [
        [0.0, -70.0, 12.0],
        [18.0, -50.0, 0.0],
        [10.0, 0.0, 0.0],
        [35.0, -20.0, 15.0],
        [-18.0, -50.0, 0.0],
        [-10.0, 0.0, 0.0],
        [-30.0, -70.0, 9.0],
    ]
)
"""Where they are beside the middle of the hips, cm; y is down."""


def moving_body(frame_B: np.ndarray, seed: int) -> np.ndarray:
    """Return joints (B, J, 3) about the middle of the dome, cm."""
    random = np.random.default_rng(seed)
    turn_B = 0.08 * frame_B + random.uniform(0, 6)
    cos, sin = np.cos(turn_B)[:, None], np.sin(turn_B)[:, None]
    phase_J3 = random.uniform(0, 6, REST_J3.shape)
    wave_BJ3 = 5 * np.sin(frame_B[:, None, None] / 4 + phase_J3)
    x, y, z = np.moveaxis(REST_J3 + wave_BJ3, -1, 0)
    x, z = cos * x - sin * z, sin * x + cos * z
    walk_B3 = np.stack([1.5 * frame_B - 20, 0 * frame_B - 85, 10 * np.sin(frame_B / 9)], -1)
    return np.stack([x, y, z], -1) + walk_B3[:, None]
