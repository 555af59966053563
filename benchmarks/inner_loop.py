"""Compare inner loops of meta-training on held-out training cameras.

    python benchmarks/inner_loop.py --shards runs/benchmark_32/shards [--markdown FILE]

Every candidate meta-trains MetaFuse on the training cameras that are left after some are held out.
Rigs of four of the held-out ones then label N consecutive person-frames of one training clip,
fine-tune theta to them as the product does, and are judged on frames of other training clips.
Neither the test cameras nor the test frames are touched, so that a choice by this table may be
evaluated on them. In this process, on one thread; at 32 x 32, 60 rounds take half a minute to four
minutes a candidate, and judging it about one and a half.

    --only "adam, 5 steps, .1, first order"     one candidate (may be given several times)
    --rounds 2 --rigs 1 --frames 5              a quick check that it runs
    episode.shots=8 outer.lr=0.001              other settings, for all candidates
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from inner_loop_report import ALONE, UNTRAINED, Training, markdown

from metafuse_ray.benchmark.rigs import draw_rigs, labelled_rows
from metafuse_ray.config.section import replaced
from metafuse_ray.errors import AdaptationDivergedError, MetaFuseError, NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.tasks import Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.methods.metafuse.fusion import blend
from metafuse_ray.methods.metafuse.fusion_methods import AffineMethod, grid_of
from metafuse_ray.methods.metafuse.start import FusionWeights
from metafuse_ray.methods.metafuse.worker import PairWorker
from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_argmax
from metafuse_ray.pose.metrics import detections
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.samples.episodes import FusionBatch
from metafuse_ray.samples.rig_batch import load_rig_batch, rig_rows, thinned
from metafuse_ray.samples.settings import SamplesConfig
from metafuse_ray.seeds import generator
from metafuse_ray.shards.blocks import TRAIN
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.shards.splits import hold_out

_ADAM = ("inner.optimizer=adam", "inner.lr=0.1", "inner.lr_omega=0")
_SGD = ("inner.optimizer=sgd", "inner.lr_omega=0.003", "inner.order=second")
CANDIDATES: Mapping[str, Sequence[str]] = {
    "no inner loop": (
        *("inner.optimizer=sgd", "inner.lr=0.000001", "inner.lr_omega=0"),
        *("inner.steps=1", "inner.order=first"),
    ),
    "sgd, 1 step, alpha 3": (*_SGD, "inner.lr=3", "inner.steps=1"),
    "sgd, 5 steps, alpha 10": (*_SGD, "inner.lr=10", "inner.steps=5"),
    "adam, 3 steps, .1, second order": (*_ADAM, "inner.steps=3", "inner.order=second"),
    "adam, 5 steps, .1, second order": (*_ADAM, "inner.steps=5", "inner.order=second"),
    "adam, 5 steps, .1, first order": (*_ADAM, "inner.steps=5", "inner.order=first"),
    "adam, 10 steps, .1, first order": (*_ADAM, "inner.steps=10", "inner.order=first"),
}
"""Name -> the settings of a candidate. They name every setting in which candidates differ."""
VIEWS = 4
STEPS = (25, 40)
SELF_WEIGHTS = (0.2, 0.3, 0.4)
"""Lambdas and numbers of steps that a gain is averaged over: choosing among them adds noise."""
JUDGED = 160
"""Most person-frames that a rig is judged on."""
LABELLED = SamplesConfig(label_clips=1, label_order="consecutive")


def main() -> None:
    """Train, adapt, judge; print the table."""
    title, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="settings of all candidates, SECTION.KEY=VALUE")
    parser.add_argument("--shards", required=True, help="folder of task shards")
    parser.add_argument("--rounds", type=int, default=60, help="of every meta-training (60)")
    parser.add_argument("--held-out", type=int, default=6, help="training cameras held out (6)")
    parser.add_argument("--rigs", type=int, default=8, help=f"rigs of {VIEWS} of those (8)")
    parser.add_argument("--frames", type=_numbers, default=(5, 20, 50), help="N (5,20,50)")
    parser.add_argument(
        "--only", action="append", choices=CANDIDATES, metavar="NAME", help="; ".join(CANDIDATES)
    )
    parser.add_argument("--markdown", type=Path, help="file for the table that is also printed")
    arguments = parser.parse_args()
    common = [
        *(f"data.shards={arguments.shards}", f"held_out.cameras={arguments.held_out}"),
        *(f"meta.rounds={arguments.rounds}", *arguments.settings),
    ]
    try:
        text = compare(common, arguments.only or list(CANDIDATES), arguments.rigs, arguments.frames)
    except MetaFuseError as error:
        parser.error(error.message)
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")
    print(text, end="")


def compare(common: Sequence[str], names: Sequence[str], rigs: int, frames: Sequence[int]) -> str:
    """Return the table of some candidates.

    Raises:
        MetaFuseError: The shards cannot be used, or hold too little.
    """
    torch.set_num_threads(1)
    config = load_config(None, common)
    shards = open_shards(config.data)
    _, held = hold_out(shards.manifest.train_cameras, config.held_out.cameras, config.seed)
    drawn = draw_rigs(held, VIEWS, rigs, config.seed)
    rows = {
        (count, number): draw_rows(shards, rig, count, config.seed)
        for count in frames
        for number, rig in enumerate(drawn)
    }
    trained: dict[str, Training] = {}
    for name in names:
        try:
            own = load_config(None, [*common, *CANDIDATES[name]])
            trained[name] = train(own, shards.rig.subset(held).pairs())
            _progress(f"{name}: trained, {trained[name].task_s:.3f} s a task")
        except AdaptationDivergedError as error:
            _progress(f"{name}: left out: {error.message}")
    starts = {UNTRAINED: FusionWeights(**build_problem(config).start())}
    starts |= {name: FusionWeights(**one.weights) for name, one in trained.items()}
    rates: dict[int, list[dict[str, float]]] = {count: [] for count in frames}
    for (count, number), some in rows.items():
        views = range(number % 2, VIEWS, 2)  # every second one, to save half the time
        rates[count].append(judge(config, shards, drawn[number], views, some, starts))
        _progress(f"N = {count}, rig {number + 1} of {len(drawn)}: judged")
    page = {
        "rounds": config.meta.rounds,
        "tasks": config.meta.meta_batch_size,
        "shots": config.episode.shots,
        "grid": " x ".join(map(str, shards.grid)),
        "views": VIEWS,
        "weights": SELF_WEIGHTS,
        "steps": STEPS,
    }
    return markdown(page, rates, trained)


def draw_rows(
    shards: ShardSet, rig: Sequence[str], frames: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows that a rig labels, and those that it is judged on, of other clips.

    Raises:
        NotEnoughFramesError: The training clips hold too few.
    """
    labelled = labelled_rows(shards, rig, frames, LABELLED, (seed, 0))
    every = rig_rows(shards, rig, shards.rows(TRAIN))
    clips = shards.samples.clip
    others = every[~np.isin(clips[every], clips[labelled])]
    if len(others) == 0:
        raise NotEnoughFramesError(
            f"rig {' '.join(rig)}: {frames} labelled frames take all training clips, and it is"
            " judged on others; lower --frames, or record more clips"
        )
    return labelled, thinned(others, JUDGED)


