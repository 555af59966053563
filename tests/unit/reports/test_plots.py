import numpy as np
import pytest

from metafuse_ray.reports.plots import comparison_figure, learning_figure, save_figure, smooth
from tests.support.evaluation import cell_result, document


@pytest.mark.parametrize(
    ("metric", "label", "difference"),
    [
        ("jdr", "average JDR, %", "average JDR, points"),
        ("mpjpe_mm", "MPJPE, mm", "MPJPE, mm"),
    ],
)
def test_comparison_axes_say_what_they_show(metric, label, difference):
    level, gain = comparison_figure(document(), metric).axes
    assert (level.get_ylabel(), gain.get_ylabel()) == (label, difference)
    for axes in (level, gain):
        assert axes.get_xlabel() == "labelled frames N"
        assert axes.get_xscale() == "log"
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["50", "100"]


def test_every_method_has_a_curve_with_its_means_and_its_spread():
    level, gain = comparison_figure(document(), "jdr").axes
    assert {c.get_label() for c in level.containers} == {"NaiveFuse", "MetaFuse"}
    (curve,) = [c for c in level.containers if c.get_label() == "MetaFuse"]
    np.testing.assert_allclose(curve[0].get_ydata(orig=False), [90, 91])
    low, high = curve[2][0].get_segments()[0][:, 1]
    assert (low + high) / 2 == pytest.approx(90)
    assert (high - low) / 2 == pytest.approx(8.4853, abs=1e-3)
    (curve,) = [c for c in gain.containers if c.get_label() == "MetaFuse"]
    np.testing.assert_allclose(curve[0].get_ydata(orig=False), [5, 6])


def test_no_fusion_is_a_horizontal_line_and_published_gaps_are_at_the_same_n():
    level, gain = comparison_figure(document(), "mpjpe_mm").axes
    (line,) = [one for one in level.lines if one.get_label() == "No-Fusion"]
    np.testing.assert_allclose(line.get_ydata(), 45)
    (paper,) = [one for one in gain.lines if one.get_label() == "MetaFuse, published gap"]
    np.testing.assert_allclose(paper.get_ydata(), [37.27 - 40.47, 36.02 - 40.47])


def test_a_method_keeps_its_colour_whatever_stands_beside_it():
    def colour(cells):
        level = comparison_figure(document(cells), "jdr").axes[0]
        (curve,) = [c for c in level.containers if c.get_label() == "MetaFuse"]
        return curve[0].get_color()

    assert colour(None) == colour([cell_result("MetaFuse", "a", 50, 80, 40)])


def test_gaps_and_lone_rows_are_drawn(tmp_path):
    cells = [cell_result("MetaFuse", "a", 50, float("nan"), 40)]
    save_figure(comparison_figure(document(cells), "jdr"), tmp_path / "jdr.png")
    assert (tmp_path / "jdr.png").stat().st_size > 1000


def test_learning_curves_show_losses_and_gradient_norm():
    records = [
        {"round": n, "support_loss": 1 / n, "query_loss": 0.5 / n, "gradient_norm": 2.0}
        for n in range(1, 61)
    ]
    losses, norms = learning_figure(records).axes
    assert (losses.get_ylabel(), norms.get_ylabel()) == ("loss", "gradient norm")
    assert norms.get_xlabel() == "round"
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == ["before adaptation", "after adaptation"]
    np.testing.assert_allclose(losses.lines[0].get_ydata(), [1 / n for n in range(1, 61)])


def test_held_out_curves_stand_above_in_the_rounds_that_were_judged():
    records = [
        {"round": n, "support_loss": 4.0, "query_loss": 2.0, "gradient_norm": 2.0}
        for n in range(31)
    ]
    for n in (0, 10, 20, 30):
        records[n] |= {"held_out_loss_before": 8.0, "held_out_loss": 4 - n / 10}
        records[n] |= {"held_out_jdr_alone": 70.0, "held_out_jdr": 80 + n / 10}
    held, found, losses, norms = learning_figure(records).axes
    labels = [axes.get_ylabel() for axes in (held, found, losses, norms)]
    assert labels == ["loss", "JDR, %", "loss", "gradient norm"]
    for axes, before, after in (
        (held, [8, 8, 8, 8], [4, 3, 2, 1]),
        (found, [70, 70, 70, 70], [80, 81, 82, 83]),
    ):
        for line, values in zip(axes.lines, (before, after), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20, 30])
            np.testing.assert_allclose(line.get_ydata(), values)


def test_learning_curves_of_one_round_and_of_lost_rounds(tmp_path):
    lost = {"round": 1, "support_loss": float("nan"), "query_loss": float("nan")}
    save_figure(learning_figure([lost]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_smoothing_keeps_a_constant_and_leaves_out_nan():
    np.testing.assert_allclose(smooth(np.array([2, np.nan, 2, 2.0]), 3), 2)
    np.testing.assert_allclose(smooth(np.array([0, 3, np.nan, 6.0]), 3), [1.5, 1.5, 4.5, 6])
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0]), 9), 1.5)
    assert np.isnan(smooth(np.array([np.nan]), 3)).all()
