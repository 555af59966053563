"""The page of the scaling benchmark, made from its JSON, with the extrapolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

ENOUGH = 0.9
"""Least efficiency at which a form of the driver counts as good enough."""
PARTS = ("dispatch", "transfer", "wait", "aggregation", "rest")

_HEAD = """# Scaling

Made by `python benchmarks/scaling.py --json docs/scaling.json --markdown docs/scaling.md`; do not
edit. {cores} cores ({processor}), Ray {ray}, PyTorch {torch}, Python {python}; driver, actors and
Ray share them. Medians of {repeats} rounds or fewer in one Ray session, forms in turn; load of the
machine before and after: {before:.1f} and {after:.1f}.
{note}

A round is what `meta/trainer.py` does in one: hand out tasks, wait, sum the outer gradients, step.
"""

_REAL = """## Real tasks, two actors on two cores

One thread each, K = {shots}, second order. *Strong*: the same tasks on two actors, times faster
than on one. *Weak*: twice the tasks on twice the actors, time on one over time on two (1 is
perfect).

| grid | tasks a round | one actor, s | two actors, s | strong | weak |
|---|---|---|---|---|---|
"""

_EMULATED = """## Emulated tasks

A task sleeps and returns a gradient of the size of 64 x 64, {kilobytes:.0f} KB, so that many actors
fit two cores. Efficiency is the time that sleeping takes over the time of the round. *Weak*: one
task an actor, where nothing overlaps. *Strong*: {tasks} tasks on fewer actors. *Long*: {long} tasks
an actor, so that actors come back one by one while others are at work.

"""

_PARTS = """## The driver's part of a round

Milliseconds of the driver in a weak round of 0.5 s tasks. *Dispatch* chooses the actors' tasks and
calls them; *transfer* publishes the weights and fetches the gradients; *wait* is what `ray.wait` is
at work for (not what it waits); *aggregation* is the sum and the mean; *update* the outer step;
*rest* the pool's bookkeeping. In groups, the driver's share alone.

| form | actors | dispatch | transfer | wait | aggregation | update | rest | round | efficiency |
|---|---|---|---|---|---|---|---|---|---|
"""

_SLOWED = """## One actor slowed ten times

Whole runs of {rounds} rounds of {task_s:g} s tasks, with the first round, in which the slow actor
is found out. With n actors, m tasks a round take m / n turns, rounded up, and m / (n - 1) once one
actor is passed over: the last column has the quotient. The weights have the same bits
(`tests/integration/test_faults.py`).

| actors | tasks a round | undisturbed, s | one slowed, s | times as long | of the turns |
|---|---|---|---|---|---|
"""

_BEYOND = """## Beyond: extrapolated, not measured

No cluster of this size was at hand. The driver's parts above, a task and a group each, are carried
over to rounds of one task an actor, with nothing overlapping: *time of a round = task + actors x
({task_ms:.2f} ms) + looks at all references ({look_us:.1f} us a reference and look, {looks:.2f}
looks a task) + {update_ms:.1f} ms*; in groups, the same within a group, and {group_ms:.1f} ms a
group and {report_us:.0f} us a task at the driver. Actors on nodes of their own take nothing from
the driver's cores, as they do here; a network adds {megabytes:.2f} MB a task, or a few times that
a group.

| actors | task, s | flat | grouped | groups |
|---|---|---|---|---|
"""

_END = """
**Where the flat driver ends.** It keeps {share} up to about this many actors: {ends} tasks.
From there on set `cluster.groups`, to groups of about {fewest} actors (of 1,000) to {most} (of
10,000); the weights have the same bits either way. That groups pay is extrapolated, for actors on
cores of their own: the round in groups above shares two cores with everything else. These are
lower bounds: the parts were measured where the actors' own work for a message (unpacking the
weights, packing a gradient) competes with the driver for two cores, and so is counted as the
driver's.
"""


@dataclass(frozen=True)
class Costs:
    """Seconds of the driver.

    Attributes:
        task: A task.
        look: One reference in one look with `ray.wait`.
        looks: Looks a task.
        update: The outer step.
        group: A group.
        report: A task that a group reports.
    """

    task: float
    look: float
    looks: float
    update: float
    group: float
    report: float

    @classmethod
    def of(cls, results: dict[str, Any]) -> Costs:
        """Take them from the largest weak rounds of 0.5 s tasks."""
        flat = max(_weak(results["emulated"]), key=lambda row: row["actors"])
        at_work = sum(flat[part] for part in PARTS if part != "wait")
        counts = {int(count): seconds for count, seconds in results["wait_s"].items()}
        most = max(counts)
        (grouped,) = _weak(results["grouped"])
        return cls(
            task=at_work / flat["tasks"],
            look=counts[most] / most,
            looks=flat["waits"] / flat["tasks"],
            update=flat["update"],
            group=sum(grouped[part] for part in PARTS) / grouped["groups"],
            report=results["report_s"],
        )

    def driven(self, actors: float) -> float:
        """A driver's time for a round of one task an actor."""
        return actors * self.task + self.looks * actors * actors * self.look

    def flat(self, actors: int, task_s: float) -> float:
        """Efficiency without groups."""
        return task_s / (task_s + self.driven(actors) + self.update)

    def grouped(self, actors: int, groups: int, task_s: float) -> float:
        """Efficiency with groups."""
        above = groups * self.group + actors * self.report + self.update
        return task_s / (task_s + self.driven(actors / groups) + above)

    def best_groups(self, actors: int, task_s: float) -> int:
        """The number of groups that does best."""
        return max(range(1, actors + 1), key=lambda groups: self.grouped(actors, groups, task_s))

    def flat_ends(self, task_s: float) -> int:
        """Actors up to which the flat driver is efficient enough."""
        fits, breaks = 1, 2
        while self.flat(breaks, task_s) >= ENOUGH:
            fits, breaks = breaks, 2 * breaks
        while breaks - fits > 1:
            middle = (fits + breaks) // 2
            fits, breaks = (
                (middle, breaks) if self.flat(middle, task_s) >= ENOUGH else (fits, middle)
            )
        return fits


