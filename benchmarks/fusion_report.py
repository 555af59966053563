"""Tables of the benchmark of the fusion operator, made from its JSON."""

from __future__ import annotations

from typing import Any

_HEAD = """# Performance of the fusion operator

Made by `python benchmarks/fusion_operator.py --json FILE --markdown docs/performance.md`; do not
edit. Read the ratios: seconds depend on the machine and on what else it does.

Each figure is the median over {repeats} fresh processes of one thread, taken in turn: CPU time of
one gradient (or forward pass) of one task with {joints} joints. *Peak MB* is what a form holds
above what the process held before, with an allocator that returns large blocks at once; *on the
heap* is the same with the C library's usual heap, whose gaps vary from run to run. *Times faster*
and *less memory* compare with the better of the two plain forms. *Share of the floor* is the time
that the unavoidable matrix products would take at the rate measured in the same run, over the time
taken.

{processor}, {cores} cores, torch {torch}, Python {python}.
"""


def markdown(results: dict[str, Any]) -> str:
    """The whole page."""
    head = _HEAD.format(repeats=results["repeats"], joints=15, **results["machine"])
    parts = [head, *(_case(case) for case in results["cases"]), _threads(results["threads"])]
    return "\n".join(parts)


def _case(case: dict[str, Any]) -> str:
    note = (
        f"Floor: {case['products']} products, {case['floor_s']:.3f} s at "
        f"{case['gflops_per_s']:.0f} GFLOP/s. Pixel pairs in sight: {case['visible_share']:.0%} "
        "(the operator leaves out source rows that no target pixel of a chunk maps into omega; "
        "the floor counts them)."
    )
    rows = [
        "| form | CPU s | range | times faster | peak MB | less memory | on the heap | less "
        "| share of the floor |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(name, form) for name, form in case["forms"].items()),
    ]
    return "\n".join([f"## {_title(case)}", "", note, "", *rows, ""])


def _title(case: dict[str, Any]) -> str:
    *words, grid, shots = case["name"].removesuffix("_random").split("_")
    grid = grid.replace("x", " x ")
    start = ", random start" if case["name"].endswith("_random") else ""
    words = " ".join(words)
    return f"{words[0].upper()}{words[1:]}, {grid}, K = {shots[1:]}{start}"


def _row(name: str, form: dict[str, Any]) -> str:
    ratios, (low, high) = form["ratios"], form["cpu_s_range"]
    return (
        f"| {name} | {form['cpu_s']:.3f} | {low:.3f} to {high:.3f} | {ratios['cpu_time']:.1f} "
        f"| {form['peak_mb']:.0f} | {ratios['peak_memory']:.0f} | {form['heap_mb']:.0f} "
        f"| {ratios['peak_memory_as_allocated']:.0f} | {ratios['share_of_floor']:.0%} |"
    )


def _threads(threads: dict[str, Any]) -> str:
    wall = {int(count): seconds for count, seconds in threads["wall_s"].items()}
    bits = "the same bits" if threads["same_bits"] else "DIFFERENT BITS"
    return "\n".join(
        [
            "## Threads",
            "",
            f"{threads['case']}: {wall[1]:.3f} s of wall time on one thread, {wall[2]:.3f} s on "
            f"two ({threads['speedup']:.2f} times; load of the machine {threads['load']:.1f}), "
            f"{bits}.",
            "",
        ]
    )
