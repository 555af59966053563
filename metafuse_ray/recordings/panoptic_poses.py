"""Reads people's 3D joints from CMU Panoptic pose files (``body3DScene_<frame>.json``)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafuse_ray.errors import DataError
from metafuse_ray.pose.skeleton import COCO19

FloatArray = npt.NDArray[np.float64]

_POSE_FILE = re.compile(r"body3DScene_(\d+)\.json")


@dataclass(frozen=True, eq=False)
class PoseRecord:
    """One person in one frame.

    Attributes:
        frame: Frame number of the recording.
        person: The recording's id of the person, stable over frames.
        joints_world: ``(19, 3)`` COCO19 joints in centimetres; NaN where missing.
        confidence: ``(19,)`` the recording's confidence; 0 where missing.
    """

    frame: int
    person: int
    joints_world: FloatArray
    confidence: FloatArray


def read_pose_file(path: str | PathLike[str]) -> tuple[PoseRecord, ...]:
    """Read the people of one ``body3DScene_<frame>.json``, ordered by id.

    A joint is missing where its confidence is not positive, or where x, y and z are all 0 or all
    -1, which is how recordings fill in what they do not know.

    Raises:
        DataError: The name or content is not that of a pose file, an id repeats, or a joint that
            is present is NaN or infinite; names the file, the person and the joint.
    """
    path = Path(path)
    match = _POSE_FILE.fullmatch(path.name)
    if match is None:
        raise _pose_error(path, "expected a name like body3DScene_00000123.json")
    records = [_record(path, int(match[1]), body) for body in _body_list(path)]
    people = [record.person for record in records]
    if len(set(people)) < len(people):
        raise _pose_error(path, f"person ids must differ within a frame, got {sorted(people)}")
    return tuple(sorted(records, key=lambda record: record.person))


def read_pose_folder(folder: Path) -> dict[int, tuple[PoseRecord, ...]]:
    """Read every pose file of a folder.

    Returns:
        People by frame, frames ascending. Other files in the folder are ignored.

    Raises:
        DataError: The folder is missing, holds no pose file, or one is malformed.
    """
    if not folder.is_dir():
        raise DataError(
            f"the pose folder {folder} is missing; extract the recording's {folder.name}.tar there",
            path=str(folder),
        )
    paths = {
        int(match[1]): path
        for path in sorted(folder.iterdir())
        if (match := _POSE_FILE.fullmatch(path.name))
    }
    if not paths:
        raise DataError(
            f"{folder} holds no body3DScene_<frame>.json; extract the recording's poses there",
            path=str(folder),
        )
    return {frame: read_pose_file(paths[frame]) for frame in sorted(paths)}


def _body_list(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _pose_error(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _pose_error(path, f"not valid JSON ({error}); extract it again") from error
    bodies = content.get("bodies") if isinstance(content, dict) else None
    if not isinstance(bodies, list):
        raise _pose_error(path, "expected a list under 'bodies', as Panoptic's pose files have it")
    return bodies


def _record(path: Path, frame: int, body: Any) -> PoseRecord:
    try:
        person = int(body["id"])
        values = np.asarray(body["joints19"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise _pose_error(
            path, f"every body needs a whole-number 'id' and numbers in 'joints19': {error!r}"
        ) from error
    expected = 4 * len(COCO19)
    if values.shape != (expected,):
        raise _pose_error(
            path,
            f"body {person}: joints19 must hold {expected} numbers (19 x x, y, z, confidence), "
            f"got shape {values.shape}",
            body=person,
        )
    joints, confidence = values.reshape(-1, 4)[:, :3], values.reshape(-1, 4)[:, 3]
    filler = np.all(joints == 0, axis=1) | np.all(joints == -1, axis=1)
    missing = (confidence <= 0) | filler
    _refuse_not_finite(path, person, values.reshape(-1, 4), missing)
    return PoseRecord(
        frame,
        person,
        np.where(missing[:, None], np.nan, joints),
        np.where(missing, 0.0, confidence),
    )


def _refuse_not_finite(
    path: Path, person: int, values: FloatArray, missing: npt.NDArray[np.bool_]
) -> None:
    bad = ~missing & ~np.all(np.isfinite(values), axis=1)
    if np.any(bad):
        joint = COCO19.joints[int(np.argmax(bad))]
        raise _pose_error(
            path,
            f"body {person}, joint {joint}: x, y, z, confidence are "
            f"{values[int(np.argmax(bad))].tolist()}; mark a missing joint by confidence -1",
            body=person,
            joint=joint,
        )


def _pose_error(path: Path, message: str, **fields: Any) -> DataError:
    return DataError(f"{path}: {message}", path=str(path), **fields)
