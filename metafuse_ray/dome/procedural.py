"""Procedural motion: new people in every clip, each drifting between a few activities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metafuse_ray.dome.body import ANGLES, channel, draw_body, pose_body, within_limits
from metafuse_ray.dome.motion import SECONDS_A_FRAME, Clip, Poses, held_out_count
from metafuse_ray.dome.placement import place_people
from metafuse_ray.dome.smooth import fourier_signal
from metafuse_ray.seeds import generator
from metafuse_ray.shards.blocks import TEST, TRAIN

Activity = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""(generator, seconds (F,)) -> angle table (F, ANGLES)."""


class ProceduralMotion:
    """Clips of articulated people, drawn from a seed.

    Args:
        clips: Number of clips; the last ones are for testing.
        frames: Frames a clip after decimation.
        people: People at a time.
        frame_step: Keep one frame in so many of 30 Hz.
        test_share: Share of the clips for testing.
        seed: Seed; with a clip's number it determines the clip.
    """

    def __init__(
        self, *, clips: int, frames: int, people: int, frame_step: int, test_share: float, seed: int
    ) -> None:
        self._frames = np.arange(frames) * frame_step
        self._seed = seed
        tests = held_out_count(clips, test_share)
        self._clips = tuple(
            Clip(
                index=index,
                split=TEST if index >= clips - tests else TRAIN,
                subjects=tuple(f"p{index * people + person}" for person in range(people)),
            )
            for index in range(clips)
        )

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips, training clips first."""
        return self._clips

    def poses(self, clip: Clip) -> Poses:
        """Draw the people of a clip and their motion."""
        seconds_F = self._frames * SECONDS_A_FRAME
        people = [
            animate(generator(self._seed, "motion", clip.index, subject), seconds_F)
            for subject in clip.subjects
        ]
        joints = np.stack([body for body, _ in people], 1)
        place = generator(self._seed, "place", clip.index)
        joints[..., [0, 2]] += place_people(place, np.stack([path for _, path in people], 1))[
            :, :, None
        ]
        return Poses(
            frames=self._frames,
            persons=np.arange(len(people)),
            joints_world=joints,
            confidence=np.ones(joints.shape[:3]),
        )


def animate(rng: np.random.Generator, seconds_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a person and let them move.

    Returns:
        (F, 19, 3) joints about the world's origin (see `pose_body`) and (F, 2) floor path in cm.
    """
    body = draw_body(rng)
    kinds = rng.choice(len(ACTIVITIES), size=3, replace=False)
    tables = np.stack([ACTIVITIES[kind](rng, seconds_F) for kind in kinds])
    # A soft choice between the three activities that changes every few seconds.
    choice = 3.0 * fourier_signal(rng, seconds_F, 3, slowest_s=16, fastest_s=6)
    share = np.exp(choice - choice.max(1, keepdims=True))
    angles = np.einsum("fa,afc->fc", share / share.sum(1, keepdims=True), tables)
    angles += 0.08 * fourier_signal(rng, seconds_F, ANGLES, slowest_s=5, fastest_s=0.8)
    angles[:, channel("yaw")] = _turning(rng, seconds_F)
    path = rng.uniform(15, 45) * fourier_signal(rng, seconds_F, 2, slowest_s=14, fastest_s=6)
    return pose_body(body, within_limits(angles)), path


def _turning(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    facing = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.15) * seconds_F
    return facing[:, None] + 0.6 * fourier_signal(rng, seconds_F, 1, slowest_s=12, fastest_s=4)


