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
from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.backbones.table import BACKBONES
from metafuse_ray.cluster.map import ordered_map
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.choice import chosen
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.progress import track
from metafuse_ray.recordings.heatmap_worker import CropJob, HeatmapWorker, ImageCrops
from metafuse_ray.recordings.labels import ProjectedLabels, box_scale, cube_side, project_labels
from metafuse_ray.recordings.recording import Recording
from metafuse_ray.recordings.table import RECORDINGS, read_recording
from metafuse_ray.runs.job import job
from metafuse_ray.runs.reads import WRITTEN, actors
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.shards.blocks import CameraBlock
from metafuse_ray.shards.opening import shards_to_write
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.splits import split_cameras
from metafuse_ray.shards.writer import ShardWriter

_log = logging.getLogger(__name__)


def _reads(config: RunConfig) -> tuple[str, ...]:
    recording = ("data.sequence", "data.format", "data.train_frame_share", "backbone.batch_size")
    form = RECORDINGS.get(config.data.format)
    of_form = () if form is None else form.reads
    return (*WRITTEN, *recording, *of_form, *_of_backbone(config.backbone), *actors(config.cluster))


def _of_backbone(backbone: BackboneConfig) -> tuple[str, ...]:
    row = BACKBONES.get(backbone.name)
    return ("backbone.name", *(() if row is None else row.reads))


@job(_reads)
def prepare(config: RunConfig) -> str:
    """Run the backbone over the images of ``data.sequence`` and write ``data.shards``.

    Images, backbone and output folder are checked before any work starts.

    Args:
        config: What to read, which backbone, where to write and on how many actors.

    Returns:
        Where the shards are; an older shard set there is replaced once the new one is whole.

    Raises:
        MetaFuseError: A setting, calibration, label, image or the backbone cannot be used, or the
            folder cannot be written; nothing is left half-written.
    """
    row = chosen(BACKBONES, config.backbone.name, "backbone.name")
    make_backbone = functools.partial(row.load, config.backbone)
    backbone = make_backbone()  # fetched and verified here, once, before the actors ask for it
    recording = read_recording(config.data, backbone.skeleton)
    split = split_cameras(config.data, recording.rig.names, config.seed)
    source = _source(config.data, recording, backbone)
    with shards_to_write(config.data, recording.rig, backbone.skeleton, split, source) as writer:
        writer.append_samples(recording.samples)
        size = config.backbone.batch_size
        make_worker = functools.partial(HeatmapWorker, make_backbone, config.data.grid, size)
        chunks = _chunks(config.data, size, recording)
        _write_cameras(chunks, recording, make_worker, config.cluster, writer)
    return config.data.shards


@job(lambda config: _of_backbone(config.backbone))
def fetch_backbone(config: RunConfig) -> Path:
    """Fetch the weights of the backbone into the cache, or verify those that are there."""
    row = chosen(BACKBONES, config.backbone.name, "backbone.name")
    file = row.fetch(config.backbone)
    _log.info("backbone %s: %s", config.backbone.name, file)
    return file


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Consecutive rows of one camera: their labels, and the job that makes their heatmaps."""

    camera: str
    images: int
    labels: ProjectedLabels
    job: CropJob


def _write_cameras(
    every: Iterator[_Chunk],
    recording: Recording,
    make_worker: Callable[[], HeatmapWorker],
    cluster: ClusterConfig,
    writer: ShardWriter,
) -> None:
    # The actors run ahead of the writer by a bounded number of chunks, which `tee` holds.
    chunks, ahead = tee(every)
    jobs = (chunk.job for chunk in ahead)
    total = sum(len(paths) for paths in recording.images.values())
    with closing(ordered_map(make_worker, jobs, cluster)) as results:
        pairs = zip(chunks, results, strict=True)
        with closing(track(pairs, total, "images", size=lambda pair: pair[0].images)) as work:
            for chunk, heatmaps in work:
                writer.append_camera(chunk.camera, _block(chunk.labels, heatmaps))


def _chunks(data: DataConfig, batch_size: int, recording: Recording) -> Iterator[_Chunk]:
    for camera in recording.rig.cameras:
        labels = project_labels(
            camera,
            recording.samples.joints_world,
            data.crop_px,
            box_scale(data),
            data.min_visible_share,
            cube_side(data, recording.rig),
        )
        for rows in _row_ranges(recording.samples.frame, batch_size):
            part = ProjectedLabels(
                labels.label_image_px[rows],
                labels.crop_from_image[rows],
                labels.visibility[rows],
                labels.seen[rows],
            )
            yield _chunk(camera, recording, rows, part, data.crop_px)


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


def _source(data: DataConfig, recording: Recording, backbone: PoseBackbone) -> dict[str, Any]:
    sizes = {f"{camera.width}x{camera.height}" for camera in recording.rig.cameras}
    return {
        "kind": "recording",
        "format": data.format,
        "sequence": recording.name,
        # The pictures of an evaluation find the images here again.
        "directory": str(Path(data.sequence or "").resolve()),
        **_of_format(data),
        "image_size": sorted(sizes),
        "backbone": {"name": backbone.name, "sha256": backbone.digest},
        "labels": "3D poses of the recording, projected",
    }


def _of_format(data: DataConfig) -> dict[str, Any]:
    """Return the settings that this format alone reads, by which it finds its images again."""
    names = [path.partition(".")[2] for path in RECORDINGS[data.format].reads]
    return {name: getattr(data, name) for name in names}
