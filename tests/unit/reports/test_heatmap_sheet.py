import numpy as np
import pytest
import torch

from metafuse_ray.benchmark.cell_plan import plan_cells
from metafuse_ray.benchmark.cells import Cell, CellWorker
from metafuse_ray.benchmark.rigs import judged_rows
from metafuse_ray.methods.metafuse.adapt_rig import AdaptedRig, Choice
from metafuse_ray.methods.rivals.naive_fuse import NaiveFuse
from metafuse_ray.methods.table import METHODS
from metafuse_ray.reports.examples import Example, choose_examples, example_panels
from metafuse_ray.reports.heatmap_sheet import draw_sheet, heatmap_sheet, sheet_cell, spoken
from metafuse_ray.reports.scenery import Scenery, open_scenery
from metafuse_ray.runs.settings import load_config
from metafuse_ray.samples.rig_batch import load_rig_batch
from metafuse_ray.shards.shards import ShardSet
from tests.support.evaluation import setup_of

DRAWN = [row.name for row in METHODS.values() if row.drawn]


@pytest.fixture
def shards(tiny_shards):
    return ShardSet.open(tiny_shards)


@pytest.fixture
def batch(shards):
    cameras = shards.manifest.test_cameras
    return load_rig_batch(shards, cameras, judged_rows(shards, cameras, 20, False))


@pytest.fixture
def adapted(batch):
    # Every source pixel goes to the same target pixel: what is collected is known.
    views, pixels = len(batch.views), 16 * 16
    weight = torch.eye(pixels).expand(views - 1, -1, -1).clone()
    models = tuple(NaiveFuse(weight, (16, 16)) for _ in batch.views)
    return AdaptedRig(models, Choice(0, 0.25, 0.25, float("nan"), float("nan")))


def _seen_example(batch) -> Example:
    view, row = np.argwhere(batch.seen_VB.numpy().all(0)[None] & batch.seen_VB.numpy())[0]
    return Example("fixed", int(view), int(row), 3)


def test_verdicts_are_counted_and_examples_belong_to_them():
    random = np.random.default_rng(0)
    alone = random.integers(0, 2, (3, 20, 5)).astype(float)
    fused = random.integers(0, 2, (3, 20, 5)).astype(float)
    alone[0, :, 0] = fused[0, :, 0] = np.nan
    examples, counts = choose_examples(alone, fused, np.random.default_rng(1))
    assert sum(counts.values()) == 3 * 20 * 5 - 20
    assert counts["fixed"] == int(((alone == 0) & (fused == 1)).sum())
    verdicts = [example.verdict for example in examples]
    assert verdicts == ["fixed"] * 4 + ["broken"] * 2 + ["found either way", "missed either way"]
    for example in examples[4:6]:
        place = example.view, example.row, example.joint
        assert (alone[place], fused[place]) == (1, 0)
    assert len(set(examples)) == 8


def test_rare_verdicts_give_fewer_rows():
    alone = np.ones((1, 3, 2))
    examples, counts = choose_examples(alone, alone, np.random.default_rng(0))
    assert [example.verdict for example in examples] == ["found either way"]
    assert counts["fixed"] == 0


def test_the_sheet_shows_the_best_method_on_the_first_rig_at_the_largest_n_up_to_50():
    cells = [
        Cell(rig, frames, draw, method)
        for rig in (("a", "b"), ("c", "d"))
        for frames in (25, 50, 100)
        for draw in (0, 1)
        for method in ("Affine", "MetaFuse", "NaiveFuse")
    ]
    assert sheet_cell(cells, DRAWN) == Cell(("a", "b"), 50, 0, "MetaFuse")
    large = [cell for cell in cells if cell.labelled_frames == 100 and cell.method != "MetaFuse"]
    assert sheet_cell(large, DRAWN) == Cell(("a", "b"), 100, 0, "Affine")
    plus = [
        Cell(("a", "b"), frames, 0, "MetaFuse+", calibration)
        for frames, calibration in ((0, "exact"), (0, "none"), (50, "none"), (100, "none"))
    ]
    assert sheet_cell([*cells, *plus], DRAWN) == plus[2]
    assert sheet_cell([*cells, *plus[:2]], DRAWN) == plus[1]
    assert sheet_cell([Cell(("a", "b"), 0, 0, "No-Fusion")], DRAWN) is None


def test_panels_hold_own_sources_collected_and_fused_heatmaps(batch, adapted):
    example = _seen_example(batch)
    panels = example_panels(example, adapted, batch)
    own, first, second, collected, fused = (panel.heatmap for panel in panels)
    heatmaps = batch.heatmaps_VBJhw[:, example.row, example.joint].numpy()
    others = [view for view in batch.views if view != example.view]
    np.testing.assert_array_equal(own, heatmaps[example.view])
    np.testing.assert_array_equal(first, heatmaps[others[0]])
    np.testing.assert_array_equal(second, heatmaps[others[1]])
    np.testing.assert_allclose(collected, (first + second) / 2, atol=1e-6)
    np.testing.assert_allclose(fused, 0.25 * own + 0.75 * collected, atol=1e-6)
    assert [panel.view for panel in panels] == [example.view, *others, example.view, example.view]


