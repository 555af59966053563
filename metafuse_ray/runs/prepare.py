"""Turn a recording's images into task shards."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.backbones.backbone import PoseBackbone
from metafuse_ray.backbones.blazepose import load_blazepose, weights_file
from metafuse_ray.cluster.map import ordered_map
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.progress import track
from metafuse_ray.recordings.heatmap_worker import CropJob, HeatmapWorker, ImageCrops
from metafuse_ray.recordings.labels import ProjectedLabels, cube_side, project_labels
from metafuse_ray.recordings.recording import Recording, read_recording
from metafuse_ray.shards.blocks import CameraBlock
from metafuse_ray.shards.opening import shards_to_write
from metafuse_ray.shards.shards import ShardWriter
from metafuse_ray.shards.splits import split_cameras

_log = logging.getLogger(__name__)


def prepare(config: RunConfig, make_backbone: Callable[[], PoseBackbone] | None = None) -> str:
    """Run the backbone over the images of ``data.sequence`` and write ``data.shards``.

    Images, backbone and output folder are checked before any work starts.

    Args:
        config: What to read, which backbone, where to write and on how many actors.
        make_backbone: Picklable factory of another backbone than that of the configuration.

    Returns:
        Where the shards are; an older shard set there is replaced once the new one is whole.

    Raises:
        MetaFuseError: A setting, calibration, label, image or the backbone cannot be used, or the
            folder cannot be written; nothing is left half-written.
    """
    make_backbone = make_backbone or functools.partial(load_blazepose, config.backbone)
    backbone = make_backbone()  # fetched and verified here, once, before the actors ask for it
    recording = read_recording(config.data, backbone.skeleton)
    split = split_cameras(config.data, recording.rig.names, config.seed)
    source = _source(config, recording, backbone)
    with shards_to_write(config.data, recording.rig, backbone.skeleton, split, source) as writer:
        writer.append_samples(recording.samples)
        _write_cameras(config, recording, make_backbone, writer)
    return config.data.shards


def fetch_backbone(config: RunConfig) -> Path:
    """Fetch the weights of the backbone into the cache, or verify those that are there."""
    file = weights_file(config.backbone)
    _log.info("backbone %s: %s", config.backbone.name, file)
    return file


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Consecutive rows of one camera: what is known of them, and the work they are."""

    camera: str
    images: int
    labels: ProjectedLabels
    job: CropJob


def _write_cameras(
    config: RunConfig,
    recording: Recording,
    make_backbone: Callable[[], PoseBackbone],
    writer: ShardWriter,
) -> None:
    make_worker = functools.partial(
        HeatmapWorker, make_backbone, config.data.grid, config.backbone.batch_size
    )
    # The actors run ahead of the writer by a bounded number of chunks, which `tee` holds.
    chunks, ahead = tee(_chunks(config, recording))
    jobs = (chunk.job for chunk in ahead)
    total = sum(len(paths) for paths in recording.images.values())
    with closing(ordered_map(make_worker, jobs, config.cluster)) as results:
        pairs = zip(chunks, results, strict=True)
        with closing(track(pairs, total, "images", size=lambda pair: pair[0].images)) as work:
            for chunk, heatmaps in work:
                writer.append_camera(chunk.camera, _block(chunk.labels, heatmaps))


def _chunks(config: RunConfig, recording: Recording) -> Iterator[_Chunk]:
    for camera in recording.rig.cameras:
        labels = project_labels(
            camera,
            recording.samples.joints_world,
            config.data.crop_px,
            config.data.crop_scale,
            config.data.min_visible_share,
            cube_side(config.data, recording.rig),
        )
        for rows in _row_ranges(recording.samples.frame, config.backbone.batch_size):
            part = ProjectedLabels(
                labels.label_image_px[rows],
                labels.crop_from_image[rows],
                labels.visibility[rows],
                labels.seen[rows],
            )
            yield _chunk(camera, recording, rows, part, config.data.crop_px)


def _row_ranges(frame: np.ndarray, target: int) -> Iterator[slice]:
    """Cut rows into runs of whole frames, of about ``target`` rows."""
    starts = np.flatnonzero(np.diff(frame, prepend=frame[0] - 1))
    begin = 0
    for end in [*starts[1:].tolist(), len(frame)]:
        if end - begin >= target or end == len(frame):
            yield slice(begin, end)
            begin = end


def _chunk(
    camera: Camera, recording: Recording, rows: slice, labels: ProjectedLabels, crop_px: int
) -> _Chunk:
    frame_of_row = recording.samples.frame[rows]
    paths = recording.images[camera.name]
    frames = np.unique(frame_of_row).tolist()
    seen = {frame: labels.seen & (frame_of_row == frame) for frame in frames}
    images = tuple(
        ImageCrops(paths[frame], labels.crop_from_image[mask])
        for frame, mask in seen.items()
        if mask.any()
    )
    job = CropJob(size=(camera.width, camera.height), crop_px=crop_px, images=images)
    return _Chunk(camera.name, len(frames), labels, job)


def _block(labels: ProjectedLabels, seen_heatmaps: np.ndarray) -> CameraBlock:
    shape = (len(labels.seen), *seen_heatmaps.shape[1:])
    heatmaps = np.zeros(shape, seen_heatmaps.dtype)
    heatmaps[labels.seen] = seen_heatmaps
    return CameraBlock(
        heatmaps=heatmaps,
        label_image_px=labels.label_image_px,
        crop_from_image=labels.crop_from_image,
        visibility=labels.visibility,
        seen=labels.seen,
    )


def _source(config: RunConfig, recording: Recording, backbone: PoseBackbone) -> dict[str, Any]:
    sizes = {f"{camera.width}x{camera.height}" for camera in recording.rig.cameras}
    return {
        "kind": "recording",
        "sequence": recording.name,
        # Where pictures of an evaluation find the images again.
        "directory": str(Path(config.data.sequence or "").resolve()),
        "camera_type": config.data.camera_type,
        "image_size": sorted(sizes),
        "backbone": {"name": backbone.name, "sha256": backbone.digest},
        "labels": "3D poses of the recording, projected",
    }
