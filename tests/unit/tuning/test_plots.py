"""The picture of a sweep: a slice for every searched setting, and the course of the trials."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from metafuse_ray.tuning.plots import sweep_figure
from tests.support.sweeps import document, document_of_two


@pytest.mark.parametrize("metric", ["jdr", "loss"])
def test_every_trial_is_in_every_slice(metric):
    *slices, course = sweep_figure(document(metric=metric)).axes
    assert [axes.get_xlabel() for axes in slices] == [
        "alpha (inner.lr)",
        "beta (outer.lr)",
        "K (episode.shots)",
    ]
    assert [axes.get_xscale() for axes in slices] == ["log", "log", "linear"]
    low, high = slices[0].get_ylim()
    for axes in slices:
        points = np.concatenate([dots.get_offsets() for dots in axes.collections])
        assert len(points) == 4
        assert ((low <= points[:, 1]) & (points[:, 1] <= high)).all()
    assert [float(dots.get_offsets()[0, 0]) for dots in slices[0].collections] == [3, 9.5, 3, 3]
    assert [len(line.get_xdata()) for line in course.lines] == [2, 2, 1, 1]


def test_best_and_defaults_have_their_own_colours():
    *_, course = sweep_figure(document()).axes
    colours = [to_hex(line.get_color()) for line in course.lines]
    assert len(set(colours[:2])) == 2
    assert colours[2] not in colours[:2]


def test_there_is_a_slice_for_everything_that_was_searched():
    *slices, _ = sweep_figure(document_of_two()).axes
    assert [axes.get_xlabel() for axes in slices] == [
        "lr (problem.lr)",
        "lr_offsets (problem.lr_offsets)",
    ]
    assert [axes.get_xscale() for axes in slices] == ["log", "log"]
