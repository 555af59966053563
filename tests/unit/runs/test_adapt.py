"""The adapt run: from a meta-trained start to files that a lab can use."""

import doctest
import json
import logging
from dataclasses import asdict, astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from metafuse_ray.benchmark.cells import Cell, CellWorker
from metafuse_ray.benchmark.rigs import draw_rigs, labelled_rows
from metafuse_ray.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    DataError,
    NotEnoughFramesError,
    StorageError,
)
from metafuse_ray.export.adapted_rig import (
    FACTS_FILE,
    TENSOR_FILE,
    load_adapted_rig,
    save_adapted_rig,
)
from metafuse_ray.meta.weights_file import read_tensors, weights_bytes, weights_path
from metafuse_ray.methods.metafuse.adapt_rig import Choosing, adapt_rig
from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.fusion_methods import AffineMethod
from metafuse_ray.methods.metafuse.start import FusionWeights
from metafuse_ray.methods.metafuse.stored_rig import StoredRig
from metafuse_ray.runs.adapt import adapt
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.rig_choice import choose_rig
from metafuse_ray.runs.settings import load_config
from metafuse_ray.samples.rig_batch import load_rig_batch
from metafuse_ray.shards.blocks import TRAIN, SampleBlock
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.shards.writer import ShardWriter
from tests.support.evaluation import setup_of

SETTINGS = (
    "problem.kind=metafuse",
    "cluster.backend=in_process",
    "output.tensorboard=false",
    "episode.shots=4",
    "meta.rounds=2",
    "meta.meta_batch_size=1",
    "evaluate.views=3",
    "evaluate.rigs=1",
    "samples.test_frames=12",
    "adapt.frames=12",
    "fine_tune.steps=[0, 3]",
    "choose.folds=2",
    "choose.self_weights=[0.3, 0.6]",
)


