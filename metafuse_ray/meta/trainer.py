"""The outer loop, distributed: rounds of tasks, averaged outer gradients, one outer step each."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from metafuse_ray.errors import AdaptationDivergedError
from metafuse_ray.meta.failures import Decision, FailurePolicy, Status
from metafuse_ray.meta.outer import OuterOptimizer
from metafuse_ray.meta.pool import TaskPool
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.reduce import FlatReducer, Reducer, TaskReport
from metafuse_ray.meta.settings import MetaConfig, OuterConfig
from metafuse_ray.meta.tasks import Cameras, Judgement, Task
from metafuse_ray.seeds import generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundRecord:
    """What one round did; one line of `metrics.jsonl`.

    Attributes:
        round: Outer steps taken so far, this one included.
        support_loss: Mean over the tasks, before the inner step; for rigs, without fusion.
        query_loss: Mean over the tasks, after the inner step; for rigs, with fusion.
        gradient_norm: Norm of the averaged outer gradient.
        bad_tasks: Tasks left out because their loss or gradient was not finite.
        tasks_per_second: Tasks over the round's wall time.
        seconds: Wall time of the round.
        actors: Actors ready for tasks at the end of the round; 0 in process.
        retries: Tasks done again because an actor, an object or a shard failed.
        replaced: Actors that took the place of lost ones.
        reissued: Late tasks that a second actor was given.
        held_out_loss_before: Loss on the held-out cameras before adaptation, mean over a fixed set
            of episodes; NaN in rounds that are not judged.
        held_out_loss: The same after adaptation.
        held_out_jdr: Percent of the joints found there after adaptation.
        held_out_jdr_alone: Percent that each view finds alone.
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
    held_out_loss_before: float = math.nan
    held_out_loss: float = math.nan
    held_out_jdr: float = math.nan
    held_out_jdr_alone: float = math.nan


Sink = Callable[[RoundRecord], None]


class MetaTrainer:
    """Draws each round's tasks, has the pool adapt to them, and steps the meta-weights.

    Args:
        problem: What is learned.
        pool: Where tasks run; a `Reducer` sums their gradients itself.
        meta: Tasks a round, and how many may diverge.
        outer: The outer optimiser.
        judge_every: Rounds between judgements on the problem's held-out cameras; 0 for none.
        rounds: Rounds of the whole run, the last of which is judged too.
        sinks: Called with the record of every round.
    """

    def __init__(
        self,
        problem: Problem,
        pool: TaskPool | Reducer,
        meta: MetaConfig,
        outer: OuterConfig,
        *,
        judge_every: int = 0,
        rounds: int = 0,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self.problem = problem
        self.tasks = problem.tasks()
        self._judged = problem.held_out() if judge_every else ()
        self._judge_every, self._rounds = judge_every, rounds
        self._batch_size = meta.meta_batch_size
        self._policy = FailurePolicy(max_bad_tasks=meta.max_bad_tasks)
        self._reducer = pool if isinstance(pool, Reducer) else FlatReducer(pool, outer.clip_norm)
        self.outer = OuterOptimizer(problem.start(), problem.step_sizes(), outer.optimizer)
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
        tasks = round_tasks(self.problem, self.tasks, self.round, self._batch_size)
        summed = self._reducer.reduce_round(self.outer.weights, tasks)
        results = summed.reports
        good = [result for result in results if result.finite]
        self._count_bad(results)
        norm = self.outer.step(summed.mean()) if good else float("nan")
        self.round += 1
        seconds = time.perf_counter() - started
        record = RoundRecord(
            round=self.round,
            support_loss=_mean([result.support_loss for result in good]),
            query_loss=_mean([result.query_loss for result in good]),
            gradient_norm=norm,
            bad_tasks=len(results) - len(good),
            tasks_per_second=len(results) / seconds,
            seconds=seconds,
            **asdict(summed.counts),
        )
        return self._judge(record) if self._is_judged() else record

    def _is_judged(self) -> bool:
        """Whether to judge the round just done: the first, the last, every ``judge_every``-th."""
        if not self._judged:
            return False
        return self.round in (1, self._rounds) or self.round % self._judge_every == 0

    def _judge(self, record: RoundRecord) -> RoundRecord:
        """Add the scores of the present weights on the held-out cameras."""
        found: list[Judgement]
        found, counts = self._reducer.run_round(self.outer.weights, self._judged)
        return replace(
            record,
            retries=record.retries + counts.retries,
            replaced=record.replaced + counts.replaced,
            reissued=record.reissued + counts.reissued,
            held_out_loss_before=_mean([one.loss_before for one in found]),
            held_out_loss=_mean([one.loss for one in found]),
            held_out_jdr=100 * _mean([one.jdr for one in found]),
            held_out_jdr_alone=100 * _mean([one.jdr_alone for one in found]),
        )

    def _count_bad(self, results: Sequence[TaskReport]) -> None:
        bad = [result.task.name for result in results if not result.finite]
        if not bad:
            return
        self.bad_tasks += len(bad)
        logger.warning("round %d: loss not finite on %s; left out", self.round, ", ".join(bad))
        if self._policy.decide(Status.NOT_FINITE, self.bad_tasks) is Decision.RAISE:
            raise AdaptationDivergedError(
                f"{self.bad_tasks} tasks diverged by round {self.round} (meta.max_bad_tasks="
                f"{self._policy.max_bad_tasks}); lower {self.problem.remedy()}, or set"
                " outer.clip_norm",
                round=self.round,
                tasks=bad,
            )


def round_tasks(
    problem: Problem, tasks: Sequence[Cameras], round_number: int, wanted: int
) -> list[Task]:
    """Draw the tasks of a round from (seed, round), without repetition where there are enough."""
    random = generator(problem.seed, problem.stream, round_number)
    drawn = random.choice(len(tasks), wanted, replace=wanted > len(tasks))
    return [Task(round_number, index, tasks[int(number)]) for index, number in enumerate(drawn)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
