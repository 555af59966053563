"""Settings of earlier releases are refused with the setting that took their place."""

from __future__ import annotations

import re

import pytest

from metafuse_ray.config.section import settings
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.table import METHODS, PROBLEM_SETTINGS
from metafuse_ray.runs.renamed import RENAMED
from metafuse_ray.runs.settings import RunConfig, load_config

SECTIONS = {name.partition(".")[0] for name, _, _ in settings(RunConfig)}
_PATH = re.compile(rf"\b(?:{'|'.join(SECTIONS)})\.[\w.]*[\w+](?:=\w+)?(?: random start)?")
EARLIER = {
    *("meta.tasks", "meta.rigs", "meta.exponents", "outer.lr_scalars"),
    *(f"episode.{name}" for name in ("views", "labels", "label_noise_px", "degrees")),
    *("episode.unlabelled", "episode.queries"),
    *(f"adapt.{name}" for name in ("lr", "lr_omega", "steps", "batch_size", "folds", "caution")),
    *(f"adapt.{name}" for name in ("self_weights", "naive_lr", "naive_epochs", "ridges")),
    "adapt.ridge_self_weights",
    *(f"evaluate.{name}" for name in ("checkpoint", "random_checkpoint", "plus_checkpoint")),
    *(f"evaluate.{name}" for name in ("test_shards", "folds", "robust_threshold_px")),
    *(f"evaluate.{name}" for name in ("label_clips", "label_order", "label_noise_px")),
    *(f"evaluate.{name}" for name in ("unlabelled_frames", "look_ahead", "around_frames")),
    "evaluate.test_frames",
    *(f"tune.{name}" for name in ("held_out_cameras", "labelled_frames", "query_frames")),
    *(f"tune.{name}" for name in ("adapt_steps", "inner_lr", "outer_lr", "shots")),
}
"""Settings of the last release that are not there any more."""


def successors(sentence: str) -> list[tuple[str, str]]:
    """Return the settings that a sentence names, each with its value or nothing."""
    found = _PATH.findall(sentence)
    return [(path, value) for path, _, value in (text.partition("=") for text in found)]


def test_every_setting_that_is_gone_is_in_the_table() -> None:
    assert set(RENAMED) == EARLIER


@pytest.mark.parametrize("old", RENAMED)
@pytest.mark.parametrize("kind", PROBLEM_SETTINGS)
def test_an_earlier_setting_is_refused_with_its_successor(old: str, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"problem.kind={kind}", f"{old}=1"])
    said = f"{old}: there is no such setting any more; {RENAMED[old]} (in the command line)"
    assert caught.value.message == said
    assert caught.value.keys == (old,)


def test_an_earlier_setting_in_a_file_is_refused_too(tmp_path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("meta: {tasks: rigs}\nadapt: {folds: 2}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert set(caught.value.keys) == {"meta.tasks", "adapt.folds"}
    for old in caught.value.keys:
        assert f"{old}: there is no such setting any more; {RENAMED[old]}" in caught.value.message


@pytest.mark.parametrize(("old", "sentence"), RENAMED.items())
def test_every_successor_is_there(old: str, sentence: str) -> None:
    named = successors(sentence)
    kind = next((value for path, value in named if path == "problem.kind" and value), "metafuse")
    known = {name for name, _, _ in settings(load_config(None, [f"problem.kind={kind}"]))}
    learning = {f"weights.{row.name}" for row in METHODS.values() if row.problem is not None}
    assert named, f"the sentence of {old} names no setting"
    for path, _ in named:
        assert path in known | learning, path
    assert old not in known


def test_the_sentences_name_what_the_successors_are() -> None:
    assert successors(RENAMED["meta.rigs"]) == [("problem.rigs", ""), ("problem.kind", "plus")]
    assert successors(RENAMED["evaluate.random_checkpoint"]) == [
        ("weights.MetaFuse random start", "")
    ]
    assert successors(RENAMED["evaluate.plus_checkpoint"]) == [("weights.MetaFuse+", "")]
    assert successors(RENAMED["evaluate.checkpoint"]) == [("weights.MetaFuse", "RUN")]