@pytest.fixture(scope="module")
def trained(tiny_shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("adapt") / "train"
    return Path(meta_train(load_config(None, [*SETTINGS, *_paths(tiny_shards, run)])))


@pytest.fixture(scope="module")
def configure(tiny_shards, trained):
    def make(output, *more):
        start = f"weights.MetaFuse={trained}"
        return load_config(None, [*SETTINGS, *_paths(tiny_shards, output), start, *more])

    return make


@pytest.fixture(scope="module")
def adapted_folder(configure, tmp_path_factory):
    output = tmp_path_factory.mktemp("adapted") / "rig"
    return Path(adapt(configure(output, "choose.caution=0")))


@pytest.fixture
def copy(adapted_folder, tmp_path):
    for name in (FACTS_FILE, TENSOR_FILE):
        (tmp_path / name).write_bytes((adapted_folder / name).read_bytes())
    return tmp_path


def _learned(trained) -> FusionWeights:
    return FusionWeights(**read_tensors(weights_path(Path(trained))))


def _rig(config, shards) -> tuple[str, ...]:
    run = config.weights["MetaFuse"]
    return choose_rig(config.adapt.cameras, config.evaluate, config.seed, run, shards)


def _paths(shards, output) -> list[str]:
    return [f"data.shards={shards}", f"output.dir={output}"]


def _training_rows_alone(shards: ShardSet, directory, blind: str = "") -> None:
    """Copy a shard set without its test rows; one of its cameras may see nobody."""
    manifest, rows = shards.manifest, shards.rows(TRAIN)
    with ShardWriter(
        directory,
        rig=shards.rig,
        skeleton=shards.skeleton,
        grid=shards.grid,
        crop_px=manifest.crop_px,
        dtype=manifest.heatmap_dtype,
        train_cameras=manifest.train_cameras,
        test_cameras=manifest.test_cameras,
        source=manifest.source,
    ) as writer:
        writer.append_samples(SampleBlock(*(column[rows] for column in astuple(shards.samples))))
        for name in shards.rig.names:
            block = shards.camera(name).gather(rows)
            writer.append_camera(name, replace(block, seen=block.seen & (name != blind)))


def _rewrite(folder, change) -> None:
    """Edit rig.json as a person would who leaves out the digest."""
    facts = json.loads((folder / FACTS_FILE).read_text())
    del facts["content_xxh3_64"]
    change(facts)
    (folder / FACTS_FILE).write_text(json.dumps(facts))


def test_the_files_hold_every_ordered_pair_and_the_facts(adapted_folder, configure, trained):
    shards = ShardSet.open(configure(adapted_folder).data.shards)
    names = {path.name for path in adapted_folder.iterdir()}
    assert names == {FACTS_FILE, TENSOR_FILE, "heatmaps.png", "config.resolved.yaml"}

    tensors = load_file(adapted_folder / TENSOR_FILE)
    cameras = sorted(shards.manifest.test_cameras)
    pairs = {f"theta/{a}<-{b}" for a in cameras for b in cameras if a != b}
    assert set(tensors) == {"omega"} | pairs
    assert torch.equal(tensors["omega"], _learned(trained).omega)
    assert {tuple(tensors[pair].shape) for pair in pairs} == {(256, 2, 3)}

    facts = json.loads((adapted_folder / FACTS_FILE).read_text())
    assert [camera["name"] for camera in facts["rig"]["cameras"]] == cameras
    assert (facts["skeleton"], facts["grid"], facts["crop_px"]) == ("coco17", [16, 16], 256)
    assert facts["choice"]["steps"] in (0, 3)
    assert facts["choice"]["lambda_2d"] in (0.3, 0.6, 1.0)
    assert 0 <= facts["held_out"]["jdr_alone"] <= 100
    assert facts["test"]["samples"] == 12
    assert set(facts["test"]["fused"]["jdr"]) == {"shoulder", "knee", "ankle", "average"}
    provenance = facts["provenance"]
    assert provenance["checkpoint"] == str(trained)
    assert provenance["data"]["kind"] == "simulated dome"
    assert (provenance["labelled_frames"], provenance["seed"]) == (12, 0)


def _worker(config, trained) -> CellWorker:
    return CellWorker({"": setup_of(config)}, {("", 0): {"MetaFuse": _learned(trained)}})


def test_a_stored_rig_finds_the_very_joints_that_the_adapted_one_found(
    adapted_folder, configure, trained
):
    config = configure(adapted_folder, "choose.caution=0")
    cell = Cell(_rig(config, ShardSet.open(config.data.shards)), 12, 0, "MetaFuse")
    adapted, batch = _worker(config, trained).adapt(cell)
    stored = load_adapted_rig(adapted_folder)
    assert asdict(stored.choice) == adapted.chosen
    for found, wanted in zip(stored.joints(batch), adapted.joints(batch), strict=True):
        np.testing.assert_array_equal(found.argmax_VBJ2, wanted.argmax_VBJ2)
        np.testing.assert_array_equal(found.refined_VBJ2, wanted.refined_VBJ2)
        np.testing.assert_array_equal(found.peak_VBJ, wanted.peak_VBJ)


def test_figures_are_those_of_evaluate_for_the_same_rig(adapted_folder, configure, trained):
    config = configure(adapted_folder, "choose.caution=0")
    rig = _rig(config, ShardSet.open(config.data.shards))
    test = load_adapted_rig(adapted_folder).test
    worker = _worker(config, trained)
    for name, cell in (
        ("alone", Cell(rig, 0, 0, "No-Fusion")),
        ("fused", Cell(rig, 12, 0, "MetaFuse")),
    ):
        (result,) = worker([cell])
        assert test[name] == {"jdr": result.jdr, "mpjpe_mm": result.mpjpe_mm}


def test_fuse_gives_the_heatmaps_of_every_view(adapted_folder, tiny_shards):
    stored = load_adapted_rig(adapted_folder)
    batch = load_rig_batch(ShardSet.open(tiny_shards), stored.rig.names, np.arange(6))
    seen = batch.seen_VB.clone()
    seen[1, 2] = False
    fused = stored.fuse(batch.heatmaps_VBJhw, seen, self_weight=0.25)
    assert fused.shape == batch.heatmaps_VBJhw.shape
    assert not fused[1, 2].any()
    model = stored.models[0]
    assert isinstance(model, AffineFusion)
    with torch.no_grad():
        carried = model.transport(batch.heatmaps_VBJhw[1:, 2:3])
    # View 1 does not see sample 2: view 0 collects from view 2 alone.
    wanted = 0.25 * batch.heatmaps_VBJhw[0, 2] + 0.75 * carried[1, 0]
    torch.testing.assert_close(fused[0, 2], wanted)
    with pytest.raises(DataError, match=r"\(3, B, 17, 16, 16\)"):
        stored.fuse(batch.heatmaps_VBJhw[:2])
    with pytest.raises(DataError, match="seen_VB"):
        stored.fuse(batch.heatmaps_VBJhw, seen[:2])


def test_the_example_in_the_docstring_runs(adapted_folder, tiny_shards, tmp_path, monkeypatch):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "adapt").symlink_to(adapted_folder)
    (tmp_path / "runs" / "demo" / "shards").symlink_to(tiny_shards)
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(load_adapted_rig, "example")
    assert len(example.examples) > 5
    assert doctest.DocTestRunner().run(example).failed == 0


