"""Reads recordings in the CMU Panoptic layout.

A recording is a folder::

    calibration_<seq>.json
    hdPose3d_stage1_coco19/body3DScene_<frame, 8 digits>.json
    hdImgs/00_03/00_03_<frame>.jpg        (or .png; optional)

VGA and Kinect cameras have ``vga...`` and ``kinect...`` folders likewise. ``<seq>`` need not be the
folder's name, frames may start anywhere and have gaps, and a person may be absent from some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

from metafuse_ray.errors import CalibrationError, DataError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.recordings.panoptic_calibration import read_panoptic_calibration
from metafuse_ray.recordings.panoptic_poses import PoseRecord, read_pose_folder

_FOLDER_PREFIX = {"hd": "hd", "vga": "vga", "kinect-color": "kinect"}
_IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg")


@dataclass(frozen=True, eq=False)
class PanopticSequence:
    """A recording: people's 3D joints, and the cameras; images stay on disk.

    Attributes:
        name: ``<seq>`` of the calibration file.
        directory: The recording's folder.
        rig: The cameras asked for.
        bodies: People of every frame that has a pose file, by frame in ascending order; a frame
            may have none.
        image_directory: Folder of the camera folders with images, or None where there is none.
    """

    name: str
    directory: Path
    rig: Rig
    bodies: Mapping[int, tuple[PoseRecord, ...]]
    image_directory: Path | None

    @property
    def frames(self) -> tuple[int, ...]:
        """Frame numbers that have a pose file, ascending."""
        return tuple(self.bodies)

    @property
    def records(self) -> tuple[PoseRecord, ...]:
        """Every person of every frame, by frame and then by person."""
        return tuple(record for records in self.bodies.values() for record in records)

    @cached_property
    def has_images(self) -> bool:
        """Whether any camera of the rig has a folder of images."""
        root = self.image_directory
        return root is not None and any((root / name).is_dir() for name in self.rig.names)

    def image_path(self, camera: str, frame: int) -> Path | None:
        """Return the image of a camera and frame, or None where there is none.

        Raises:
            CalibrationError: The rig has no such camera.
        """
        name = self.rig[camera].name
        if self.image_directory is None:
            return None
        stem = self.image_directory / name / f"{name}_{frame:08d}"
        paths = (stem.with_suffix(suffix) for suffix in _IMAGE_SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


def read_panoptic_sequence(
    directory: str | PathLike[str],
    *,
    camera_type: str = "hd",
    cameras: Sequence[str] | None = None,
) -> PanopticSequence:
    """Read a recording's calibration and poses.

    Args:
        directory: The recording's folder.
        camera_type: ``hd``, ``vga`` or ``kinect-color``.
        cameras: Names of the cameras wanted, in the order wanted; all of the type where None.

    Returns:
        The recording.

    Raises:
        CalibrationError: The calibration is missing or malformed, lacks a camera that is asked
            for, or lacks one that has images.
        DataError: The pose folder is missing or empty, or a pose file is malformed; names the
            file, and where known the person and the joint.
    """
    directory = Path(directory)
    if camera_type not in _FOLDER_PREFIX:
        raise CalibrationError(
            f"unknown camera type {camera_type!r}; choose from {', '.join(_FOLDER_PREFIX)}",
            key="camera_type",
        )
    if not directory.is_dir():
        raise DataError(
            f"the recording {directory} is not a folder; set data.sequence to one that holds "
            "calibration_<seq>.json",
            path=str(directory),
        )
    calibration = _find_calibration(directory)
    rig = read_panoptic_calibration(calibration, camera_type)
    image_directory = _image_directory(directory, camera_type, rig, calibration)
    return PanopticSequence(
        name=calibration.stem.removeprefix("calibration_"),
        directory=directory,
        rig=rig if cameras is None else rig.subset(cameras),
        bodies=read_pose_folder(directory / f"{_FOLDER_PREFIX[camera_type]}Pose3d_stage1_coco19"),
        image_directory=image_directory,
    )


def _find_calibration(directory: Path) -> Path:
    found = sorted(directory.glob("calibration_*.json"))
    own = directory / f"calibration_{directory.resolve().name}.json"
    if own in found or len(found) == 1:
        return own if own in found else found[0]
    state = f"several ({', '.join(path.name for path in found)})" if found else "none"
    raise CalibrationError(
        f"{directory}: expected one calibration_<seq>.json, found {state}; "
        "keep the one of this recording there",
        path=str(directory),
        found=[path.name for path in found],
    )


def _image_directory(directory: Path, camera_type: str, rig: Rig, calibration: Path) -> Path | None:
    root = directory / f"{_FOLDER_PREFIX[camera_type]}Imgs"
    if not root.is_dir():
        return None
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    unknown = [name for name in folders if not name.startswith(".") and name not in rig.names]
    if unknown:
        raise CalibrationError(
            f"{root} holds images of {', '.join(unknown)}, which {calibration.name} does not "
            f"calibrate (it has {', '.join(rig.names)}); remove or rename these folders, or use "
            "the calibration of this recording",
            path=str(root),
            camera=unknown[0],
            cameras=unknown,
        )
    return root
