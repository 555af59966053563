"""Peak resident memory of writing a large simulated shard set and of training on it.

    python benchmarks/shard_memory.py --folder FOLDER

By default one person, 31 cameras and 5,000 frames at 32 x 32 (2.8 GB), 20 rounds on two actors. The
folder must have room, and the shards in it are deleted afterwards. Linux alone: the peak of a
process is the kernel's (VmHWM), which counts the pages of mapped shards too. Ends with exit code 1
where the driver or an actor went over the limit.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MIB = 1536
INTERVAL_S = 0.2
ACTOR = "ray::TaskActor"


def main() -> int:
    """Simulate, train, print the peaks."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        shards = f"data.shards={folder}/shards"
        peaks = {
            "simulate": _watch("simulate", shards, *_dome(arguments)),
            "meta_train": _watch(
                "meta_train",
                *(shards, f"output.dir={folder}/run", f"meta.rounds={arguments.rounds}"),
                *(f"cluster.actors={arguments.actors}", f"meta.log_every={arguments.rounds}"),
                f"problem.kind={arguments.problem}",
            ),
        }
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        shutil.rmtree(f"{folder}/shards")
    print(f"{size / 1e9:.2f} GB of shards and results; peak resident memory, MiB:")
    over = False
    for job, kinds in peaks.items():
        for kind, values in sorted(kinds.items()):
            print(f"  {job:10} {kind:10} {', '.join(f'{value:.0f}' for value in sorted(values))}")
            over |= kind != "Ray itself" and max(values) > LIMIT_MIB
    print(f"limit for the driver and each actor: {LIMIT_MIB} MiB: {'exceeded' if over else 'kept'}")
    return int(over)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=None, help="where to write; the system's if empty")
    parser.add_argument("--cameras", type=int, default=31)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--frames-per-clip", type=int, default=200)
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--dtype", default="uint8", choices=("uint8", "float16"))
    parser.add_argument("--problem", default="plus", choices=("metafuse", "plus"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--actors", type=int, default=2)
    return parser.parse_args()


def _dome(arguments: argparse.Namespace) -> Sequence[str]:
    return (
        f"simulate.cameras={arguments.cameras}",
        f"simulate.clips={arguments.frames // arguments.frames_per_clip}",
        f"simulate.frames_per_clip={arguments.frames_per_clip}",
        f"simulate.people={arguments.people}",
        f"data.grid=[{arguments.grid}, {arguments.grid}]",
        f"data.heatmap_dtype={arguments.dtype}",
    )


def _watch(job: str, *overrides: str) -> dict[str, list[float]]:
    """Run a job; return the peaks of its processes in MiB, by kind."""
    started = time.perf_counter()
    peak_of: dict[int, tuple[str, float]] = {}
    with subprocess.Popen([sys.executable, str(ROOT / "jobs" / f"{job}.py"), *overrides]) as driver:
        while driver.poll() is None:
            for process in _tree(driver.pid):
                kind, peak = peak_of.get(process, ("", 0.0))
                # A worker that Ray started in advance becomes an actor later.
                if kind not in ("driver", "actor"):
                    kind = "driver" if process == driver.pid else _kind(process)
                peak_of[process] = (kind, max(peak, _peak_mib(process)))
            time.sleep(INTERVAL_S)
        if driver.returncode:
            raise SystemExit(f"{job} ended with exit code {driver.returncode}")
    print(f"{job}: {time.perf_counter() - started:.0f} s")
    peaks: dict[str, list[float]] = defaultdict(list)
    for kind, peak in peak_of.values():
        peaks[kind].append(peak)
    return peaks


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        text = _read(path)
        if text:
            children[int(text.rpartition(")")[2].split()[1])].append(int(path.parent.name))
    found = [root]
    for process in found:
        found += children[process]
    return found


def _kind(process: int) -> str:
    command = _read(Path(f"/proc/{process}/cmdline"))
    return "actor" if command.startswith(ACTOR) else "Ray itself"


def _peak_mib(process: int) -> float:
    lines = _read(Path(f"/proc/{process}/status")).splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the process is gone
        return ""


if __name__ == "__main__":
    sys.exit(main())