def test_samples_of_other_views_are_refused(adapted_folder, tiny_shards):
    stored = load_adapted_rig(adapted_folder)
    batch = load_rig_batch(ShardSet.open(tiny_shards), stored.rig.names[::-1], np.arange(2))
    with pytest.raises(DataError, match="in this order"):
        stored.joints(batch)


def test_omega_of_every_view_is_kept_where_it_is_fine_tuned(configure, trained, tmp_path):
    config = configure(
        tmp_path, "fine_tune.lr_omega=0.01", "fine_tune.steps=[2]", "choose.self_weights=[0.5]"
    )
    shards = ShardSet.open(config.data.shards)
    rig = _rig(config, shards)
    labelled = load_rig_batch(shards, rig, labelled_rows(shards, rig, 12, config.samples, (0, 0)))
    method = AffineMethod(
        config.model, config.fine_tune, config.choose.self_weights, lambda *_: _learned(trained)
    )
    choosing = Choosing(config.choose, config.triangulate)
    adapted = adapt_rig(method, labelled, choosing, config.seed, ())
    stored = StoredRig(
        models=adapted.models,
        choice=adapted.choice,
        rig=labelled.rig,
        skeleton=shards.skeleton,
        grid=shards.grid,
        crop_px=256,
    )
    save_adapted_rig(tmp_path, stored)
    again = load_adapted_rig(tmp_path)
    assert np.isnan(again.choice.held_out_jdr)
    omegas = []
    for model, wanted in zip(again.models, adapted.models, strict=True):
        assert isinstance(model, AffineFusion)
        assert isinstance(wanted, AffineFusion)
        assert torch.equal(model.omega, wanted.omega)
        assert torch.equal(model.theta_VP23, wanted.theta_VP23)
        omegas.append(model.omega)
    assert not torch.equal(omegas[0], omegas[1])


def test_a_damaged_rig_is_refused(copy):
    whole = (copy / TENSOR_FILE).read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    for bad, reason in ((whole[:-8], "bytes, expected"), (bytes(flipped), "checksum")):
        (copy / TENSOR_FILE).write_bytes(bad)
        with pytest.raises(BundleError, match=reason):
            load_adapted_rig(copy)
    (copy / TENSOR_FILE).unlink()
    with pytest.raises(BundleError, match=r"rig\.safetensors is missing"):
        load_adapted_rig(copy)
    (copy / FACTS_FILE).unlink()
    with pytest.raises(BundleError, match=r"jobs/adapt\.py"):
        load_adapted_rig(copy)


