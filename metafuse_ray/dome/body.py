"""An articulated body: bone lengths of a person, joint angles to coco19 joints.

Body axes: x to the person's left, y down, z backwards. Every angle is in radians and every
segment hangs from its parent with zero angles in the upright posture, arms down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANNELS = {
    "yaw": 1,  # turning about the vertical
    "lean": 2,  # pelvis: forwards, to the left
    "spine": 3,  # chest on pelvis: forwards, to the left, twist
    "head": 3,  # head on chest: forwards, to the left, twist
    "hip_flex": 2,  # left, right: thigh forwards
    "hip_abduct": 2,  # thigh outwards
    "knee": 2,  # shank backwards
    "arm_raise": 2,  # upper arm away from hanging
    "arm_plane": 2,  # direction of the raise: 0 forwards, pi / 2 sideways
    "arm_twist": 2,  # upper arm about itself, hand inwards
    "elbow": 2,  # forearm forwards
}
"""Channels of an angle table (F, `ANGLES`) and how many columns each has."""

ANGLES = sum(CHANNELS.values())
_FREE = (-np.inf, np.inf)
_LIMITS = {
    "yaw": _FREE,
    "lean": (-0.5, 0.9),
    "spine": (-0.6, 0.9),
    "head": (-0.7, 0.8),
    "hip_flex": (-0.5, 2.1),
    "hip_abduct": (-0.2, 0.8),
    "knee": (0.0, 2.4),
    "arm_raise": (-0.8, 2.8),
    "arm_plane": (-0.5, 1.8),
    "arm_twist": (-0.6, 1.2),
    "elbow": (0.05, 2.5),
}
_OUTWARDS = np.array([1.0, -1.0])  # sign of x on the left and on the right


def channel(name: str) -> slice:
    """Return the columns of a channel in an angle table.

    >>> channel("lean")
    slice(1, 3, None)
    """
    names = list(CHANNELS)
    start = sum(CHANNELS[before] for before in names[: names.index(name)])
    return slice(start, start + CHANNELS[name])


def within_limits(angles: np.ndarray) -> np.ndarray:
    """Return a copy of an angle table clipped to a body's range of motion."""
    clipped = angles.copy()
    for name, (low, high) in _LIMITS.items():
        columns = channel(name)
        clipped[:, columns] = np.clip(angles[:, columns], low, high)
    return clipped


@dataclass(frozen=True)
class Body:
    """Bone lengths of one person in centimetres; both sides are the same."""

    thigh: float
    shank: float
    ankle_height: float
    hip_width: float
    spine: float
    shoulder_width: float
    upper_arm: float
    forearm: float
    head: float
    """Neck (middle of the shoulders) to the middle of the ears."""


def draw_body(rng: np.random.Generator) -> Body:
    """Draw a person of 155 to 195 cm with proportions that vary by a few per cent."""
    stature = float(np.clip(rng.normal(173, 8), 155, 195))

    def bone(share: float, spread: float = 0.05) -> float:
        return float(stature * share * np.exp(np.clip(rng.normal(0, spread), -0.12, 0.12)))

    return Body(
        thigh=bone(0.235),
        shank=bone(0.235),
        ankle_height=bone(0.045),
        hip_width=bone(0.11, 0.07),
        spine=bone(0.295),
        shoulder_width=bone(0.2, 0.07),
        upper_arm=bone(0.165),
        forearm=bone(0.145),
        head=bone(0.115),
    )


