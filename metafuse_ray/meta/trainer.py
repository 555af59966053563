"""The outer loop, distributed: rounds of tasks, averaged outer gradients, one outer step each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import AdaptationDivergedError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.failures import Decision, FailurePolicy, Status
from metafuse_ray.meta.outer import OuterOptimizer
from metafuse_ray.meta.pool import TaskPool
from metafuse_ray.meta.reduce import FlatReducer, Reducer, TaskReport
from metafuse_ray.meta.tasks import Task
from metafuse_ray.seeds import generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundRecord:
    """What one round did; one line of `metrics.jsonl`.

    Attributes:
        round: Outer steps taken so far, this one included.
        support_loss: Mean over the tasks, before the inner step; of rigs, without fusion.
        query_loss: Mean over the tasks, after the inner step; of rigs, with fusion.
        gradient_norm: Norm of the averaged outer gradient.
        bad_tasks: Tasks left out because their loss or gradient was not finite.
        tasks_per_second: Tasks over the round's wall time.
        seconds: Wall time of the round.
        actors: Actors ready for tasks at the end of the round; 0 in process.
        retries: Tasks done again because an actor, an object or a shard failed.
        replaced: Actors that took the place of lost ones.
        reissued: Late tasks that a second actor was given.
    """

    round: int
    support_loss: float
    query_loss: float
    gradient_norm: float
    bad_tasks: int
    tasks_per_second: float
    seconds: float
    actors: int = 0
    retries: int = 0
    replaced: int = 0
    reissued: int = 0


Sink = Callable[[RoundRecord], None]


class MetaTrainer:
    """Draws each round's pairs, has the pool adapt to them, and steps the meta-weights.

    Args:
        config: The run.
        pairs: The camera pairs to train on, in a fixed order.
        pool: Where tasks run; a `Reducer` sums their gradients itself.
        start: Initial meta-weights by name.
        sinks: Called with the record of every round.
        rigs: The rigs to train on in place of the pairs, in a fixed order.
    """

    def __init__(
        self,
        config: RunConfig,
        pairs: Sequence[CameraPair],
        pool: TaskPool | Reducer,
        start: Mapping[str, torch.Tensor],
        sinks: Sequence[Sink] = (),
        rigs: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self.config = config
        self.pairs = pairs
        self.rigs = rigs
        clip_norm = config.outer.clip_norm
        self._reducer = pool if isinstance(pool, Reducer) else FlatReducer(pool, clip_norm)
        self.outer = OuterOptimizer(start, config.outer)
        self.sinks = sinks
        self.round = 0
        self.bad_tasks = 0

    def fit(self, rounds: int) -> None:
        """Take outer steps until ``rounds`` have been taken in all.

        Raises:
            AdaptationDivergedError: More tasks diverged than ``meta.max_bad_tasks`` allows.
        """
        while self.round < rounds:
            record = self.step()
            for sink in self.sinks:
                sink(record)

    def step(self) -> RoundRecord:
        """Take one outer step: Algorithm 1, lines 3 to 8, for one batch of tasks."""
        started = time.perf_counter()
        tasks = round_tasks(self.config, self.pairs, self.round, self.rigs)
        summed = self._reducer.reduce_round(self.outer.weights, tasks)
        results = summed.reports
        good = [result for result in results if result.finite]
        self._count_bad(results)
        norm = self.outer.step(summed.mean()) if good else float("nan")
        self.round += 1
        seconds = time.perf_counter() - started
        return RoundRecord(
            round=self.round,
            support_loss=_mean([result.support_loss for result in good]),
            query_loss=_mean([result.query_loss for result in good]),
            gradient_norm=norm,
            bad_tasks=len(results) - len(good),
            tasks_per_second=len(results) / seconds,
            seconds=seconds,
            **asdict(summed.counts),
        )

    def _count_bad(self, results: Sequence[TaskReport]) -> None:
        bad = [result.task.name for result in results if not result.finite]
        if not bad:
            return
        self.bad_tasks += len(bad)
        logger.warning("round %d: loss not finite on %s; left out", self.round, ", ".join(bad))
        policy = FailurePolicy.of(self.config)
        if policy.decide(Status.NOT_FINITE, self.bad_tasks) is Decision.RAISE:
            raise AdaptationDivergedError(
                f"{self.bad_tasks} tasks diverged by round {self.round} (meta.max_bad_tasks="
                f"{self.config.meta.max_bad_tasks}); lower {self._step_sizes()}, or set"
                " outer.clip_norm",
                round=self.round,
                pairs=bad,
            )

    def _step_sizes(self) -> str:
        inner, outer = self.config.inner, self.config.outer
        if self.rigs:
            return f"outer.lr_scalars (now {outer.lr_scalars})"
        return f"inner.lr (now {inner.lr}) or outer.lr (now {outer.lr})"


def round_tasks(
    config: RunConfig,
    pairs: Sequence[CameraPair],
    round_number: int,
    rigs: Sequence[tuple[str, ...]] = (),
) -> list[Task]:
    """Draw the pairs of a round, or its rigs where there are some, from (seed, round).

    Without repetition, where there are enough.
    """
    random = generator(config.seed, "rigs of a round" if rigs else "pairs", round_number)
    wanted, there = config.meta.meta_batch_size, len(rigs or pairs)
    drawn = [int(number) for number in random.choice(there, wanted, replace=wanted > there)]
    if not rigs:
        return [Task(round_number, index, pairs[number]) for index, number in enumerate(drawn)]
    return [
        Task(round_number, index, CameraPair(*rigs[number][:2]), rig=rigs[number])
        for index, number in enumerate(drawn)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
