"""Time and memory of the fusion operator against the plain forms and a peer, in one command.

    python benchmarks/fusion_operator.py --json FILE [--markdown FILE]

Every measurement is a fresh process on one thread; forms and the rate of matrix products are
measured in turn, so that a busy machine slows them alike. Time is CPU time of the first run at full
size, after one at 8 x 8 that loads libraries and compiled code. Memory is the peak of the resident
set above what it was before that run, in a process whose allocator returns large blocks at once:
what a form holds, without what the heap of the C library loses between blocks, which varies by tens
of megabytes from run to run (the timed runs' peaks stand beside it). Read ratios, not seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fusion_forms import CASES, JOINTS, OURS, PLAIN, Case, Task, forms_of, run_form
from fusion_report import markdown

from metafuse_ray.methods.metafuse.operator.dispatch import sweeps_for
from metafuse_ray.methods.metafuse.operator.plan import Plan
from metafuse_ray.methods.metafuse.operator.shapes import check_shapes


def main() -> None:
    """Measure everything, write JSON and Markdown, print the Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="results")
    parser.add_argument("--markdown", type=Path, help="the tables that are also printed")
    parser.add_argument("--repeats", type=int, default=3, help="processes a measurement")
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--render", action="store_true", help="measure nothing: read the JSON")
    arguments = parser.parse_args()
    if arguments.render:
        results = json.loads(arguments.json.read_text())
    else:
        results = measure(arguments.cases, arguments.repeats)
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    print(text)


def measure(names: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure some cases, and the gain of a second thread."""
    cases = [measure_case(case, repeats) for case in CASES if case.name in names]
    return {
        "machine": describe_machine(),
        "repeats": repeats,
        "ratios": {case["name"]: case["forms"][OURS]["ratios"] for case in cases},
        "cases": cases,
        "threads": measure_threads(CASES[0], repeats),
    }


def describe_machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def measure_case(case: Case, repeats: int) -> dict[str, Any]:
    """Measure every form of a case, in turn, and compare."""
    rates: list[float] = []
    runs: dict[str, list[dict[str, float]]] = {form: [] for form in forms_of(case)}
    for _ in range(repeats):
        for form, found in runs.items():
            found.append(child(task="form", case=case.name, form=form))
            progress(f"{case.name}: {form}: {found[-1]['cpu_s']:.2f} s")
        rates.append(child(task="products", case=case.name)["flops_per_s"])
    rate = statistics.median(rates)
    forms = {form: summary(case, form, found) for form, found in runs.items()}
    plain_cpu = min(forms[form]["cpu_s"] for form in PLAIN)
    plain_peak = min(forms[form]["peak_mb"] for form in PLAIN)
    plain_heap = min(forms[form]["heap_mb"] for form in PLAIN)
    for form in forms.values():
        form["ratios"] = {
            "cpu_time": plain_cpu / form["cpu_s"],
            "peak_memory": plain_peak / form["peak_mb"],
            "peak_memory_as_allocated": plain_heap / form["heap_mb"],
            "share_of_floor": case.floor_flops / rate / form["cpu_s"],
        }
    return {
        "name": case.name,
        "products": case.products,
        "gflops_per_s": rate / 1e9,
        "floor_s": case.floor_flops / rate,
        "visible_share": visible_share(case),
        "forms": forms,
    }


def summary(case: Case, form: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Medians and ranges over the timed processes, and the peak of one more."""
    times = [run["cpu_s"] for run in runs]
    return {
        "cpu_s": statistics.median(times),
        "cpu_s_range": [min(times), max(times)],
        "peak_mb": child(task="form", case=case.name, form=form, trim=True)["peak_mb"],
        "heap_mb": statistics.median(run["peak_mb"] for run in runs),
    }


def measure_threads(case: Case, repeats: int) -> dict[str, Any]:
    """Wall time of ours on one and two threads, and whether the bits agree."""
    runs = {threads: [] for threads in (1, 2)}
    for _ in range(max(repeats, 5)):  # the best of several: another process halves the gain
        for threads, found in runs.items():
            found.append(child(task="form", case=case.name, form=OURS, threads=threads))
    wall = {threads: min(run["wall_s"] for run in found) for threads, found in runs.items()}
    digests = {run["digest"] for found in runs.values() for run in found}
    return {
        "case": case.name,
        "wall_s": wall,
        "speedup": wall[1] / wall[2],
        "same_bits": len(digests) == 1,
        "load": os.getloadavg()[0],
    }


def child(**order: Any) -> dict[str, Any]:
    """Carry out one measurement in a fresh process."""
    threads = str(order.get("threads", 1))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if order.get("trim"):
        environment["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # read by the C library (glibc)
    done = subprocess.run(
        [sys.executable, __file__, "--order", json.dumps(order)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """What a child process does."""
    torch.set_num_threads(order.get("threads", 1))
    case = next(case for case in CASES if case.name == order["case"])
    if order["task"] == "products":
        return {"flops_per_s": product_rate(case)}
    run_form(order["form"], case, Task.of(case, grid=8, shots=1))
    task = Task.of(case, case.grid, case.shots)
    reset_peak()
    before = memory_kb("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    result = run_form(order["form"], case, task)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    digest = hashlib.blake2b(digest_size=8)
    for tensor in result:
        digest.update(tensor.detach().numpy().tobytes())
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mb": (memory_kb("VmHWM") - before) / 1024,
        "digest": digest.hexdigest(),
    }


def product_rate(case: Case) -> float:
    """Floating-point operations a second of the best of five products V W^T of the case."""
    heatmaps = torch.rand(case.shots * JOINTS, case.grid**2)
    weights = torch.rand(case.grid**2, case.grid**2)
    out = torch.empty_like(heatmaps)
    best = float("inf")
    for _ in range(6):
        started = time.process_time()
        torch.mm(heatmaps, weights.T, out=out)
        best = min(best, time.process_time() - started)
    return 2.0 * heatmaps.shape[0] * case.grid**4 / best


def visible_share(case: Case) -> float:
    """Share of the pixel pairs that the operator visits: rows out of sight are left out."""
    task = Task.of(case, case.grid, 1)
    heatmaps = task.query.batch.sources_VBJhw[0]
    shape = check_shapes(task.omega, task.theta, heatmaps, None)
    plan = Plan.of(shape, sweeps_for("torch", "cpu"), task.omega, task.theta, heatmaps)
    rows = sum((c.stop - c.start) * (c.last - c.first) for c in plan.chunks)
    return rows / (shape.target_pixels * shape.source[0])


def reset_peak() -> None:
    """Release free memory and restart the record of the peak: it covers only the timed run."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_kb(field: str) -> int:
    """A field of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def progress(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--order"]:
        print(json.dumps(carry_out(json.loads(sys.argv[2]))))
    else:
        main()
