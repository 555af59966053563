"""The adapt run with MetaFuse+: from a rig's detections and labels to files that a lab can use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from metafuse_ray.benchmark.cells import Cell, CellWorker
from metafuse_ray.errors import BundleError, ConfigError, DataError, NotEnoughFramesError
from metafuse_ray.export.adapted_rig import (
    FACTS_FILE,
    TENSOR_FILE,
    load_adapted_rig,
    save_adapted_rig,
)
from metafuse_ray.meta.weights_file import weights_bytes
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.methods.plus.stored_rig import StoredPlusRig
from metafuse_ray.methods.plus.weights import START, PlusWeights
from metafuse_ray.runs.adapt import adapt
from metafuse_ray.runs.settings import load_config
from metafuse_ray.samples.joints import own_joints, rig_detections
from metafuse_ray.samples.rig_batch import load_rig_batch
from metafuse_ray.shards.shards import ShardSet
from tests.support.evaluation import setup_of

J = 17
FACTS = {"scalars": list(START)}


@pytest.fixture(scope="module")
def weights() -> PlusWeights:
    """As meta-trained: with a prior of the offsets."""
    offsets_J3 = 0.2 * torch.randn(J, 3, generator=torch.Generator().manual_seed(0))
    return replace(PlusWeights.start(J), offsets_J3=offsets_J3)


@pytest.fixture(scope="module")
def configure(tiny_shards, weights, tmp_path_factory):
    run = tmp_path_factory.mktemp("plus") / "model.safetensors"
    run.write_bytes(weights_bytes(weights.named, 3, {"of no camera here": ""}, FACTS))

    def make(output: Path, *more: str):
        return load_config(
            None,
            [
                *(f"data.shards={tiny_shards}", f"output.dir={output}", "evaluate.views=3"),
                *(f"weights.MetaFuse+={run}", "evaluate.rigs=1", "samples.test_frames=12"),
                *("adapt.frames=12", *more),
            ],
        )

    return make


@pytest.fixture(scope="module")
def folder(configure, tmp_path_factory) -> Path:
    return Path(adapt(configure(tmp_path_factory.mktemp("adapted") / "rig")))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for name in (FACTS_FILE, TENSOR_FILE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def stored_in(folder: Path) -> StoredPlusRig:
    stored = load_adapted_rig(folder)
    assert isinstance(stored, StoredPlusRig)
    return stored


def test_the_files_hold_what_was_found(folder: Path, weights: PlusWeights) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {FACTS_FILE, TENSOR_FILE, "heatmaps.png", "config.resolved.yaml"}
    assert (folder / "heatmaps.png").stat().st_size > 20_000
    tensors = load_file(folder / TENSOR_FILE)
    assert torch.equal(tensors["scalars"], weights.scalars_S)
    # Labels have moved the prior, and have not replaced it.
    moved_J = (tensors["offsets"] - weights.offsets_J3).norm(dim=1)
    assert moved_J.min() > 0
    facts = json.loads((folder / FACTS_FILE).read_text())
    assert facts["method"] == "MetaFuse+"
    assert facts["found"]["origin"] == "refined"
    assert facts["test"]["samples"] == 12
    provenance = facts["provenance"]
    assert provenance["labelled_frames"] == 12
    assert provenance["unlabelled_frames"] >= 12
    assert provenance["looked_ahead_frames"] == 12


def test_figures_and_joints_are_those_of_evaluate(
    folder: Path, configure, weights: PlusWeights
) -> None:
    config, stored = configure(folder), stored_in(folder)
    worker = CellWorker({"": setup_of(config)}, {("", 0): {"MetaFuse+": weights}})
    for name, cell in (
        ("alone", Cell(stored.rig.names, 0, 0, "No-Fusion")),
        ("fused", Cell(stored.rig.names, 12, 0, "MetaFuse+", "exact")),
    ):
        (result,) = worker([cell])
        assert stored.test[name] == {"jdr": result.jdr, "mpjpe_mm": result.mpjpe_mm}
    adapted, test = worker.adapt(cell)
    found, expected = stored.joints(test)[0], adapted.joints(test)[0]
    np.testing.assert_array_equal(found.argmax_VBJ2, expected.argmax_VBJ2)
    np.testing.assert_array_equal(found.peak_VBJ, expected.peak_VBJ)


def test_a_stored_rig_fuses_and_triangulates(folder: Path, tiny_shards: Path) -> None:
    stored = stored_in(folder)
    batch = load_rig_batch(ShardSet.open(tiny_shards), stored.rig.names, np.arange(6))
    assert stored.heatmaps(batch).shape == batch.heatmaps_VBJhw.shape
    joints, _ = stored.joints(batch)
    assert np.nanmean(rig_detections(batch, joints)) > np.nanmean(
        rig_detections(batch, own_joints(batch))
    )
    points_BJ3 = stored.positions(batch)
    errors = np.linalg.norm(points_BJ3 - batch.joints_world_BJ3, axis=-1)
    assert np.nanmedian(errors) < 12  # cm, of heatmap pixels of 16
    turned = load_rig_batch(ShardSet.open(tiny_shards), stored.rig.names[::-1], np.arange(2))
    with pytest.raises(DataError, match="in this order"):
        stored.positions(turned)
    with pytest.raises(DataError, match=r"\(3, B, 17, 16, 16\)"):
        stored.heatmaps(replace(batch, heatmaps_VBJhw=batch.heatmaps_VBJhw[..., 1:]))


def test_neither_labels_nor_a_calibration_are_needed(
    configure, tmp_path: Path, weights: PlusWeights, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = ("adapt.frames=0", "adapt.calibration=none")
    adapt(configure(tmp_path / "rig", *nothing, "samples.look_ahead=false"))
    stored = stored_in(tmp_path / "rig")
    assert stored.origin == "estimated"
    assert np.allclose(stored.offsets_J3, weights.offsets_J3)
    assert stored.provenance["labelled_clips"] == []
    assert stored.provenance["looked_ahead_frames"] == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "calibration estimated (none was given), with a doubt of " in printed
    assert "has a frame and a scale of its own" in printed


def test_where_nothing_can_be_told_every_view_stands_alone(folder: Path, tmp_path: Path) -> None:
    whole = stored_in(folder)
    unknown = np.where(np.eye(3, dtype=bool), 0.0, np.inf)
    lost = replace(whole, calibration=None, doubt_VV=unknown, origin="none", reason="it is dark")
    save_adapted_rig(tmp_path, lost)
    again = stored_in(tmp_path)
    np.testing.assert_array_equal(again.doubt_VV, unknown)
    assert again.calibration is None
    shards = ShardSet.open(load_config(folder / "config.resolved.yaml").data.shards)
    batch = load_rig_batch(shards, again.rig.names, np.arange(3))
    assert torch.equal(again.heatmaps(batch), batch.heatmaps_VBJhw)
    with pytest.raises(DataError, match="no calibration to triangulate with: it is dark"):
        again.positions(batch)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: facts["found"].update(scalars=["own_bias"]), "of another release"),
        (lambda facts: facts["found"].update(doubt=[[0.0]]), "doubt of shape"),
        (lambda facts: facts["found"].update(origin="guessed"), "origin 'guessed'"),
        (lambda facts: facts["found"]["calibration"]["cameras"].pop(), "of 2 cameras, expected 3"),
        (lambda facts: facts.pop("found"), "found"),
        (lambda facts: facts.update(method="MetaFuse"), "damaged"),
        (lambda facts: facts.update(skeleton="coco19"), "offsets"),
    ],
)
def test_facts_that_do_not_fit_are_refused(copy: Path, change, reason: str) -> None:
    facts = json.loads((copy / FACTS_FILE).read_text())
    del facts["content_xxh3_64"]
    change(facts)
    (copy / FACTS_FILE).write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=reason):
        load_adapted_rig(copy)


def test_numbers_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    whole = stored_in(folder)
    offsets_J3 = whole.offsets_J3.copy()
    offsets_J3[3, 1] = np.nan
    save_adapted_rig(tmp_path, replace(whole, offsets_J3=offsets_J3))
    with pytest.raises(BundleError, match="offsets: expected finite numbers"):
        load_adapted_rig(tmp_path)


def test_too_few_frames_are_refused_before_any_work(configure, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughFramesError, match="5000 labelled frames are asked for"):
        adapt(configure(tmp_path / "rig", "adapt.frames=5000"))
    assert not (tmp_path / "rig").exists()


def test_a_run_over_rigs_comes_first_and_one_over_pairs_needs_labels(
    configure, tiny_shards: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.safetensors"
    config = configure(tmp_path / "rig")
    start = start_weights(config.model, ShardSet.open(tiny_shards).grid, 0)
    pairs.write_bytes(weights_bytes(start.named, 0, {"of no camera here": ""}, {}))
    both = (f"weights.MetaFuse={pairs}", "adapt.frames=0")
    with pytest.raises(ConfigError, match="MetaFuse cannot be adapted without labels"):
        adapt(configure(tmp_path / "rig", *both, "adapt.method=MetaFuse"))
    adapt(configure(tmp_path / "rig", *both))
    assert stored_in(tmp_path / "rig").provenance["checkpoint"] == config.weights["MetaFuse+"]
