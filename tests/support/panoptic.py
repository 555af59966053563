"""Writes small recordings in the CMU Panoptic layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.rig import Rig

BODY = np.array(
    [
        (0, -140, 0), (0, -155, -15), (0, -90, 0),
        (18, -140, 0), (25, -112, 0), (28, -88, -8), (10, -90, 0), (11, -48, -3), (11, -8, 0),
        (-18, -140, 0), (-25, -112, 0), (-28, -88, -8), (-10, -90, 0), (-11, -48, -3),
        (-11, -8, 0),
        (3, -159, -12), (8, -157, -2), (-3, -159, -12), (-8, -157, -2),
    ],
    dtype=np.float64,
)  # fmt: skip
"""A standing person, COCO19, centimetres, y down."""


def camera_entry(camera: Camera, **changes: Any) -> dict[str, Any]:
    """Return a camera as the Panoptic toolbox writes it."""
    panel, node = camera.name.split("_")
    return {
        "name": camera.name,
        "type": "hd",
        "resolution": [camera.width, camera.height],
        "panel": int(panel),
        "node": int(node),
        "K": camera.K.tolist(),
        "distCoef": camera.distortion.tolist(),
        "R": camera.R.tolist(),
        "t": camera.t[:, None].tolist(),
    } | changes


def body_entry(person: int, joints: np.ndarray = BODY, confidence: float = 0.6) -> dict[str, Any]:
    """Return a person as ``body3DScene`` files hold one."""
    values = np.column_stack([joints, np.full(len(joints), confidence)])
    return {"id": person, "joints19": values.ravel().tolist()}


def write_recording(
    directory: Path,
    rig: Rig,
    frames: Mapping[int, Sequence[dict[str, Any]]],
    *,
    sequence: str = "170101_test1",
    image_cameras: Sequence[str] = (),
) -> Path:
    """Write a recording; images are empty files."""
    poses = directory / "hdPose3d_stage1_coco19"
    poses.mkdir(parents=True)
    calibration = {"calibDataSource": "t", "cameras": [camera_entry(c) for c in rig.cameras]}
    (directory / f"calibration_{sequence}.json").write_text(json.dumps(calibration))
    for frame, bodies in frames.items():
        content = {"version": 0.7, "univTime": 0.0, "fpsType": "hd_29_97", "bodies": list(bodies)}
        (poses / f"body3DScene_{frame:08d}.json").write_text(json.dumps(content))
        for name in image_cameras:
            folder = directory / "hdImgs" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}_{frame:08d}.jpg").touch()
    return directory
