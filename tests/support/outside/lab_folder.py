"""A recording format: `lab.npz` with cameras and 3D joints, and `<camera>/<frame>.png`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from metafuse_ray.errors import ConfigError
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.recordings.recording import Recording
from metafuse_ray.recordings.table import RecordingRow
from metafuse_ray.shards.blocks import TEST, TRAIN, SampleBlock
from metafuse_ray.shards.settings import DataConfig

_FILE = "lab.npz"
_PARTS = ("K", "distortion", "R", "t")


def write(
    folder: Path, rig: Rig, joints_world_FJ3: np.ndarray, skeleton: Skeleton, side: int = 5
) -> Path:
    """Write a recording of one person, whose joints are dark squares on white."""
    folder.mkdir(parents=True)
    cameras = rig.cameras
    np.savez(
        folder / _FILE,
        names=rig.names,
        sizes=rig.image_sizes,
        joints=skeleton.joints,
        joints_world=joints_world_FJ3,
        **{f"{name}/{part}": getattr(camera, part)
           for name, camera in zip(rig.names, cameras, strict=True)
           for part in _PARTS},
    )  # fmt: skip
    for name, camera in zip(rig.names, cameras, strict=True):
        (folder / name).mkdir()
        for frame, joints_J3 in enumerate(joints_world_FJ3):
            image = np.full((camera.height, camera.width, 3), 255, np.uint8)
            for x, y in np.nan_to_num(camera.project(joints_J3), nan=-99).round().astype(int):
                corners = (int(x) - side, int(y) - side), (int(x) + side, int(y) + side)
                cv2.rectangle(image, *corners, (0, 0, 0), -1)
            cv2.imwrite(str(_image(folder, name, frame)), image)
    return folder


def read(data: DataConfig, skeleton: Skeleton) -> Recording:
    if data.sequence is None:
        raise ConfigError("data.sequence is empty", key="data.sequence")
    folder = Path(data.sequence)
    with np.load(folder / _FILE) as stored:
        parts = dict(stored)
    names = [str(name) for name in parts["names"]]
    kept = names if data.cameras is None else list(data.cameras)
    known = [str(joint) for joint in parts["joints"]]
    joints_FJ3 = parts["joints_world"][:, [known.index(joint) for joint in skeleton.joints]]
    frames = len(joints_FJ3)
    is_test = np.arange(frames) >= round(data.train_frame_share * frames)
    return Recording(
        name=folder.name,
        rig=Rig(tuple(_camera(name, parts) for name in names)).subset(kept),
        samples=SampleBlock(
            clip=np.zeros(frames, np.int32),
            frame=np.arange(frames, dtype=np.int32),
            person=np.zeros(frames, np.int32),
            split=np.where(is_test, TEST, TRAIN).astype(np.uint8),
            joints_world=joints_FJ3.astype(np.float32),
            confidence=np.ones(joints_FJ3.shape[:2], np.float32),
        ),
        images={name: {n: _image(folder, name, n) for n in range(frames)} for name in kept},
    )


def images(folder: str, source: Mapping[str, Any]) -> Callable[[str, int], Path | None] | None:
    root = Path(folder)
    if root.name != source.get("sequence") or not (root / _FILE).is_file():
        return None
    return lambda camera, frame: _image(root, camera, frame)


def _camera(name: str, parts: Mapping[str, np.ndarray]) -> Camera:
    width, height = parts["sizes"][list(parts["names"]).index(name)].tolist()
    own = {part: parts[f"{name}/{part}"] for part in _PARTS}
    return Camera(name, **own, width=width, height=height)


def _image(folder: Path, camera: str, frame: int) -> Path:
    return folder / camera / f"{frame}.png"


ROW = RecordingRow(read=read, images=images)