def train(config: RunConfig, held: Sequence[CameraPair]) -> Training:
    """Meta-train a candidate, and measure its inner loop on held-out pairs.

    Raises:
        AdaptationDivergedError: It diverged.
    """
    problem = build_problem(config)
    with closing(InProcessPool(problem)) as pool:
        trainer = MetaTrainer(problem, pool, config.meta, config.outer)
        seconds = [trainer.step().seconds for _ in range(config.meta.rounds)]
    weights = trainer.outer.weights
    before, after = own_losses(problem.worker("cpu"), weights, held)
    task_s = statistics.median(seconds) / config.meta.meta_batch_size
    return Training(trainer.outer.tensors, before, after, task_s)


def own_losses(
    worker: PairWorker, weights: Weights, pairs: Sequence[CameraPair]
) -> tuple[float, float]:
    """Return the mean query loss of an episode of every pair, before and after the inner loop."""
    before, after = [], []
    for index, pair in enumerate(worker.sampler.trainable(pairs)):
        query = worker.set_loss(worker.sampler.sample(0, pair).query)
        with torch.no_grad():
            before.append(float(query(worker.model(weights))))
        task = Task(0, index, (pair.target, pair.source))
        after.append(worker.run(weights, task).query_loss)
    return statistics.mean(before), statistics.mean(after)


def judge(
    config: RunConfig,
    shards: ShardSet,
    rig: Sequence[str],
    views: Sequence[int],
    rows: tuple[np.ndarray, np.ndarray],
    starts: Mapping[str, FusionWeights],
) -> dict[str, float]:
    """Return the percent of joints that views of a rig find alone, and adapted from each start."""
    labelled, judged = (load_rig_batch(shards, rig, some) for some in rows)
    fine_tune, crop_px = replaced(config.fine_tune, steps=STEPS), shards.manifest.crop_px
    rates: dict[str, list[float]] = {name: [] for name in (ALONE, *starts)}
    for view in views:
        label, query = labelled.target(view), judged.target(view)
        rates[ALONE].append(_found(query.target_BJHW, query, crop_px))
        for name, start in starts.items():
            method = AffineMethod(config.model, fine_tune, SELF_WEIGHTS, lambda *_, it=start: it)
            random = generator(config.seed, "inner loop", *rig, len(labelled), view)
            for _, model in method.fit(label, view, random):
                with torch.no_grad():
                    collected = model.collect(query)
                fused = [blend(query, collected, weight) for weight in SELF_WEIGHTS]
                rates[name] += [_found(one, query, crop_px) for one in fused]
    return {name: float(np.nanmean(some)) for name, some in rates.items()}


def _found(fused_BJHW: torch.Tensor, batch: FusionBatch, crop_px: int) -> float:
    """Return the percent of the visible joints that some heatmaps find (JDR)."""
    found, truth = (
        crop_from_heatmap(px.double().numpy(), crop_px, grid_of(batch))
        for px in (decode_argmax(fused_BJHW)[0], batch.label_BJ2)
    )
    hits = detections(found, truth, batch.visibility_BJ.numpy() > 0, crop_px)
    return 100 * float(np.nanmean(hits))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
