"""MetaFuse+ as a problem: a task is a whole rig of training cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from metafuse_ray.config.section import replaced
from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.meta.tasks import Cameras, HeldOutTask
from metafuse_ray.meta.weights_file import StoredWeights
from metafuse_ray.methods.held_out import hold_out_to_judge
from metafuse_ray.methods.plus.episodes import RigEpisodes, draw_training_rigs
from metafuse_ray.methods.plus.settings import PlusSettings
from metafuse_ray.methods.plus.weights import START, PlusWeights
from metafuse_ray.methods.plus.worker import RigWorker
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.settings import DataConfig

_JUDGED_RIGS = 6
"""Rigs of held-out cameras; calibrating one takes a second or two."""


@dataclass(frozen=True)
class PlusProblem:
    """Scalars (S,) and offsets (J, 3) are learned; see `Problem` for the members."""

    seed: int
    data: DataConfig
    problem: PlusSettings
    judging: HeldOutConfig

    stream = "rigs of a round"

    @property
    def kind(self) -> str:
        """``plus``."""
        return self.problem.kind

    def tasks(self) -> Sequence[Cameras]:
        """Return the training rigs.

        Raises:
            NotEnoughFramesError: No rig has samples for both a labelling period and a query.
        """
        return self._rigs[0]

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        """Return rigs of the held-out cameras."""
        rigs = self._rigs[1]
        return [HeldOutTask(0, index, rig, draw=draw) for index, rig in enumerate(rigs)]

    def start(self) -> Mapping[str, torch.Tensor]:
        """Return the scalars set by hand, and offsets of 0."""
        return PlusWeights.start(len(open_shards(self.data).skeleton)).named

    def step_sizes(self) -> Mapping[str, float]:
        """Return the outer step size of each."""
        return {"scalars": self.problem.lr, "offsets": self.problem.lr_offsets}

    def worker(self, device: str) -> RigWorker:
        """Make a worker; the device is not used."""
        del device
        episodes, judged = self._episodes()
        return RigWorker(episodes, judged, exponents=self.problem.exponents)

    def facts(self) -> Mapping[str, Any]:
        """Return the names of the scalars."""
        return {"scalars": list(START)}

    def describe(self) -> str:
        """Describe a task and its inner loop, which takes no steps."""
        return (
            f"MetaFuse+ (problem.kind=plus) over {len(self.tasks())} rigs of"
            f" {', '.join(map(str, self.problem.views))} views; inner loop: each rig is calibrated"
            " and its offsets settled in closed form"
        )

    def remedy(self) -> str:
        """Name the step sizes."""
        return (
            f"problem.lr (now {self.problem.lr}) or problem.lr_offsets (now"
            f" {self.problem.lr_offsets})"
        )

    def _episodes(self) -> tuple[RigEpisodes, RigEpisodes]:
        """Episodes of training rigs, and of those that weights are judged on."""
        shards, held_out = open_shards(self.data), self.judging
        judged = self.problem
        if held_out.cameras != 0:
            sizes = {"labels": held_out.labelled_frames, "queries": held_out.query_frames}
            judged = replaced(judged, **sizes)
        return (
            RigEpisodes(shards, self.problem, self.seed),
            RigEpisodes(shards, judged, self.seed),
        )

    @cached_property
    def _rigs(self) -> tuple[list[Cameras], list[Cameras]]:
        """The rigs to train on, and those to judge on."""
        episodes, judged = self._episodes()
        every = episodes.shards.manifest.train_cameras

        def held_out(held: tuple[str, ...]) -> list[Cameras]:
            return draw_training_rigs(
                judged, held, self.problem.views, _JUDGED_RIGS, "held-out rig"
            )

        train, found = hold_out_to_judge(every, self.judging, self.seed, held_out)
        wanted = self.problem.rigs
        rigs = draw_training_rigs(episodes, train, self.problem.views, wanted, "training rig")
        return rigs, list(dict.fromkeys(found))


def plus_weights(stored: StoredWeights, grid: Grid, joints: int) -> PlusWeights:
    """Check the weights of a run over whole rigs.

    Args:
        stored: What was read.
        grid: Not used: the weights hold for any.
        joints: Number of joints that they will be used for.

    Raises:
        CheckpointError: They are of another problem, skeleton or release.
    """
    del grid
    path, tensors = stored.path, stored.tensors
    if "scalars" not in tensors:
        raise CheckpointError(
            f"{path} holds {', '.join(sorted(tensors))}, and MetaFuse+ needs scalars and offsets:"
            " it is of another problem; train one with problem.kind=plus",
            path=str(path),
        )
    if stored.facts.get("scalars") != list(START) or "offsets" not in tensors:
        raise CheckpointError(
            f"{path}: its {tensors['scalars'].numel()} scalars are those of another release; train"
            " again",
            path=str(path),
        )
    weights = PlusWeights.of({name: tensor.float() for name, tensor in tensors.items()})
    for name, part in PlusWeights.start(joints).named.items():
        found = weights.named[name].shape
        if found != part.shape:
            raise CheckpointError(
                f"{path}: {name} of shape {tuple(found)}, expected {tuple(part.shape)}; train on"
                " shards of the same skeleton",
                path=str(path),
            )
    return weights