def test_truth_and_peak_are_in_crop_pixels(batch, adapted):
    example = _seen_example(batch)
    panel = example_panels(example, adapted, batch)[0]
    row, column = np.unravel_index(panel.heatmap.argmax(), panel.heatmap.shape)
    # 16 pixels of heatmap over 256 of crop: the centre of heatmap pixel k is at 16 k + 7.5.
    np.testing.assert_allclose(panel.found_px, [16 * column + 7.5, 16 * row + 7.5])
    label = batch.label_VBJ2[example.view, example.row, example.joint].numpy()
    np.testing.assert_allclose(panel.truth_px, 16 * label + 7.5, rtol=1e-5)


def test_the_drawn_sheet_has_a_row_an_example_and_marks_the_truth(shards, batch, adapted):
    example = _seen_example(batch)
    scenery = Scenery(shards, None)
    joints = shards.skeleton.joints
    figure = draw_sheet([example, example], adapted, batch, scenery, joints, "A caption.")
    assert len(figure.axes) == 2 * 5
    heads = [axes.get_title() for axes in figure.axes[:5]]
    assert heads == ["own", "source 1", "source 2", "collected", "fused"]
    truth = example_panels(example, adapted, batch)[0].truth_px
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "+"]
    np.testing.assert_allclose(np.ravel(cross.get_data()), truth)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any(spoken(joints[example.joint]) in text for text in texts)


def test_a_simulated_ground_shows_every_person_of_the_frame(shards, batch, adapted):
    example = _seen_example(batch)
    figure = draw_sheet(
        [example], adapted, batch, Scenery(shards, None), shards.skeleton.joints, "A caption."
    )
    clip, frame = batch.time_B2[example.row]
    people = np.sum((shards.samples.clip == clip) & (shards.samples.frame == frame))
    limbs = [line for line in figure.axes[0].lines if line.get_zorder() == 0]
    assert people == 2
    assert len(limbs) == people * len(shards.skeleton.limbs)


def test_shards_of_a_vanished_recording_fall_back_to_skeletons(shards, tmp_path):
    source = {"kind": "recording", "sequence": "gone", "directory": str(tmp_path / "gone")}
    shards.manifest.source.update(source)
    scenery = open_scenery(shards, None)
    assert scenery.kind == "the people's true skeletons"
    assert "pseudo ground truth" in scenery.truth


def test_the_sheet_of_an_evaluation_is_a_png(tiny_shards, tmp_path):
    config = load_config(
        None,
        [
            f"data.shards={tiny_shards}",
            "evaluate.methods=[No-Fusion, NaiveFuse ridge]",
            "evaluate.views=3",
            "evaluate.rigs=1",
            "evaluate.labelled_frames=[12]",
            "samples.test_frames=20",
            "ridge.regularisers=[10.0]",
            "choose.self_weights=[0.5]",
        ],
    )
    setup = setup_of(config)
    cells = plan_cells(setup, (shards := ShardSet.open(tiny_shards)), shards)
    path = heatmap_sheet({"": setup}, CellWorker({"": setup}, {}), cells, tmp_path)
    assert path == tmp_path / "heatmaps.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert path.stat().st_size > 20_000


def test_without_a_method_that_fuses_there_is_no_sheet_and_no_old_one(tiny_shards, tmp_path):
    (tmp_path / "heatmaps.png").touch()
    setup = setup_of(load_config(None, [f"data.shards={tiny_shards}"]))
    cells = [Cell(("00_00", "00_01"), 0, 0, "No-Fusion")]
    assert heatmap_sheet({"": setup}, CellWorker({"": setup}, {}), cells, tmp_path) is None
    assert not (tmp_path / "heatmaps.png").exists()


def test_the_last_method_of_the_table_is_drawn_whatever_the_order_of_the_evaluation(
    tiny_shards, tmp_path
):
    overrides = ["evaluate.methods=[MetaFuse+, MetaFuse+ hand-set, NaiveFuse ridge, Affine]"]
    setup = setup_of(load_config(None, [f"data.shards={tiny_shards}", *overrides]))
    cells = [Cell(("00_00", "00_01"), 10, 0, method) for method in setup.evaluate.methods]

    class Asked(CellWorker):
        def adapt(self, cell):
            raise LookupError(cell.method)

    with pytest.raises(LookupError, match=r"^MetaFuse\+$"):
        heatmap_sheet({"": setup}, Asked({"": setup}, {}), cells, tmp_path)


def test_joint_names_are_spoken():
    assert [spoken(name) for name in ("lAnkle", "rEye", "Nose")] == [
        "left ankle",
        "right eye",
        "nose",
    ]
