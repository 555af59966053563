"""Motion capture as motion: an npz of coco19 clips, y up, in centimetres.

The file holds ``joints_q`` (frames, 19, 3) integers that ``scale`` turns into centimetres, the
first frame ``start`` of every take and one past the last, and each take's ``subject`` and
``category``. Takes of a category ending in ``_pair`` whose names differ in the subject alone are
frame-synchronous couples.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metafuse_ray.dome.motion import Clip, Poses, held_out_count
from metafuse_ray.dome.placement import place_people
from metafuse_ray.errors import ConfigError, DataError
from metafuse_ray.seeds import generator
from metafuse_ray.shards.blocks import TEST, TRAIN

_KEYS = ("joints_q", "scale", "start", "names", "category", "subject")
_WORLD_FROM_FILE = np.array([1.0, -1.0, -1.0])  # y up to y down, still right-handed
_BODY_CENTRE = 2


@dataclass(frozen=True)
class Take:
    """One recorded stretch: frames ``start`` to ``end`` (past the last) of the file."""

    start: int
    end: int
    subject: str
    partner: int | None
    """Number of the take of the other half of the couple."""


class MocapMotion:
    """Clips cut from motion capture; no subject is in training and test clips.

    Args:
        path: The npz.
        clips: Number of clips.
        frames: Frames a clip after decimation.
        people: People at a time, from different subjects where there are enough.
        frame_step: Keep one frame in so many.
        test_share: Share of the clips for testing, and of the frames whose subjects are for it.
        seed: Seed of the split, the cuts and the places.

    Raises:
        DataError: The file is missing, damaged or of another form.
        ConfigError: No take of one of the splits is long enough for a clip.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clips: int,
        frames: int,
        people: int,
        frame_step: int,
        test_share: float,
        seed: int,
    ) -> None:
        self._joints_q, self._scale, self._takes = _read(Path(path))
        self._seed = seed
        self._offsets = np.arange(frames) * frame_step
        tests = held_out_count(clips, test_share)
        for_test = _test_subjects(self._takes, test_share, seed)
        needed = int(self._offsets[-1]) + 1
        pools = [
            [
                number
                for number, take in enumerate(self._takes)
                if (take.subject in for_test) == wanted and take.end - take.start >= needed
            ]
            for wanted in (False, True)
        ]
        if not pools[0] or not pools[1]:
            raise ConfigError(
                f"{path}: a clip of {frames} frames with simulate.frame_step={frame_step} needs a"
                f" take of {needed} frames, but the {'test' if pools[0] else 'training'} subjects"
                " have none so long; lower simulate.frames_per_clip or simulate.frame_step",
                path=str(path),
                keys=("simulate.frames_per_clip", "simulate.frame_step"),
            )
        self._clips = tuple(
            self._cut(index, pools[index >= clips - tests], people, index >= clips - tests)
            for index in range(clips)
        )

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All clips, training clips first."""
        return self._clips

    def poses(self, clip: Clip) -> Poses:
        """Cut the takes of a clip out, turn each about the vertical and place it in the dome."""
        rng = generator(self._seed, "mocap place", clip.index)
        together = self._couples(clip.takes)
        joints = np.stack([self._frames(*take) for take in clip.takes], 1)
        for group in together:
            turn = _turn(rng.uniform(0, 2 * np.pi))
            joints[:, group] = joints[:, group] @ turn.T
        paths = joints[:, :, _BODY_CENTRE, [0, 2]]
        joints[..., [0, 2]] += (place_people(rng, paths, together) - paths)[:, :, None]
        return Poses(
            frames=self._offsets,
            persons=np.arange(len(clip.takes)),
            joints_world=joints,
            confidence=np.ones(joints.shape[:3]),
        )

    def _cut(self, index: int, pool: list[int], people: int, test: bool) -> Clip:
        rng = generator(self._seed, "mocap cut", index)
        chosen: list[tuple[int, int]] = []
        while len(chosen) < people:
            used = {self._takes[number].subject for number, _ in chosen}
            fresh = [number for number in pool if self._takes[number].subject not in used]
            number = int(rng.choice(fresh or pool))
            take = self._takes[number]
            start = int(rng.integers(take.end - take.start - self._offsets[-1]))
            chosen.append((number, start))
            if take.partner in pool and take.partner is not None and len(chosen) < people:
                chosen.append((take.partner, start))
        return Clip(
            index=index,
            split=TEST if test else TRAIN,
            subjects=tuple(self._takes[number].subject for number, _ in chosen),
            takes=tuple(chosen),
        )

    def _frames(self, number: int, start: int) -> np.ndarray:
        rows = self._takes[number].start + start + self._offsets
        return self._joints_q[rows] * (self._scale * _WORLD_FROM_FILE)

    def _couples(self, takes: tuple[tuple[int, ...], ...]) -> list[list[int]]:
        groups: list[list[int]] = []
        for person, (number, start) in enumerate(takes):
            previous = takes[person - 1] if person and len(groups[-1]) == 1 else None
            if previous == (self._takes[number].partner, start):
                groups[-1].append(person)
            else:
                groups.append([person])
        return groups


def _read(path: Path) -> tuple[np.ndarray, float, list[Take]]:
    try:
        # Opened here: np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file]
            if missing:
                raise DataError(
                    f"{path}: a mocap file holds {', '.join(_KEYS)}, but {', '.join(missing)} is"
                    " missing; correct simulate.motion",
                    path=str(path),
                )
            data = {key: file[key] for key in _KEYS}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not a readable mocap npz ({error}); correct simulate.motion", path=str(path)
        ) from None
    start, joints = data["start"], data["joints_q"]
    count = len(data["names"])
    if joints.shape[1:] != (19, 3) or len(start) != count + 1 or start[-1] != len(joints):
        raise DataError(
            f"{path}: expected joints_q (frames, 19, 3) and start of {count} takes ending at the"
            f" number of frames, got {joints.shape} and {len(start)} starts ending at {start[-1]};"
            " the file is damaged, fetch it again",
            path=str(path),
        )
    return joints, float(data["scale"]), _takes(data)


def _takes(data: dict[str, np.ndarray]) -> list[Take]:
    motif = [
        (str(category), str(name).replace(str(subject), "", 1))
        for name, category, subject in zip(
            data["names"], data["category"], data["subject"], strict=True
        )
    ]
    takes = []
    for number, key in enumerate(motif):
        others = [k for k, other in enumerate(motif) if k != number and other == key]
        couple = key[0].endswith("_pair") and len(others) == 1
        takes.append(
            Take(
                start=int(data["start"][number]),
                end=int(data["start"][number + 1]),
                subject=str(data["subject"][number]),
                partner=others[0] if couple else None,
            )
        )
    return takes


def _test_subjects(takes: list[Take], share: float, seed: int) -> set[str]:
    """Draw subjects, couples as one, until they have about their share of the frames."""
    partners = {take.subject: {take.subject} for take in takes}
    for take in takes:
        if take.partner is not None:
            partners[take.subject].add(takes[take.partner].subject)
    frames = {
        group: sum(take.end - take.start for take in takes if take.subject in group)
        for group in {frozenset(group) for group in partners.values()}
    }
    order = sorted(frames, key=sorted)
    wanted = share * sum(frames.values())
    chosen: list[frozenset[str]] = []
    for number in generator(seed, "mocap subjects").permutation(len(order)):
        taken = sum(frames[group] for group in chosen)
        # Take what brings the total closer to the share, but never everyone.
        if len(chosen) < len(order) - 1 and taken + frames[order[number]] / 2 <= wanted:
            chosen.append(order[number])
    if not chosen:
        chosen = [min(order, key=lambda group: frames[group])]
    return set().union(*chosen)


def _turn(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])
