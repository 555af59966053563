"""What is meta-learned: all that the trainer, the actors and the files know about a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Worker

if TYPE_CHECKING:
    import torch  # takes 200 MiB of an actor, which one that only moves tasks can do without


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
        """Return the tasks that a round draws from, in a fixed order.

        Raises:
            MetaFuseError: The shards cannot be used, or are too few.
        """
        ...

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        """Return the tasks that meta-weights are judged on; none of their cameras is in `tasks`.

        Args:
            draw: Which draw of their frames.
        """
        ...

    def start(self) -> Mapping[str, torch.Tensor]:
        """Return the initial meta-weights by name, float32."""
        ...

    def step_sizes(self) -> Mapping[str, float]:
        """Return the outer step size of each of them."""
        ...

    def worker(self, device: str) -> Worker:
        """Make a worker, in the process where its tasks run.

        Args:
            device: ``cpu`` or ``cuda``.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """Return the plain values that a file of its weights holds beside the tensors."""
        ...

    def describe(self) -> str:
        """Describe in a line what a task is and what is done in it."""
        ...

    def remedy(self) -> str:
        """Name the step sizes to lower where losses are not finite, with their values."""
        ...


def cameras_to_hold(problem: Problem) -> list[Cameras]:
    """Return the cameras of every task, held-out ones included, without repetition."""
    every = [*problem.tasks(), *(task.cameras for task in problem.held_out())]
    return list(dict.fromkeys(every))
