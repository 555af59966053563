import numpy as np
import pytest
import torch

from metafuse_ray.pose.heatmap import (
    crop_from_heatmap,
    decode_argmax,
    decode_refined,
    heatmap_from_crop,
    render_gaussian,
    translate,
)


def test_a_gaussian_on_a_pixel_has_height_one_and_the_right_width():
    heatmap = render_gaussian(torch.tensor([[[5.0, 9.0]]]), (16, 12), 2.0)

    assert heatmap.shape == (1, 1, 16, 12)
    assert heatmap[0, 0, 9, 5] == 1
    assert heatmap[0, 0, 9, 7] == pytest.approx(np.exp(-0.5))
    assert heatmap[0, 0, 12, 5] == pytest.approx(np.exp(-9 / 8))


def test_unlabelled_joints_have_empty_heatmaps():
    xy = torch.tensor([[[3.0, 4.0], [float("nan"), float("nan")], [float("nan"), 2.0]]])
    heatmaps = render_gaussian(xy, (8, 8), 1.0)
    assert heatmaps[0, 0].max() == 1
    assert heatmaps[0, 1:].abs().max() == 0


def test_joints_far_outside_leave_nothing():
    assert render_gaussian(torch.tensor([[[-500.0, 3.0]]]), (8, 8), 1.0).max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_argmax_finds_pixels(dtype):
    xy = torch.tensor([[[0, 0], [11, 15], [4, 7]], [[3, 2], [11, 0], [0, 15]]], dtype=dtype)
    found, peak = decode_argmax(render_gaussian(xy, (16, 12), 1.5))
    torch.testing.assert_close(found, xy)
    torch.testing.assert_close(peak, torch.ones(2, 3, dtype=dtype))


def test_refined_finds_fractions_of_a_pixel():
    generator = torch.Generator().manual_seed(0)
    xy = 8 + 40 * torch.rand(50, 4, 2, generator=generator)
    heatmaps = render_gaussian(xy, (64, 48 + 8), 1.0)

    rough, _ = decode_argmax(heatmaps)
    fine, peak = decode_refined(heatmaps)

    assert (rough - xy).abs().max() > 0.4
    assert (fine - xy).abs().max() < 0.02
    torch.testing.assert_close(peak, heatmaps.amax((-1, -2)))


def test_translated_heatmaps_have_their_peaks_elsewhere():
    generator = torch.Generator().manual_seed(0)
    xy = 15 + 20 * torch.rand(6, 3, 2, generator=generator)
    shift = 5 * torch.randn(6, 3, 2, generator=generator)
    moved = translate(render_gaussian(xy, (48, 64), 1.5), shift)
    assert moved.shape == (6, 3, 48, 64)
    assert (decode_refined(moved, 9)[0] - xy - shift).abs().max() < 0.1


def test_whole_pixels_translate_exactly_and_nothing_comes_in():
    heatmaps = torch.rand(1, 1, 8, 10, generator=torch.Generator().manual_seed(0))
    moved = translate(heatmaps, torch.tensor([[[3.0, -2.0]]]))
    torch.testing.assert_close(moved[..., :-2, 3:], heatmaps[..., 2:, :-3])
    assert (moved[..., :3] == 0).all()
    assert (moved[..., -2:, :] == 0).all()


@pytest.mark.parametrize("at", [(0, 12), (19, 12), (8, 0), (8, 23)])
def test_peaks_at_the_border_move_inwards(at):
    start, middle = torch.tensor(at), torch.tensor([9.5, 11.5])
    inwards = 3 * torch.sign(middle - start)
    heatmap = render_gaussian(start.float()[None, None], (24, 20), 1.0)
    found, _ = decode_argmax(translate(heatmap, inwards[None, None]))
    assert found[0, 0].tolist() == (start + inwards).tolist()


def test_refined_is_unbiased_at_the_border():
    xy = torch.tensor([[[0.0, 30.0], [63.0, 63.0], [1.0, 62.0]]])
    found, _ = decode_refined(render_gaussian(xy, (64, 64), 2.0))
    torch.testing.assert_close(found, xy)


def test_refined_ignores_negative_values_and_empty_heatmaps():
    heatmaps = torch.zeros(1, 2, 9, 9)
    heatmaps[0, 0] = -1
    heatmaps[0, 0, 4, 6] = 0.5
    found, peak = decode_refined(heatmaps)
    assert found.tolist() == [[[6, 4], [0, 0]]]
    assert peak.tolist() == [[0.5, 0]]


def test_half_precision_heatmaps_give_float32_positions():
    heatmaps = render_gaussian(torch.tensor([[[50.25, 33.5]]]), (64, 64), 1.0).half()
    found, peak = decode_refined(heatmaps)
    assert (found.dtype, peak.dtype) == (torch.float32, torch.float16)
    torch.testing.assert_close(found, torch.tensor([[[50.25, 33.5]]]), atol=0.02, rtol=0)


@pytest.mark.parametrize("window", [0, -3, 4])
def test_the_window_has_a_middle(window):
    with pytest.raises(ValueError, match="odd"):
        decode_refined(torch.zeros(1, 1, 8, 8), window)


def test_rendering_passes_gradients_to_positions():
    xy = torch.tensor([[[3.3, 4.6]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: render_gaussian(p, (8, 8), 1.5), (xy,))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_heatmap_and_crop_coordinates_align_pixel_areas(kind):
    crop = np.array([[1.5, 1.5], [-0.5, -0.5], [255.5, 255.5], [127.5, 127.5]])
    expected = [[0, 0], [-0.5, -0.5], [47.5, 63.5], [23.5, 31.5]]
    crop = crop if kind == "numpy" else torch.from_numpy(crop)

    found = heatmap_from_crop(crop, 256, (64, 48))
    back = crop_from_heatmap(found, 256, (64, 48))

    assert type(found) is type(crop)
    np.testing.assert_allclose(found[1:], expected[1:])
    assert float(found[0, 1]) == pytest.approx(0)
    np.testing.assert_allclose(back, crop)
    # Heatmap index k lies at (k + 0.5) * crop_px / grid - 0.5.
    np.testing.assert_allclose(crop_from_heatmap(found * 0 + 7, 256, (64, 48))[0], (39.5, 29.5))


def test_float32_stays_float32():
    assert heatmap_from_crop(np.zeros((3, 2), np.float32), 256, (64, 64)).dtype == np.float32
    assert heatmap_from_crop(torch.zeros(3, 2), 256, (64, 64)).dtype == torch.float32
