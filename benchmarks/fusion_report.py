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


_BEGIN, _END = "<!-- performance: begin -->", "<!-- performance: end -->"


def renew_section(page: str, results: dict[str, Any]) -> str:
    """A page with the text between its two performance marks replaced.

    Raises:
        ValueError: The page lacks the marks.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page needs a line {_BEGIN} and, below it, a line {_END}")
    return f"{before}{begin}\n{section(results)}{end}{after}"


def section(results: dict[str, Any]) -> str:
    """The README's summary: our default against the better plain form and the peer."""
    rows = []
    for case in results["cases"]:
        ratios = case["forms"]["fuse (numba) + higher"]["ratios"]
        simple = case["forms"]["fuse (torch) + higher"]["ratios"]
        rows.append(
            f"| {_title(case)} | {ratios['cpu_time']:.1f} | {ratios['peak_memory']:.0f} "
            f"({ratios['peak_memory_as_allocated']:.0f}) | {ratios['share_of_floor']:.0%} "
            f"| {simple['cpu_time']:.1f} |"
        )
    machine = results["machine"]
    return "\n".join(
        [
            "",
            "| one task, 15 joints | times faster | times less memory (heap) | share of the floor "
            "| PyTorch only: times faster |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Against the better of `grid_sample` and gather through `higher`; {machine['cores']} "
            f"cores ({machine['processor']}), one thread, medians of {results['repeats']} fresh "
            "processes in turn. The floor is the time of the matrix products that nothing can "
            "avoid. Memory is what the forms hold; in brackets, with the gaps of the C library's "
            "usual heap. Details, TorchOpt and the closed form: [docs/performance.md]"
            "(docs/performance.md), made by `benchmarks/fusion_operator.py`, as is this table.",
            "",
            "",
        ]
    )
