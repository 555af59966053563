"""What is meta-learned: the one thing that trainer, actors and files know of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Worker

if TYPE_CHECKING:
    import torch  # 200 MiB of every actor, of which one that runs no task of ours needs none


class Problem(Protocol):
    """A kind of meta-training. It travels to the actors, so it must pickle."""

    @property
    def kind(self) -> str:
        """Its name: ``problem.kind``."""
        ...

    @property
    def seed(self) -> int:
        """Seed of every draw."""
        ...

    @property
    def stream(self) -> str:
        """Address of the draws of a round's tasks, below the seed."""
        ...

    def tasks(self) -> Sequence[Cameras]:
        """Return what a round draws from, in a fixed order.

        Raises:
            MetaFuseError: The shards cannot be used, or are too few.
        """
        ...

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        """Return what meta-weights are judged on: of cameras that are in none of `tasks`.

        Args:
            draw: Which draw of their frames.
        """
        ...

    def start(self) -> Mapping[str, torch.Tensor]:
        """Return the initial meta-weights by name, float32."""
        ...

    def step_sizes(self) -> Mapping[str, float]:
        """Return the outer step size of every one of them."""
        ...

    def worker(self, device: str) -> Worker:
        """Make a worker, in the process where its tasks run.

        Args:
            device: ``cpu`` or ``cuda``.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """Return what a file of its weights says beside the tensors: plain values."""
        ...

    def describe(self) -> str:
        """Say in a line what a task is and what is done in it."""
        ...

    def remedy(self) -> str:
        """Name the step sizes to lower where losses are not finite, with their values."""
        ...


def cameras_to_hold(problem: Problem) -> list[Cameras]:
    """Return the cameras of all tasks, those that are judged on included, each once."""
    every = [*problem.tasks(), *(task.cameras for task in problem.held_out())]
    return list(dict.fromkeys(every))
