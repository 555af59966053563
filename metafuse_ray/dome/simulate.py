"""The simulated dome: a rig, moving people, and what each camera's virtual detector reports.

    plan = simulate(SimulateConfig(), DataConfig(), seed=0)
    samples, shots = plan.film(plan.clips[0])
    shots["00_03"].heatmaps

Each clip depends on the seed and its number alone, so clips can be filmed in any order, anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metafuse_ray.dome.detector import Detections, detect, render
from metafuse_ray.dome.motion import SECONDS_A_FRAME, Clip, Motion, Poses
from metafuse_ray.dome.occlusion import occlusion
from metafuse_ray.dome.rig import procedural_rig
from metafuse_ray.dome.settings import SimulateConfig
from metafuse_ray.dome.sources import open_motion
from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import COCO17, Skeleton
from metafuse_ray.recordings.labels import ProjectedLabels, box_scale, cube_side, project_labels
from metafuse_ray.recordings.panoptic_calibration import read_panoptic_calibration
from metafuse_ray.seeds import generator
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.blocks import CameraBlock, SampleBlock
from metafuse_ray.shards.settings import DataConfig


@dataclass(frozen=True, eq=False)
class DomePlan:
    """Everything that determines a simulated shard set, ready to be filmed."""

    settings: SimulateConfig
    data: DataConfig
    seed: int
    rig: Rig
    motion: Motion
    skeleton: Skeleton = COCO17

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips, training and test."""
        return self.motion.clips

    def film(self, clip: Clip) -> tuple[SampleBlock, Shots]:
        """Film one clip with every camera.

        Returns:
            The samples, frame by frame and person by person within a frame, and a mapping from
            camera name to what it sees, computed camera by camera when asked for.
        """
        poses = self.motion.poses(clip)
        rows = _labelled_rows(poses)
        frame_of, person_of = rows
        joints = poses.joints_world[frame_of, person_of][:, self.skeleton.from_coco19]
        confidence = poses.confidence[frame_of, person_of][:, self.skeleton.from_coco19]
        samples = SampleBlock(
            clip=np.full(len(frame_of), clip.index, np.int32),
            frame=poses.frames[frame_of].astype(np.int32),
            person=poses.persons[person_of].astype(np.int32),
            split=np.full(len(frame_of), clip.split, np.uint8),
            joints_world=joints.astype(np.float32),
            confidence=confidence.astype(np.float32),
        )
        return samples, Shots(self, clip, poses, rows)


