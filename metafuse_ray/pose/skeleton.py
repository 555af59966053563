"""Joint orders: which joint sits at which index, and how joints are connected.

``COCO19`` is the order of CMU Panoptic's ``joints19``. ``COCO17`` is the same order without Neck
and BodyCenter, which 2D backbones do not detect; it is the order of the task shards (and not that
of the COCO data set, which starts nose, eyes, ears).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from metafuse_ray.errors import ConfigError


@dataclass(frozen=True)
class Skeleton:
    """A joint order with its limbs and groups.

    Attributes:
        name: Name by which files refer to it.
        joints: Joint names in index order.
        limbs: Pairs of joint indices joined by a bone.
        groups: Joint indices by part, left before right: ``shoulder``, ``elbow``, ``wrist``,
            ``hip``, ``knee``, ``ankle``, ``face``.
        flip_pairs: Pairs ``(left, right)`` of indices that a mirrored image exchanges.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    groups: Mapping[str, tuple[int, ...]] = field(hash=False)
    flip_pairs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Return the index of a joint.

        Raises:
            ConfigError: The skeleton has no such joint; lists those it has.

        >>> COCO17.index("lShoulder")
        1
        """
        if joint not in self.joints:
            raise ConfigError(
                f"skeleton {self.name} has no joint {joint!r}; it has {', '.join(self.joints)}",
                joint=joint,
                known=self.joints,
            )
        return self.joints.index(joint)

    @property
    def from_coco19(self) -> npt.NDArray[np.int64]:
        """``(J,)`` indices that pick this skeleton's joints from a COCO19 axis.

        >>> COCO17.from_coco19[:3].tolist()
        [1, 3, 4]
        """
        return np.array([COCO19.index(joint) for joint in self.joints], dtype=np.int64)


_SIDED = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")

_COCO19_JOINTS = (
    "Neck", "Nose", "BodyCenter",
    "lShoulder", "lElbow", "lWrist", "lHip", "lKnee", "lAnkle",
    "rShoulder", "rElbow", "rWrist", "rHip", "rKnee", "rAnkle",
    "lEye", "lEar", "rEye", "rEar",
)  # fmt: skip

_LIMBS_OF_BOTH = (
    ("lShoulder", "lElbow"), ("lElbow", "lWrist"), ("rShoulder", "rElbow"), ("rElbow", "rWrist"),
    ("lHip", "lKnee"), ("lKnee", "lAnkle"), ("rHip", "rKnee"), ("rKnee", "rAnkle"),
    ("Nose", "lEye"), ("lEye", "lEar"), ("Nose", "rEye"), ("rEye", "rEar"),
)  # fmt: skip
_COCO19_TRUNK = (
    ("Neck", "Nose"), ("Neck", "BodyCenter"), ("Neck", "lShoulder"), ("Neck", "rShoulder"),
    ("BodyCenter", "lHip"), ("BodyCenter", "rHip"),
)  # fmt: skip
_COCO17_TRUNK = (
    ("lShoulder", "rShoulder"), ("lHip", "rHip"), ("lShoulder", "lHip"), ("rShoulder", "rHip"),
)  # fmt: skip


def _build(name: str, joints: tuple[str, ...], trunk: tuple[tuple[str, str], ...]) -> Skeleton:
    sides = {part: (joints.index(f"l{part}"), joints.index(f"r{part}")) for part in _SIDED}
    face = ("Nose", "lEye", "lEar", "rEye", "rEar")
    return Skeleton(
        name=name,
        joints=joints,
        limbs=tuple((joints.index(a), joints.index(b)) for a, b in (*trunk, *_LIMBS_OF_BOTH)),
        groups={part.lower(): pair for part, pair in sides.items()}
        | {"face": tuple(joints.index(joint) for joint in face)},
        flip_pairs=tuple(
            (joints.index(joint), joints.index("r" + joint[1:]))
            for joint in joints
            if joint.startswith("l")
        ),
    )


COCO19 = _build("coco19", _COCO19_JOINTS, _COCO19_TRUNK)
COCO17 = _build(
    "coco17",
    tuple(joint for joint in _COCO19_JOINTS if joint not in ("Neck", "BodyCenter")),
    _COCO17_TRUNK,
)


def skeleton_by_name(name: str) -> Skeleton:
    """Return the skeleton that files call by this name.

    Raises:
        ConfigError: No skeleton has this name; lists those there are.
    """
    known = {skeleton.name: skeleton for skeleton in (COCO19, COCO17)}
    if name not in known:
        raise ConfigError(f"unknown skeleton {name!r}; choose from {', '.join(known)}", key=name)
    return known[name]
