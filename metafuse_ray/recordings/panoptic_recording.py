"""A recording in the CMU Panoptic layout, checked before any work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.errors import ConfigError, DataError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.recordings.images import read_image
from metafuse_ray.recordings.panoptic import PanopticSequence, PoseRecord, read_panoptic_sequence
from metafuse_ray.recordings.recording import Recording
from metafuse_ray.shards.blocks import TEST, TRAIN, SampleBlock
from metafuse_ray.shards.settings import DataConfig

_log = logging.getLogger(__name__)


def read_panoptic_recording(data: DataConfig, skeleton: Skeleton) -> Recording:
    """Read the recording ``data.sequence`` and check that its images are there.

    Cameras without any image are left out (unless ``data.cameras`` names them), and so are frames
    that no camera has an image of: recordings often come with more poses than extracted images.

    Raises:
        ConfigError: ``data.sequence`` is empty.
        CalibrationError: See `read_panoptic_sequence`.
        DataError: No image at all, an image of some camera is missing or its first one cannot be
            used, or nobody is labelled.
    """
    if data.sequence is None:
        raise ConfigError(
            "data.sequence is empty: give it the folder of a recording in the Panoptic layout",
            key="data.sequence",
        )
    sequence = read_panoptic_sequence(
        data.sequence, camera_type=data.camera_type, cameras=data.cameras
    )
    rig = _cameras_with_images(sequence, named=data.cameras is not None)
    records = [record for record in sequence.records if _is_labelled(record, skeleton)]
    images = _find_images(sequence, rig, sorted({record.frame for record in records}))
    frames = sorted(next(iter(images.values())))
    kept = set(frames)
    records = [record for record in records if record.frame in kept]
    if not records:
        raise DataError(
            f"{data.sequence}: no frame has both a labelled person and images; extract the images"
            " of the frames that have poses",
            path=data.sequence,
        )
    _check_sizes(rig, images, frames[0])
    return Recording(
        name=sequence.name,
        rig=rig,
        samples=_samples(records, skeleton, _train_frames(frames, data.train_frame_share)),
        images=images,
    )


def _cameras_with_images(sequence: PanopticSequence, *, named: bool) -> Rig:
    root = sequence.image_directory
    there = [name for name in sequence.rig.names if root is not None and _has_files(root / name)]
    missing = [name for name in sequence.rig.names if name not in there]
    if not there:
        raise DataError(
            f"{sequence.directory} holds no images of its cameras; put them at"
            " hdImgs/<camera>/<camera>_<frame, 8 digits>.jpg (see docs/usage.md)",
            path=str(sequence.directory),
        )
    if missing and named:
        raise DataError(
            f"{root} holds no images of {', '.join(missing)}; extract them, or leave them out of"
            " data.cameras",
            path=str(root),
            cameras=missing,
        )
    if missing:
        _log.warning(
            "%d cameras have no images and are left out: %s", len(missing), ", ".join(missing)
        )
    return sequence.rig.subset(there)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_labelled(record: PoseRecord, skeleton: Skeleton) -> bool:
    return bool(np.isfinite(record.joints_world[skeleton.from_coco19]).all(axis=-1).any())


def _find_images(
    sequence: PanopticSequence, rig: Rig, frames: Sequence[int]
) -> dict[str, dict[int, Path]]:
    found = {
        name: {
            frame: path
            for frame in frames
            if (path := sequence.image_path(name, frame)) is not None
        }
        for name in rig.names
    }
    wanted = sorted(set().union(*found.values()))
    for name, paths in found.items():
        lacking = [frame for frame in wanted if frame not in paths]
        if lacking:
            file = f"{sequence.image_directory}/{name}/{name}_{lacking[0]:08d}.jpg"
            raise DataError(
                f"{file} (or .png) is missing, and {len(lacking) - 1} more of camera {name}, while"
                " other cameras have these frames; extract them again, or leave the camera out by"
                " data.cameras",
                path=file,
                camera=name,
                frames=lacking,
            )
    if len(wanted) < len(frames):
        _log.warning(
            "%d of %d frames with poses have no images and are left out",
            len(frames) - len(wanted),
            len(frames),
        )
    return found


def _check_sizes(rig: Rig, images: Mapping[str, Mapping[int, Path]], frame: int) -> None:
    """Decode one image a camera: a wrong resolution shows now and not after minutes."""
    for camera in rig.cameras:
        read_image(images[camera.name][frame], (camera.width, camera.height))


def _train_frames(frames: Sequence[int], share: float) -> set[int]:
    """Return the first ``share`` of the frames, at least one, and not all where there are two."""
    count = round(share * len(frames))
    return set(frames[: max(1, min(count, len(frames) - 1))])


def _samples(
    records: Sequence[PoseRecord], skeleton: Skeleton, train_frames: set[int]
) -> SampleBlock:
    joints = np.stack([record.joints_world for record in records])[:, skeleton.from_coco19]
    confidence = np.stack([record.confidence for record in records])[:, skeleton.from_coco19]
    frames = [record.frame for record in records]
    return SampleBlock(
        clip=np.zeros(len(records), np.int32),
        frame=np.array(frames, np.int32),
        person=np.array([record.person for record in records], np.int32),
        split=np.array([TRAIN if frame in train_frames else TEST for frame in frames], np.uint8),
        joints_world=joints.astype(np.float32),
        confidence=confidence.astype(np.float32),
    )


def panoptic_images(
    folder: str, source: Mapping[str, Any]
) -> Callable[[str, int], Path | None] | None:
    """Return where the images of a recording are; see `RecordingRow.images`."""
    found = read_panoptic_sequence(folder, camera_type=str(source.get("camera_type", "hd")))
    if found.name != source.get("sequence") or not found.has_images:
        return None
    return found.image_path
