"""The 3D poses of a Panoptic recording as motion, with several people and missing joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metafuse_ray.dome.motion import Clip, Poses, held_out_count
from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.pose.skeleton import COCO19
from metafuse_ray.recordings.panoptic_poses import PoseRecord, read_pose_folder
from metafuse_ray.shards.blocks import TEST, TRAIN

_POSES = "hdPose3d_stage1_coco19"


class RecordedMotion:
    """Clips of a recording, cut in time: the last ones are for testing.

    The people stay where they were recorded, so a rig that looks at the same studio sees them.

    Args:
        directory: A recording in the Panoptic layout, or its folder of pose files.
        clips: Most clips to cut; the recording is used from its start.
        frames: Most frames a clip.
        frame_step: Keep one recorded frame in so many.
        test_share: Share of the clips for testing.

    Raises:
        DataError: A pose file is missing or malformed.
        NotEnoughFramesError: Fewer frames than clips need: two, and two clips.
    """

    def __init__(
        self, directory: str | Path, *, clips: int, frames: int, frame_step: int, test_share: float
    ) -> None:
        folder = Path(directory)
        self._bodies = read_pose_folder(folder / _POSES if (folder / _POSES).is_dir() else folder)
        kept = list(self._bodies)[::frame_step]
        count = min(clips, max(2, -(-len(kept) // frames)))
        if len(kept) < count:
            raise NotEnoughFramesError(
                f"{folder}: {len(self._bodies)} recorded frames give {len(kept)} with"
                f" simulate.frame_step={frame_step}, expected at least {count}; lower it",
                path=str(folder),
                key="simulate.frame_step",
            )
        self._stretches = np.array_split(np.array(kept[: count * frames]), count)
        tests = held_out_count(count, test_share)
        self._clips = tuple(
            Clip(index=index, split=TEST if index >= count - tests else TRAIN, subjects=())
            for index in range(count)
        )

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips, in time."""
        return self._clips

    def poses(self, clip: Clip) -> Poses:
        """Return everyone in a stretch of the recording; NaN where somebody is absent."""
        frames = self._stretches[clip.index]
        records = [record for frame in frames for record in self._bodies[int(frame)]]
        persons = sorted({record.person for record in records})
        shape = (len(frames), len(persons), len(COCO19))
        joints, confidence = np.full((*shape, 3), np.nan), np.zeros(shape)
        for record in records:
            at = _row(record, frames, persons)
            joints[at], confidence[at] = record.joints_world, record.confidence
        return Poses(frames, np.array(persons, dtype=np.int64), joints, confidence)


def _row(record: PoseRecord, frames: np.ndarray, persons: list[int]) -> tuple[int, int]:
    return int(np.searchsorted(frames, record.frame)), persons.index(record.person)