def markdown(results: dict[str, Any]) -> str:
    """The whole page; without the extrapolation where the grouped runs were left out."""
    machine = results["machine"]
    before, after = machine["load"]
    head = _HEAD.format(
        repeats=results["repeats"],
        note=results["note"],
        before=before,
        after=after,
        **machine,
    )
    parts = [head, _real(results), _emulated(results), _driver(results)]
    if results["slowed"]:
        parts.append(_slowed(results["slowed"]))
    if results["grouped"]:
        parts.append(_beyond(results, Costs.of(results)))
    return "\n".join(parts)


def _weak(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "weak" and row["task_s"] == 0.5]


def _real(results: dict[str, Any]) -> str:
    rows = [
        f"| {row['side']} x {row['side']} | {row['tasks']} | {row['median_s']['one']:.2f} "
        f"| {row['median_s']['two']:.2f} | {row['strong']:.2f} | {row['weak']:.2f} |"
        for row in results["real"]
    ]
    shots = results["real"][0]["shots"]
    return _REAL.format(shots=shots) + "\n".join([*rows, ""])


def _emulated(results: dict[str, Any]) -> str:
    rows = results["emulated"]
    lengths = sorted({row["task_s"] for row in rows})
    columns = [(kind, seconds) for kind in ("weak", "strong", "long") for seconds in lengths]
    columns = [c for c in columns if any((r["kind"], r["task_s"]) == c for r in rows)]
    found = {(r["actors"], r["kind"], r["task_s"]): f"{r['efficiency']:.1%}" for r in rows}
    strong = max((row["tasks"] for row in rows if row["kind"] == "strong"), default=0)
    lines = [
        "| actors | " + " | ".join(f"{kind}, {seconds:g} s" for kind, seconds in columns) + " |",
        "|---|" + "---|" * len(columns),
        *(
            f"| {actors} | "
            + " | ".join(found.get((actors, *column), "") for column in columns)
            + " |"
            for actors in sorted({row["actors"] for row in rows})
        ),
        "",
    ]
    kilobytes = results["gradient_bytes"] / 1e3
    long = max(row["tasks"] // row["actors"] for row in rows if row["kind"] == "long")
    return _EMULATED.format(kilobytes=kilobytes, tasks=strong, long=long) + "\n".join(lines)


def _driver(results: dict[str, Any]) -> str:
    lines = []
    for row in [*_weak(results["emulated"]), *_weak(results["grouped"])]:
        form = f"{row['groups']} groups" if "groups" in row else "flat"
        parts = ("dispatch", "transfer", "wait", "aggregation", "update", "rest", "wall")
        times = " | ".join(f"{1e3 * row[part]:.1f}" for part in parts)
        lines.append(f"| {form} | {row['actors']} | {times} | {row['efficiency']:.1%} |")
    return _PARTS + "\n".join([*lines, ""])


def _slowed(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        actors, tasks = row["actors"], row["tasks"]
        turns = math.ceil(tasks / (actors - 1)) / math.ceil(tasks / actors)
        walls = row["undisturbed_s"], row["slowed_s"]
        lines.append(
            f"| {actors} | {tasks} | {walls[0]:.1f} | {walls[1]:.1f} "
            f"| {walls[1] / walls[0]:.2f} | {turns:.2f} |"
        )
    return _SLOWED.format(**rows[0]) + "\n".join([*lines, ""])


def _beyond(results: dict[str, Any], costs: Costs) -> str:
    lines = []
    for actors in (100, 1_000, 10_000):
        for task_s in (0.5, 2.0, 10.0):
            groups = costs.best_groups(actors, task_s)
            lines.append(
                f"| {actors:,} | {task_s:g} | {costs.flat(actors, task_s):.0%} "
                f"| {costs.grouped(actors, groups, task_s):.0%} | {groups} |"
            )
    ends = ", ".join(f"{_round(costs.flat_ends(s)):,} for {s:g} s" for s in (0.5, 2.0, 10.0))
    text = _BEYOND.format(
        task_ms=1e3 * costs.task,
        look_us=1e6 * costs.look,
        looks=costs.looks,
        update_ms=1e3 * costs.update,
        group_ms=1e3 * costs.group,
        report_us=1e6 * costs.report,
        megabytes=results["gradient_bytes"] / 1e6,
    )
    sizes = [actors // costs.best_groups(actors, 2.0) for actors in (1_000, 10_000)]
    end = _END.format(share=f"{ENOUGH:.0%}", ends=ends, fewest=sizes[0], most=sizes[1])
    return text + "\n".join(lines) + "\n" + end


def _round(number: int) -> int:
    """To two digits: an extrapolation is no more precise."""
    digits = max(0, int(math.log10(number)) - 1)
    return round(number, -digits)