def pose_body(body: Body, angles: np.ndarray) -> np.ndarray:
    """Place the coco19 joints of a body standing on the floor below the world's origin.

    Args:
        body: Bone lengths.
        angles: (F, `ANGLES`) angle table.

    Returns:
        (F, 19, 3) joints in centimetres in the Panoptic world's axes (y down, floor y = 0), the
        lower ankle at ankle height and BodyCenter at x = z = 0.
    """
    part = {name: angles[:, channel(name)] for name in CHANNELS}
    pelvis = _about("y", part["yaw"][:, 0]) @ _bend(part["lean"])
    half = pelvis @ _bend(part["spine"] / 2)
    chest = half @ _bend(part["spine"] / 2)
    neck = -0.45 * body.spine * half[..., 1] - 0.55 * body.spine * chest[..., 1]
    joints = np.zeros((len(angles), 19, 3))
    joints[:, 0] = neck
    _place_head(joints, body, neck, chest @ _bend(part["head"]))
    for side, (shoulder, hip) in enumerate(((3, 6), (9, 12))):
        joints[:, shoulder : shoulder + 3] = _arm(body, part, side, neck, chest)
        joints[:, hip : hip + 3] = _leg(body, part, side, pelvis)
    lowest = joints[:, [8, 14], 1].max(1)
    joints[..., 1] -= (lowest + body.ankle_height)[:, None]
    return joints


def _arm(
    body: Body, part: dict[str, np.ndarray], side: int, neck: np.ndarray, chest: np.ndarray
) -> np.ndarray:
    out = _OUTWARDS[side]
    raised, plane = part["arm_raise"][:, side], -out * part["arm_plane"][:, side]
    # Swing without twist: turn the axis of the raise, not the arm about itself.
    swing = _about("y", plane) @ _about("x", -raised) @ _about("y", -plane)
    upper = chest @ swing @ _about("y", out * part["arm_twist"][:, side])
    fore = upper @ _about("x", -part["elbow"][:, side])
    # The shoulder girdle rises with the arm.
    lift = 0.12 * np.clip(raised - 1.2, 0, None)[:, None] * chest[..., 1]
    shoulder = neck + body.shoulder_width * (out / 2 * chest[..., 0] - 0.5 * lift)
    elbow = shoulder + body.upper_arm * upper[..., 1]
    return np.stack([shoulder, elbow, elbow + body.forearm * fore[..., 1]], 1)


def _leg(body: Body, part: dict[str, np.ndarray], side: int, pelvis: np.ndarray) -> np.ndarray:
    out = _OUTWARDS[side]
    thigh = (
        pelvis
        @ _about("z", -out * part["hip_abduct"][:, side])
        @ _about("x", -part["hip_flex"][:, side])
    )
    shank = thigh @ _about("x", part["knee"][:, side])
    hip = out / 2 * body.hip_width * pelvis[..., 0]
    knee = hip + body.thigh * thigh[..., 1]
    return np.stack([hip, knee, knee + body.shank * shank[..., 1]], 1)


# Face joints in the head's frame, in units of the neck-to-ears length: nose, eyes, ears.
_FACE = {
    1: (0.0, -0.9, -0.52),
    15: (0.16, -1.05, -0.45),
    16: (0.38, -1.0, 0.0),
    17: (-0.16, -1.05, -0.45),
    18: (-0.38, -1.0, 0.0),
}


def _place_head(joints: np.ndarray, body: Body, neck: np.ndarray, head: np.ndarray) -> None:
    for joint, offset in _FACE.items():
        joints[:, joint] = neck + body.head * (head @ np.array(offset))


def _bend(angles: np.ndarray) -> np.ndarray:
    """Forwards, to the left and, where there is a third column, twist to the left."""
    rotation = _about("x", angles[:, 0]) @ _about("z", angles[:, 1])
    return rotation @ _about("y", -angles[:, 2]) if angles.shape[1] > 2 else rotation


def _about(axis: str, angle: np.ndarray) -> np.ndarray:
    """Right-handed rotations (F, 3, 3) about one axis."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.zeros((len(angle), 3, 3))
    rotation[:, range(3), range(3)] = 1.0
    rotation[:, i, i] = rotation[:, j, j] = np.cos(angle)
    rotation[:, j, i] = np.sin(angle)
    rotation[:, i, j] = -rotation[:, j, i]
    return rotation