def test_altered_facts_are_refused(copy):
    text = (copy / FACTS_FILE).read_text()
    cases = {
        text.replace('"lambda_2d": ', '"lambda_2d": 0'): "damaged",
        text.replace('"crop_px": 256', '"crop_px": 255'): "checksum",
        text[:200]: "damaged",
        "[]": "damaged",
        "": "damaged",
        "[" * 100_000: "damaged",
    }
    for bad, reason in cases.items():
        (copy / FACTS_FILE).write_text(bad)
        with pytest.raises(BundleError, match=reason):
            load_adapted_rig(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: facts.update(format=2), "format 2, expected 1"),
        (lambda facts: facts.update(skeleton="spider"), "unknown skeleton"),
        (lambda facts: facts.update(grid=[8, 8]), "expected finite numbers of shape"),
        (lambda facts: facts["rig"]["cameras"][0].update(name="x"), "theta/x<-"),
        (lambda facts: facts["rig"]["cameras"][0].pop("K"), "K"),
        (lambda facts: facts.pop("choice"), "choice"),
        (lambda facts: facts.update(tensors=None), "damaged"),
    ],
)
def test_facts_that_do_not_fit_are_refused(copy, change, reason):
    _rewrite(copy, change)
    with pytest.raises(BundleError, match=reason):
        load_adapted_rig(copy)


def test_weights_that_are_not_finite_are_refused(adapted_folder, tmp_path):
    stored = load_adapted_rig(adapted_folder)
    model = stored.models[0]
    assert isinstance(model, AffineFusion)
    theta = model.theta_VP23.detach().clone()
    theta[0, 3, 1, 2] = float("nan")
    bad = AffineFusion(model.omega.detach().clone(), theta, model.grid)
    save_adapted_rig(tmp_path, replace(stored, models=(bad, *stored.models[1:])))
    with pytest.raises(BundleError, match="finite"):
        load_adapted_rig(tmp_path)


def test_the_rig_is_the_first_that_evaluate_draws_or_the_named_one(configure, tmp_path):
    config = configure(tmp_path, "evaluate.views=2", "evaluate.rigs=3")
    shards = ShardSet.open(config.data.shards)
    drawn = draw_rigs(shards.manifest.test_cameras, 2, 3, 0)
    assert _rig(config, shards) == drawn[0]
    names = shards.manifest.test_cameras
    named = configure(tmp_path, f"adapt.cameras=[{names[1]}, {names[0]}]")
    assert _rig(named, shards) == (names[1], names[0])


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("adapt.cameras=[00_00, 00_77]", "has no camera 00_77; it has 00_00, 00_01"),
        ("adapt.cameras=[00_00]", "two or more different cameras"),
        ("evaluate.views=4", "has 3 test cameras, too few"),
    ],
)
def test_a_rig_that_cannot_be_is_refused(configure, tmp_path, setting, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        adapt(configure(tmp_path / "rig", setting))
    assert caught.value.key == "adapt.cameras"
    assert not (tmp_path / "rig").exists()


def test_cameras_that_were_trained_on_are_warned_of(configure, tmp_path, caplog):
    config = configure(tmp_path)
    shards = ShardSet.open(config.data.shards)
    train, test = shards.manifest.train_cameras[0], shards.manifest.test_cameras[0]
    with caplog.at_level(logging.WARNING, "metafuse_ray"):
        _rig(configure(tmp_path, f"adapt.cameras=[{train}, {test}]"), shards)
        assert [record.getMessage() for record in caplog.records] == [
            f"{config.weights['MetaFuse']} was trained on {train}: its results there do not"
            " apply to new cameras"
        ]
        caplog.clear()
        _rig(config, shards)
        # A camera of another calibration is another one, whatever its name.
        other = tmp_path / "model.safetensors"
        weights = _learned(config.weights["MetaFuse"])
        other.write_bytes(weights_bytes(weights.named, 2, {train: "0123456789abcdef"}, {}))
        names = f"adapt.cameras=[{train}, {test}]"
        _rig(configure(tmp_path, f"weights.MetaFuse={other}", names), shards)
        assert not caplog.records


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        (["adapt.frames=5000"], NotEnoughFramesError, "5000 labelled frames are asked for"),
        (["adapt.frames=2", "choose.folds=4"], NotEnoughFramesError, "4 blocks of time"),
        (
            ["adapt.method=MetaFuse+"],
            ConfigError,
            r"weights\.MetaFuse\+: .* set it to",
        ),
        (["adapt.method=Affine"], ConfigError, "no 'Affine'; choose from MetaFuse, MetaFuse"),
        (["weights.MetaFuse=/nowhere"], CheckpointError, "no weights at"),
        (["data.shards=/nowhere"], StorageError, "no shard set"),
    ],
)
def test_what_cannot_be_adapted_is_refused_before_any_work(
    configure, tmp_path, settings, error, reason
):
    with pytest.raises(error, match=reason):
        adapt(configure(tmp_path / "rig", *settings))
    assert not (tmp_path / "rig").exists()


