"""Which cells a benchmark consists of."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

from metafuse_ray.benchmark.cells import Cell
from metafuse_ray.benchmark.rigs import count_labelled, has_judged_rows, rig_order
from metafuse_ray.benchmark.settings import Calibration, EvaluateConfig
from metafuse_ray.benchmark.setup import Setup
from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.methods.row import MethodRow
from metafuse_ray.shards.shards import ShardSet

_log = logging.getLogger(__name__)


def plan_cells(
    setup: Setup, shards: ShardSet, test_shards: ShardSet, fold: int = 0, data: str = ""
) -> list[Cell]:
    """List the cells of a data set's fold, rig by rig, which have the labels and frames they need.

    Raises:
        NotEnoughFramesError: No rig has the smallest N of ``evaluate.labelled_frames``.
        ConfigError: A method is not available, or there are too few cameras.
    """
    cells = []
    for views in setup.evaluate.views:
        rigs, frames_list = _rigs_with_frames(setup, shards, test_shards, views)
        for rig in rigs:
            for method in setup.evaluate.methods:
                for frames, calibration, draw in planned(
                    setup.methods[method], setup.evaluate, frames_list
                ):
                    cells.append(Cell(rig, frames, draw, method, calibration, fold, data))
    # By N within a rig, so that a running evaluation already shows all methods side by side.
    order = {cell.rig: number for number, cell in reversed(list(enumerate(cells)))}
    return sorted(cells, key=lambda cell: (order[cell.rig], cell.labelled_frames, cell.draw))


def planned(
    entry: MethodRow, wanted: EvaluateConfig, frames_list: list[int]
) -> Iterator[tuple[int, Calibration | None, int]]:
    """Yield (N, calibration, draw) of every cell of a method on a rig.

    Args:
        entry: The method's row.
        wanted: What is compared.
        frames_list: The Ns that the rig has labels for.
    """
    draws = wanted.seeds
    if entry.costly:
        chosen = wanted.costly_labelled_frames
        frames_list = [frames for frames in frames_list if chosen is None or frames in chosen]
        draws = wanted.costly_seeds or draws
    for calibration in _calibrations(entry, wanted):
        for frames in _labelled_frames(entry, calibration, wanted, frames_list):
            # Without labels and errors, all draws are the same.
            nothing_drawn = frames == 0 and calibration in (None, "exact")
            for draw in range(1 if nothing_drawn else draws):
                yield frames, calibration, draw


def _calibrations(entry: MethodRow, wanted: EvaluateConfig) -> Sequence[Calibration | None]:
    if entry.calibration == "never":
        return [None]
    if entry.calibration == "exact":
        return ["exact"]
    with_none = entry.calibration == "optional"
    return [given for given in wanted.calibrations if given != "none" or with_none]


def _labelled_frames(
    entry: MethodRow,
    calibration: Calibration | None,
    wanted: EvaluateConfig,
    frames_list: list[int],
) -> list[int]:
    if entry.labels == "never" or (entry.labels == "uncalibrated" and calibration != "none"):
        return [0]
    if entry.labels == "required":
        return [frames for frames in frames_list if frames > 0]
    if calibration in (None, "none"):
        return frames_list
    return [frames for frames in frames_list if frames in wanted.calibrated_labelled_frames] or [0]


def _rigs_with_frames(
    setup: Setup, shards: ShardSet, test_shards: ShardSet, views: int
) -> tuple[list[tuple[str, ...]], list[int]]:
    """Draw the rigs with the most labelled samples, and keep the Ns up to that."""
    wanted = setup.evaluate
    test_shards.rig.subset(shards.manifest.test_cameras)
    whole = setup.data.test_shards is not None

    def fits(rig: tuple[str, ...], frames: int) -> bool:
        enough = count_labelled(shards, rig) >= max(frames, 1)
        return enough and has_judged_rows(test_shards, rig, whole)

    drawn: list[tuple[str, ...]] = []
    sizes = sorted(wanted.labelled_frames)
    most = sizes[0]
    for most in reversed(sizes):
        order = rig_order(shards.manifest.test_cameras, views, wanted.rigs, setup.seed)
        drawn = list(itertools.islice((rig for rig in order if fits(rig, most)), wanted.rigs))
        if len(drawn) == wanted.rigs:
            break
    if not drawn:
        raise NotEnoughFramesError(
            f"no rig of {views} test cameras in {shards.location} has {max(most, 1)} training"
            " samples and a test sample seen by two or more of its views; lower"
            " evaluate.labelled_frames, or record more",
            frames=most,
        )
    if len(drawn) < wanted.rigs:
        _log.warning("%d rigs, not evaluate.rigs=%d: there are no more", len(drawn), wanted.rigs)
    dropped = [frames for frames in sizes if frames > most]
    if dropped:
        _log.warning("N = %s left out: too few rigs have that many samples to label", dropped)
    return drawn, [frames for frames in wanted.labelled_frames if frames <= most]