def _standing(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """An upright posture with hanging arms: where every activity starts from."""
    table = np.zeros((len(seconds_F), ANGLES))
    table[:, channel("hip_abduct")] = rng.uniform(0.03, 0.15)
    table[:, channel("knee")] = rng.uniform(0.03, 0.15)
    table[:, channel("hip_flex")] = 0.5 * table[:, channel("knee")]
    table[:, channel("arm_raise")] = rng.uniform(0.1, 0.25)
    table[:, channel("arm_plane")] = rng.uniform(0.8, 1.4)
    table[:, channel("elbow")] = rng.uniform(0.2, 0.5)
    table[:, channel("head")] = fourier_signal(rng, seconds_F, 3, slowest_s=6, fastest_s=2) * [
        0.15,
        0.08,
        0.35,
    ]
    return table


def _range(rng: np.random.Generator, seconds_F: np.ndarray, low: float, high: float) -> np.ndarray:
    """Two smooth signals, left and right, that stay mostly between two values."""
    signal = fourier_signal(rng, seconds_F, 2, slowest_s=5, fastest_s=1.2)
    return (low + high) / 2 + (high - low) / 2 * np.tanh(signal)


def gesture(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Talk with both hands."""
    table = _standing(rng, seconds_F)
    table[:, channel("arm_raise")] = _range(rng, seconds_F, 0.1, 1.0)
    table[:, channel("arm_plane")] = _range(rng, seconds_F, 0.0, 1.2)
    table[:, channel("arm_twist")] = _range(rng, seconds_F, -0.2, 0.8)
    table[:, channel("elbow")] = _range(rng, seconds_F, 0.6, 2.0)
    return table


def walk(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Walk in place, arms swinging against the legs."""
    table = _standing(rng, seconds_F)
    vigour = rng.uniform(0.7, 1.3)
    phase = 2 * np.pi * rng.uniform(0.6, 1.1) * seconds_F[:, None] + np.array([0, np.pi])
    table[:, channel("hip_flex")] = 0.15 + 0.4 * vigour * np.sin(phase)
    table[:, channel("knee")] = 0.12 + 0.8 * vigour * np.clip(np.cos(phase), 0, None) ** 2
    table[:, channel("arm_raise")] = -0.5 * vigour * np.sin(phase)
    table[:, channel("arm_plane")] = 0.15
    table[:, channel("spine")] = np.stack(
        [0.08 + 0 * phase[:, 0], 0.03 * np.cos(phase[:, 0]), 0.15 * np.sin(phase[:, 0])], 1
    )
    return table


def reach(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Reach high, wide and low with either arm, the trunk following."""
    table = _standing(rng, seconds_F)
    raised = _range(rng, seconds_F, 0.2, 2.4)
    table[:, channel("arm_raise")] = raised
    table[:, channel("arm_plane")] = _range(rng, seconds_F, -0.2, 1.5)
    table[:, channel("elbow")] = _range(rng, seconds_F, 0.1, 1.0)
    table[:, channel("spine")] = (
        fourier_signal(rng, seconds_F, 3, slowest_s=6, fastest_s=2) * [0.25, 0.2, 0.3]
        + [0.15, 0, 0]
        + 0.1 * (raised @ np.array([[0, -1, -1], [0, 1, 1]]))
    )
    return table


def squat(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Go down and up, arms forward for balance."""
    table = _standing(rng, seconds_F)
    cycle = 2 * np.pi * rng.uniform(0.15, 0.35) * seconds_F + rng.uniform(0, 2 * np.pi)
    depth = rng.uniform(0.6, 1.0) * (0.5 - 0.5 * np.cos(cycle))[:, None]
    lean = rng.uniform(0.3, 0.6) * depth
    table[:, channel("lean")] = lean * [1, 0]
    table[:, channel("hip_flex")] = 1.35 * depth + lean
    table[:, channel("hip_abduct")] += 0.2 * depth
    table[:, channel("knee")] = 0.1 + 1.9 * depth
    table[:, channel("arm_raise")] = 0.2 + rng.uniform(0.6, 1.3) * depth
    table[:, channel("arm_plane")] = rng.uniform(0.0, 0.6)
    return table


def wave(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Wave with one arm, or signal with both."""
    table = gesture(rng, seconds_F)
    side = rng.integers(3)  # left, right, both
    arms = slice(None) if side == 2 else slice(side, side + 1)
    beat = np.sin(2 * np.pi * rng.uniform(0.6, 1.6) * seconds_F + rng.uniform(0, 6))[:, None]
    high = _range(rng, seconds_F, 1.4, 2.6)
    for name, value in (
        ("arm_raise", high),
        ("arm_plane", _range(rng, seconds_F, 0.6, 1.6)),
        ("arm_twist", 0.2 * beat + 0 * high),
        ("elbow", 0.9 + 0.6 * beat + 0 * high),
    ):
        table[:, channel(name)][:, arms] = value[:, arms]
    return table


def bend(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Bend down to the floor and come up, hands reaching down."""
    table = reach(rng, seconds_F)
    cycle = 2 * np.pi * rng.uniform(0.12, 0.3) * seconds_F + rng.uniform(0, 2 * np.pi)
    depth = (0.5 - 0.5 * np.cos(cycle))[:, None]
    table[:, channel("lean")] = 0.8 * depth * [1, 0]
    table[:, channel("hip_flex")] = 0.8 * depth + 0.35 * depth
    table[:, channel("knee")] = 0.1 + 0.6 * depth
    table[:, channel("spine")] += 0.7 * depth * [1, 0, 0]
    mixed = table[:, channel("arm_raise")]
    table[:, channel("arm_raise")] = (1 - depth) * mixed + 1.3 * depth
    return table


def play(rng: np.random.Generator, seconds_F: np.ndarray) -> np.ndarray:
    """Stand or sit at an instrument, both hands busy in front of the body."""
    table = _standing(rng, seconds_F)
    sitting = rng.choice([0.0, 1.0])
    table[:, channel("hip_flex")] += 1.3 * sitting
    table[:, channel("knee")] += 1.4 * sitting
    table[:, channel("hip_abduct")] += 0.15 * sitting
    hands = fourier_signal(rng, seconds_F, 2, slowest_s=1.5, fastest_s=0.4)
    table[:, channel("arm_raise")] = _range(rng, seconds_F, 0.2, 0.8)
    table[:, channel("arm_plane")] = _range(rng, seconds_F, 0.2, 1.0)
    table[:, channel("arm_twist")] = _range(rng, seconds_F, 0.0, 0.9)
    table[:, channel("elbow")] = 1.4 + 0.25 * hands
    return table


ACTIVITIES: tuple[Activity, ...] = (gesture, walk, reach, squat, wave, bend, play)
