import torch

from metafuse_ray.pose.heatmap import render_gaussian
from metafuse_ray.pose.modes import APART, find_modes

GRID = (64, 64)


def test_two_people_in_a_crop_are_two_modes_the_higher_first():
    first, second = torch.tensor([[[20.3, 31.0]]]), torch.tensor([[[45.0, 12.6]]])
    heatmaps = 0.5 * render_gaussian(first, GRID, 2.0) + 0.8 * render_gaussian(second, GRID, 2.0)
    places, heights = find_modes(heatmaps, 3, 7)
    assert places.shape == (1, 1, 3, 2)
    torch.testing.assert_close(places[0, 0, 0], second[0, 0], atol=0.3, rtol=0)
    torch.testing.assert_close(places[0, 0, 1], first[0, 0], atol=0.3, rtol=0)
    torch.testing.assert_close(heights[0, 0, :2], torch.tensor([0.8, 0.5]), atol=0.02, rtol=0)


def test_the_slope_of_a_peak_is_no_mode():
    heatmaps = render_gaussian(torch.tensor([[[32.0, 32.0]]]), GRID, 3.0)
    places, heights = find_modes(heatmaps, 2, 7)
    distance = torch.linalg.norm(places[0, 0, 1] - places[0, 0, 0])
    assert heights[0, 0, 1] < 0.2
    assert distance >= 0.8 * APART * GRID[1]


def test_an_empty_heatmap_has_no_height():
    _, heights = find_modes(torch.zeros(1, 2, *GRID), 2, 7)
    assert not heights.any()
