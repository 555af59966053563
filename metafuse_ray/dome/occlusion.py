"""Who hides whom: limb capsules between a camera and a joint.

A person is a set of capsules (a line segment with a radius) strung between joints. A joint is
hidden from a camera where the line of sight passes through a capsule that the joint is not an end
of: another limb, the trunk or head of the same person, or any part of someone else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metafuse_ray.pose.skeleton import COCO19

_HEAD = len(COCO19)  # extra point: the middle of the ears

# Ends, radius in centimetres, and joints that this capsule of their own body cannot hide.
_PARTS: tuple[tuple[str, str, float, tuple[str, ...]], ...] = (
    *(
        (f"{side}{start}", f"{side}{end}", radius, (f"{side}{start}", f"{side}{end}"))
        for side in "lr"
        for start, end, radius in (
            ("Shoulder", "Elbow", 4.5),
            ("Elbow", "Wrist", 3.5),
            ("Hip", "Knee", 8.0),
            ("Knee", "Ankle", 5.5),
        )
    ),
    *((f"{side}Shoulder", f"{side}Hip", 9.0, (f"{side}Shoulder", f"{side}Hip")) for side in "lr"),
    ("Neck", "BodyCenter", 11.0, ("Neck", "BodyCenter")),
    ("lHip", "rHip", 9.0, ("lHip", "rHip", "BodyCenter")),
    ("Neck", "Head", 6.0, ("Neck", "Nose", "lEye", "rEye", "lEar", "rEar")),
    ("Head", "Head", 9.5, ()),
)
PARTS = len(_PARTS)
"""Capsules a person."""

STANDOFF_CM = 8.0
"""The line of sight ends this far before the joint: flesh around the joint does not hide it."""


@dataclass(frozen=True, eq=False)
class Occlusion:
    """How hidden each joint is from one camera.

    Attributes:
        amount: (F, P, J) in [0, 1]: 0 in plain sight, 1 where the line of sight passes through
            the inner half of a capsule; linear in its distance from the axis in between.
        towards: (F, P, J) flat index ``person * 19 + joint``: the end, nearer to the line of
            sight, of the capsule that hides most; meaningless where ``amount`` is 0.
    """

    amount: np.ndarray
    towards: np.ndarray


def occlusion(
    centre_3: np.ndarray, joints_FP19x3: np.ndarray, joint_index: np.ndarray
) -> Occlusion:
    """Tell how far people and their limbs hide joints from a camera.

    Args:
        centre_3: The camera's centre in the world, centimetres.
        joints_FP19x3: coco19 joints of everyone, centimetres; capsules of missing joints hide
            nothing, missing joints are hidden by nothing.
        joint_index: (J,) coco19 indices of the joints to judge.

    Returns:
        The amounts and what hides.
    """
    frames, people = joints_FP19x3.shape[:2]
    start_FM3, end_FM3, radius_M = _capsules(joints_FP19x3)
    targets_FN3 = joints_FP19x3[:, :, joint_index].reshape(frames, -1, 3)
    distance_FNM, along_FNM = _sight_to_capsules(centre_3, targets_FN3, start_FM3, end_FM3)
    with np.errstate(invalid="ignore"):
        amount_FNM = np.clip((1.1 - distance_FNM / radius_M) / 0.6, 0, 1)
    amount_FNM = np.nan_to_num(amount_FNM) * ~_own_ends(people, joint_index)
    hider_FN = amount_FNM.argmax(-1)
    pick = (*np.ogrid[:frames, : hider_FN.shape[1]], hider_FN)
    shape = (frames, people, len(joint_index))
    return Occlusion(
        amount=amount_FNM[pick].reshape(shape),
        towards=_end_joint(hider_FN, along_FNM[pick] > 0.5).reshape(shape),
    )


def _capsules(joints_FP19x3: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames, people = joints_FP19x3.shape[:2]
    ears = joints_FP19x3[:, :, [COCO19.index("lEar"), COCO19.index("rEar")]]
    points = np.concatenate([joints_FP19x3, ears.mean(2, keepdims=True)], 2)
    ends = np.array([[_point(a), _point(b)] for a, b, _, _ in _PARTS])
    radius = np.tile([radius for _, _, radius, _ in _PARTS], people).astype(np.float32)
    start, end = (points[:, :, ends[:, k]].reshape(frames, people * PARTS, 3) for k in (0, 1))
    return start, end, radius


def _point(name: str) -> int:
    return _HEAD if name == "Head" else COCO19.index(name)


def _own_ends(people: int, joint_index: np.ndarray) -> np.ndarray:
    """(P J, P M) mask: the capsule is the joint's own."""
    spared = [{COCO19.index(name) for name in names} for *_, names in _PARTS]
    own = np.array([[joint in joints for joints in spared] for joint in joint_index])
    return np.kron(np.eye(people, dtype=bool), own)


def _end_joint(hider: np.ndarray, far_end: np.ndarray) -> np.ndarray:
    """Flat ``person * 19 + joint`` of the chosen end of each capsule; a head counts as its nose."""
    ends = np.array([[_point(a), _point(b)] for a, b, _, _ in _PARTS])
    ends[ends == _HEAD] = COCO19.index("Nose")
    return hider // PARTS * len(COCO19) + ends[hider % PARTS, far_end.astype(int)]


def _sight_to_capsules(
    centre_3: np.ndarray, targets_FN3: np.ndarray, start_FM3: np.ndarray, end_FM3: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distance (F, N, M) of sight segments to capsule axes, and where on the axis (0 to 1).

    Closest points of two segments (Ericson, Real-Time Collision Detection, 5.1.9), written with
    dot products only, so that no array of vectors per pair is formed.
    """
    sight = (targets_FN3 - centre_3).astype(np.float32)
    length = np.linalg.norm(sight, axis=-1, keepdims=True)
    sight *= np.maximum(length - STANDOFF_CM, 1e-3) / length
    axis = (end_FM3 - start_FM3).astype(np.float32)
    offset = (centre_3 - start_FM3).astype(np.float32)
    a = (sight**2).sum(-1)[:, :, None]
    e = np.maximum((axis**2).sum(-1), 1e-6)[:, None]
    f = (axis * offset).sum(-1)[:, None]
    r2 = (offset**2).sum(-1)[:, None]
    b = sight @ axis.swapaxes(1, 2)
    c = sight @ offset.swapaxes(1, 2)
    with np.errstate(invalid="ignore"):
        s = np.clip((b * f - c * e) / np.maximum(a * e - b * b, 1e-6), 0, 1)
        t = np.clip((b * s + f) / e, 0, 1)
        s = np.clip((b * t - c) / a, 0, 1)
        squared = r2 + s * (s * a + 2 * c - 2 * t * b) + t * (t * e - 2 * f)
        return np.sqrt(np.maximum(squared, 0)), t