def test_weights_that_are_not_named_are_refused_before_any_work(tiny_shards, tmp_path):
    config = load_config(None, [*SETTINGS, *_paths(tiny_shards, tmp_path / "rig")])
    with pytest.raises(ConfigError, match=r"weights\.MetaFuse: .* set it to the output\.dir"):
        adapt(config)
    assert not (tmp_path / "rig").exists()


def test_a_checkpoint_of_another_grid_is_refused(configure, tmp_path):
    weights = {"omega": torch.ones(8, 8), "theta": torch.ones(64, 2, 3)}
    save_file(weights, tmp_path / "model.safetensors")
    start = f"weights.MetaFuse={tmp_path / 'model.safetensors'}"
    with pytest.raises(CheckpointError, match=r"heatmaps of 8 x 8, .* hold 16 x 16"):
        adapt(configure(tmp_path / "rig", start))


def test_the_training_run_is_not_overwritten(configure, trained):
    before = (trained / "config.resolved.yaml").read_bytes()
    for start in (trained, trained / "final" / "model.safetensors"):
        with pytest.raises(ConfigError, match="folder of the meta-training run"):
            adapt(configure(trained, f"weights.MetaFuse={start}"))
    assert (trained / "config.resolved.yaml").read_bytes() == before


def test_without_test_frames_there_are_files_and_a_picture_all_the_same(
    configure, tiny_shards, tmp_path, capsys
):
    _training_rows_alone(ShardSet.open(tiny_shards), tmp_path / "shards")
    adapt(
        configure(
            tmp_path / "rig",
            f"data.shards={tmp_path / 'shards'}",
            "fine_tune.steps=[1]",
            "choose.self_weights=[0.5]",
        )
    )
    assert load_adapted_rig(tmp_path / "rig").test == {}
    assert (tmp_path / "rig" / "heatmaps.png").stat().st_size > 20_000
    printed = " ".join(capsys.readouterr().out.split())
    assert "JDR" not in printed
    assert "1 steps; lambda" in printed
    assert "as set; fitted to 12 labelled person-frames" in printed


def test_the_last_line_says_where_everything_lies(configure, tmp_path, capsys):
    config = configure(tmp_path / "rig", "fine_tune.steps=[1]", "choose.self_weights=[0.5]")
    adapt(config)
    printed = capsys.readouterr().out
    assert "test (12)" in printed
    last = printed.strip().splitlines()[-1]
    assert last.startswith(f"In {tmp_path / 'rig'}: rig.safetensors, rig.json, heatmaps.png;")


def test_a_view_without_labelled_people_is_refused(configure, tiny_shards, tmp_path):
    shards = ShardSet.open(tiny_shards)
    blind = shards.manifest.test_cameras[0]
    _training_rows_alone(shards, tmp_path / "shards", blind)
    with pytest.raises(NotEnoughFramesError, match=f"camera {blind} sees nobody in any of"):
        adapt(configure(tmp_path / "rig", f"data.shards={tmp_path / 'shards'}"))
    assert not (tmp_path / "rig").exists()