class Shots(Mapping[str, CameraBlock]):
    """What each camera sees of a clip, computed when asked for: one camera in memory at a time."""

    def __init__(
        self, plan: DomePlan, clip: Clip, poses: Poses, rows: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self._plan = plan
        self._clip = clip
        self._poses = poses
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of cameras."""
        return len(self._plan.rig)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the cameras' names."""
        return iter(self._plan.rig.names)

    def __getitem__(self, name: str) -> CameraBlock:
        """Film the clip with one camera."""
        rows = len(self._rows[0])
        return next(self.pieces(name, rows)) if rows else _nothing(self._plan)

    def pieces(self, name: str, rows: int) -> Iterator[CameraBlock]:
        """Film the clip with one camera, a number of rows at a time: heatmaps fill memory."""
        if not len(self._rows[0]):  # nobody there, or nobody with enough known joints
            return
        plan = self._plan
        rng = generator(plan.seed, "detector", self._clip.index, name)
        view = _film(plan, plan.rig[name], self._poses, rng)
        pick = self._rows[0] * self._poses.joints_world.shape[1] + self._rows[1]
        for start in range(0, len(pick), rows):
            yield view.block(pick[start : start + rows], plan.data.grid)


def simulate(
    settings: SimulateConfig, data: DataConfig, seed: int, rig: Rig | None = None
) -> DomePlan:
    """Plan a simulated dome.

    Args:
        settings: Rig, motion, people and detector.
        data: Crops, grid, and which cameras to use.
        seed: Seed of everything.
        rig: Cameras to film with, instead of those of the settings.

    Raises:
        CalibrationError: The calibration cannot be used.
        DataError: The motion cannot be used.
        ConfigError: The motion has too few frames for the clips asked for.
    """
    if rig is None:
        rig = _rig(settings, data, seed)
    if data.cameras is not None:
        rig = rig.subset(data.cameras)
    if rig.unit != "cm" or rig.up != (0.0, -1.0, 0.0):
        raise CalibrationError(
            "the simulated dome needs a rig in centimetres with y down, as Panoptic's; got unit"
            f" {rig.unit} and up {rig.up}; convert the calibration",
            unit=rig.unit,
        )
    return DomePlan(settings, data, seed, rig, open_motion(settings, seed))


def _rig(settings: SimulateConfig, data: DataConfig, seed: int) -> Rig:
    if settings.calibration is None:
        return procedural_rig(settings.cameras, seed)
    return read_panoptic_calibration(settings.calibration, data.camera_type)


def _labelled_rows(poses: Poses) -> tuple[np.ndarray, np.ndarray]:
    """(frame, person) of every sample: people with at least two known joints."""
    known = np.isfinite(poses.joints_world).all(-1).sum(-1)
    return tuple(np.nonzero(known >= 2))  # type: ignore[return-value]


def _nothing(plan: DomePlan) -> CameraBlock:
    """Return what a camera sees of a clip without samples: no rows."""
    joints = len(plan.skeleton.joints)
    return CameraBlock(
        heatmaps=np.zeros((0, joints, *plan.data.grid), np.float32),
        label_image_px=np.zeros((0, joints, 2), np.float32),
        crop_from_image=np.zeros((0, 2, 3)),
        visibility=np.zeros((0, joints), bool),
        seen=np.zeros(0, bool),
    )


@dataclass(frozen=True, eq=False)
class _View:
    """What one camera sees of everyone in every frame, before heatmaps are drawn.

    Attributes:
        labels: One row a person and frame (F P).
        found: The same rows, each as a frame of one person.
    """

    labels: ProjectedLabels
    found: Detections

    def block(self, pick: np.ndarray, grid: Grid) -> CameraBlock:
        """Draw some rows."""
        labels, found = self.labels, self.found
        seen = labels.seen[pick]
        heatmaps = render(
            Detections(found.place[pick], found.height[pick], found.sigma[pick]), grid
        )
        heatmaps[~seen] = 0.0
        return CameraBlock(
            heatmaps=heatmaps,
            label_image_px=labels.label_image_px[pick].astype(np.float32),
            crop_from_image=labels.crop_from_image[pick],
            visibility=labels.visibility[pick],
            seen=seen,
        )


def _film(plan: DomePlan, camera: Camera, poses: Poses, rng: np.random.Generator) -> _View:
    data, skeleton = plan.data, plan.skeleton
    frames, people = poses.joints_world.shape[:2]
    everyone_FP19x3 = poses.joints_world
    labels = project_labels(
        camera,
        everyone_FP19x3[:, :, skeleton.from_coco19].reshape(frames * people, -1, 3),
        data.crop_px,
        box_scale(data),
        data.min_visible_share,
        cube_side(data, plan.rig),
    )
    everything_px = camera.project(everyone_FP19x3).reshape(frames, 1, -1, 2)
    crops = labels.crop_from_image.reshape(frames, people, 2, 3)
    found = detect(
        rng,
        _share_of_crop(crops, labels.label_image_px.reshape(frames, people, -1, 2), data.crop_px),
        _share_of_crop(crops, everything_px, data.crop_px),
        occlusion(camera.centre, everyone_FP19x3, skeleton.from_coco19),
        camera.contains(labels.label_image_px).reshape(frames, people, -1),
        skeleton,
        frames_a_second=1 / (SECONDS_A_FRAME * _step(poses.frames)),
        occlusion_strength=plan.settings.occlusion,
        noise=plan.settings.detector_noise,
    )
    place, height, sigma = (
        values.reshape(frames * people, 1, *values.shape[2:])
        for values in (found.place, found.height, found.sigma)
    )
    return _View(labels, Detections(place, height, sigma))


def _share_of_crop(crops: np.ndarray, image_px: np.ndarray, crop_px: int) -> np.ndarray:
    """Image pixels to shares of the crop's side: 0 at its left or top edge, 1 at the other."""
    return (apply_affine(crops, image_px) + 0.5) / crop_px


def _step(frames: np.ndarray) -> float:
    return float(np.median(np.diff(frames))) if len(frames) > 1 else 1.0
