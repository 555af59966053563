"""The trials of a sweep on disk, from which an interrupted sweep goes on.

Every trial has a folder named after its settings, so that a trial proposed again is found again.
It holds `trial.json`, written by the sweep's driver alone, and the trial's own checkpoint. Nothing
is pickled: reading it can run no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from metafuse_ray.errors import CheckpointError
from metafuse_ray.storage.files import atomic_file, storage_errors
from metafuse_ray.tuning.search_space import SearchRange, Settings

State = Literal["running", "stopped", "finished"]
_FILE = "trial.json"


@dataclass(frozen=True)
class Score:
    """A trial's scores on held-out cameras at one rung.

    Attributes:
        round: Outer steps taken.
        loss: Mean query loss after adaptation; None where it was not finite.
        jdr: Percent of the query joints found; 0 where the loss was not finite.
        seconds: The trial's work since the rung before.
    """

    round: int
    loss: float | None
    jdr: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: From 1 on, in the order of proposal; the first has the configuration's settings.
        settings: Values of the searched settings.
        scores: One a rung.
        state: ``stopped``: early, by the scheduler; ``running``: interrupted, where no sweep runs.
    """

    number: int
    settings: Settings
    scores: tuple[Score, ...] = ()
    state: State = "running"


class TrialStore:
    """The trials of one sweep.

    Args:
        folder: Of the sweep.
        space: What it searches; names the trials' folders.
    """

    def __init__(self, folder: Path, space: Sequence[SearchRange]) -> None:
        self._folder = folder / "trials"
        self._space = space

    def folder(self, settings: Settings) -> Path:
        """Folder of the trial with these settings."""
        text = json.dumps([settings[one.name] for one in self._space])
        readable = "_".join(f"{one.symbol}{settings[one.name]:.3g}" for one in self._space)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return self._folder / f"{readable}_{digest}"

    def read(self, settings: Settings) -> Trial | None:
        """Read the trial with these settings, or None where there was none; see `all`."""
        path = self.folder(settings) / _FILE
        return self._read(path) if path.is_file() else None

    def all(self) -> list[Trial]:
        """Read all trials, by their numbers.

        Raises:
            CheckpointError: A file is damaged.
        """
        found = [self._read(path) for path in self._folder.glob(f"*/{_FILE}")]
        return sorted(found, key=lambda trial: trial.number)

    def write(self, trial: Trial) -> None:
        """Write a trial, whole or not at all.

        Raises:
            StorageError: The disk is full or the folder cannot be written.
        """
        with atomic_file(self.folder(trial.settings) / _FILE) as partial:
            partial.write_text(json.dumps(asdict(trial), indent=1), encoding="utf-8")

    def start(self, settings: Settings) -> Trial:
        """Return the trial with these settings; write a new one where there was none."""
        trial = self.read(settings)
        if trial is None:
            # Not one more than there are: the folder of an earlier one may have been removed.
            taken = {other.number for other in self.all()}
            number = next(number for number in count(1) if number not in taken)
            trial = Trial(number, dict(settings))
            self.write(trial)
        return trial

    def add(self, settings: Settings, score: Score) -> Trial:
        """Add a score to a trial, unless it has one of that rung, and return the trial."""
        trial = self.start(settings)
        if all(old.round < score.round for old in trial.scores):
            trial = replace(trial, scores=(*trial.scores, score))
            self.write(trial)
        return trial

    def end(self, settings: Settings, rounds: int) -> Trial:
        """Note that a trial ran to its end, or was stopped before it had gone all rounds."""
        trial = self.start(settings)
        done = bool(trial.scores) and trial.scores[-1].round >= rounds
        trial = replace(trial, state="finished" if done else "stopped")
        self.write(trial)
        return trial

    def _read(self, path: Path) -> Trial:
        with storage_errors(path, "reading"):
            text = path.read_bytes()
        try:
            tree: dict[str, Any] = json.loads(text)
            scores = tuple(Score(**score) for score in tree.pop("scores"))
            trial = Trial(**tree, scores=scores)
            if set(trial.settings) != {one.name for one in self._space}:
                raise ValueError(f"it has settings of {', '.join(trial.settings)}")
            return trial
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); remove its folder, and that trial is run again",
                path=str(path),
            ) from None


def best_trial(trials: Sequence[Trial], metric: str) -> Trial:
    """Return the best of the finished trials; the earlier one of two that are equal.

    Raises:
        ValueError: None is finished.
    """
    finished = [trial for trial in trials if trial.state == "finished"]
    return max(finished, key=lambda trial: (rank(trial.scores[-1], metric), -trial.number))


def rank(score: Score, metric: str) -> float:
    """Return a number that grows with the quality of a score."""
    if metric == "jdr":
        return score.jdr
    return float("-inf") if score.loss is None else -score.loss
