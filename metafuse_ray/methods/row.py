"""The rows of the table of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.weights_file import StoredWeights
from metafuse_ray.methods.interface import RigMethod
from metafuse_ray.shapes import Grid


@dataclass(frozen=True)
class Searched:
    """A setting that a sweep searches.

    Attributes:
        path: Of the setting.
        symbol: Its short name: the paper's, where it has one.
        integer: A whole number, searched evenly from a quarter to twice its value; else from a
            tenth to ten times, on a logarithmic scale.
    """

    path: str
    symbol: str
    integer: bool = False


@dataclass(frozen=True)
class ProblemRow:
    """A kind of meta-training.

    Attributes:
        kind: Its name: ``problem.kind``.
        settings: The section ``problem`` of this kind; its field ``kind`` is the name.
        reads: Paths of all settings that it reads besides those of the driver.
        make: Builds it from the sections that ``reads`` names, by keyword.
        weights: Checks stored weights for heatmaps of (grid, number of joints) and builds them, or
            raises CheckpointError. What it builds has ``named``: its tensors by name.
        searched: What a sweep searches.
    """

    kind: str
    settings: type
    reads: tuple[str, ...]
    make: Callable[..., Problem]
    weights: Callable[[StoredWeights, Grid, int], Any]
    searched: tuple[Searched, ...] = ()


@dataclass(frozen=True)
class MethodRow:
    """A method under comparison.

    Attributes:
        name: As tables show it.
        make: Builds it from its meta-learned weights (None where it has none) and the sections that
            ``reads`` names, by keyword.
        colour: Of its curves.
        marker: Of its curves.
        labels: ``never`` (N = 0 alone), ``optional`` (N = 0 is defined), ``required``, or
            ``uncalibrated`` (used only to estimate a calibration).
        calibration: ``never``, ``exact`` (not tried with errors), ``required`` or ``optional``
            (estimated where none is given).
        reads: Paths of the settings that it reads.
        costly: Takes many steps: see ``evaluate.costly_labelled_frames``.
        drawn: An adapted rig can be drawn (`metafuse_ray.methods.interface.Drawable`). Of several
            such methods, the last one in the table is drawn.
        ours: One of the two models, whose curves are thick.
        problem: The meta-training whose weights it starts from.
    """

    name: str
    make: Callable[..., RigMethod]
    colour: str
    marker: str
    labels: Literal["never", "optional", "required", "uncalibrated"]
    calibration: Literal["never", "exact", "required", "optional"]
    reads: tuple[str, ...] = ()
    costly: bool = False
    drawn: bool = False
    ours: bool = False
    problem: ProblemRow | None = None


def bound(row: MethodRow | ProblemRow, sections: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what makes a method or a problem, with the sections that it reads filled in."""
    return partial(row.make, **{name: sections[name] for name in section_names(row.reads)})


def section_names(paths: Iterable[str]) -> list[str]:
    """Return the sections of some settings, each once."""
    return list(dict.fromkeys(path.split(".")[0] for path in paths))
