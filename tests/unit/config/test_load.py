"""Settings are refused by name before any work starts, and what was read can be read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from metafuse_ray.config.load import dump_config
from metafuse_ray.config.section import settings
from metafuse_ray.errors import ConfigError
from metafuse_ray.runs.settings import RunConfig, load_config

ROOT = Path(__file__).parents[3]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(*overrides: str, path: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert "\n" not in caught.value.message
    return caught.value


def test_defaults_alone_are_a_configuration() -> None:
    assert load_config(None) == RunConfig()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing yet\n")) == RunConfig()


def test_a_file_is_read_and_overrides_win(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 3\nepisode:\n  shots: 5\ndata:\n  grid: [32, 16]\n")
    config = load_config(path, ["episode.shots=7", "evaluate.labelled_frames=[25, 50]"])
    assert (config.seed, config.episode.shots, config.data.grid) == (3, 7, (32, 16))
    assert config.evaluate.labelled_frames == (25, 50)


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("inner.lrr=3", "inner.lr"),
        ("meta.round=3", "meta.rounds"),
        ("evalute.rigs=3", "evaluate"),
        ("data.shard=x", "data.shards"),
        ("Seed=1", "seed"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(override: str, suggestion: str) -> None:
    error = refused(override)
    key = override.partition("=")[0].replace("evalute.rigs", "evalute")
    assert error.message.startswith(f"{key}: there is no such setting; did you mean {suggestion}")
    assert error.keys == (key,)


def test_a_key_like_no_other_points_at_help() -> None:
    assert "--help lists the settings" in refused("xyzzy=1").message


def test_a_misspelt_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "episode: {shotz: 3}")
    assert str(path) in refused(path=path).message


def test_every_bad_key_is_named_at_once() -> None:
    error = refused("inner.lrr=3", "episode.shots=0", "seed=x")
    assert set(error.keys) == {"inner.lrr", "episode.shots", "seed"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=1.5", "integer"),
        ("seed=x", "integer"),
        ("episode.shots=[1]", "integer"),
        ("output.tensorboard=perhaps", "boolean"),
        ("evaluate.labelled_frames=50", "list in brackets"),
        ("data.grid=[32]", "required"),
        ("data.grid=[32, 32, 32]", "at most 2"),
        ("data.grid=", "list in brackets"),
        ("inner.order=third", "'second' or 'first'"),
        ("evaluate.methods=[MetaFuze]", "no method MetaFuze; choose from No-Fusion, NaiveFuse"),
        ("inner=3", "dictionary"),
        ("inner.lr.x=3", "number"),
        ("seed=true", "expected a number"),
        ("outer.lr=true", "expected a number"),
        ("fine_tune.steps=[0, true]", "expected a number"),
        ("output.dir=", "string"),
    ],
)
def test_a_wrong_type_names_the_key_and_what_was_expected(override: str, expected: str) -> None:
    error = refused(override)
    assert error.keys[0].startswith(override.partition("=")[0].removesuffix(".x"))
    assert expected in error.message
    assert error.message.startswith(override.partition("=")[0].removesuffix(".x"))


@pytest.mark.parametrize(
    "override",
    [
        "inner.lr=0",
        "outer.lr=-0.1",
        "episode.shots=0",
        "meta.rounds=-1",
        "model.self_weight=1.1",
        "data.test_camera_share=1",
        "data.grid=[2, 64]",
        "simulate.people=7",
        "meta.rounds=1e400",
        "choose.folds=1",
        "evaluate.views=1",
        "cluster.threads=100000",
        "outer.lr=1e+38",
        "inner.lr_omega=1e+38",
        "meta.rounds=100000000000",
    ],
)
def test_a_value_out_of_range_is_refused(override: str) -> None:
    key, _, value = override.partition("=")
    error = refused(override)
    assert error.keys[0].startswith(key)
    assert value.strip("[]").split(",")[0].replace("1e400", "inf") in error.message


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("output.dir", "/data/exp #2"),
        ("data.shards", "/data/rig #2"),
        ("output.dir", "1e5"),
        ("output.dir", "yes"),
        ("output.dir", "null"),
        ("output.dir", "~x"),
        ("output.dir", "a: b"),
        ("output.dir", "@x"),
        ("output.dir", "[a, b]"),
        ("output.dir", " a"),
        ("output.dir", "'a'"),
        ("output.dir", "a=b"),
        ("data.sequence", "/data/take #2"),
        ("data.sequence", "1e5"),
        ("data.test_shards", "no"),
        ("cluster.address", "10.0.0.1:6379"),
        ("adapt.method", "MetaFuse+"),
        ("root", "@x"),
        ("weights.MetaFuse+", "/data/run #2"),
        ("weights.MetaFuse random start", "1e5"),
    ],
)
def test_text_is_taken_as_it_is_typed(key: str, text: str) -> None:
    node: Any = load_config(None, [f"{key}={text}"])
    for name in key.split("."):
        node = node[name] if isinstance(node, dict) else getattr(node, name)
    assert node == text


def test_an_optional_text_is_emptied_by_null() -> None:
    config = load_config(None, ["data.sequence=/a", "data.sequence=null", "adapt.method=null"])
    assert (config.data.sequence, config.adapt.method) == (None, None)


@pytest.mark.parametrize("key", ["data.cameras", "data.test_cameras", "adapt.cameras"])
def test_names_in_a_list_are_taken_as_they_are_typed(key: str) -> None:
    section, name = key.split(".")
    config = load_config(None, [f"{key}=[1.10, 1.1, yes, 1e5, null, '#2']"])
    assert getattr(getattr(config, section), name) == ("1.10", "1.1", "yes", "1e5", "null", "#2")


def test_names_that_are_equal_as_numbers_stay_two() -> None:
    assert load_config(None, ["data.cameras=[1.10, 1.1]"]).data.cameras == ("1.10", "1.1")


@pytest.mark.parametrize(
    "override",
    [
        "seed=3 #2",
        "inner.lr=0.5  # alpha",
        "meta.rounds=#2",
        "output.tensorboard=true #",
        "evaluate.labelled_frames=[25, 50] # few",
        "data.grid=[32, 32]\t#small",
        "data.cameras=[a, b] #c",
    ],
)
def test_a_comment_beside_a_number_or_a_list_is_refused(override: str) -> None:
    key, _, text = override.partition("=")
    error = refused(override)
    assert error.message.startswith(f"{key}: {text!r} holds a comment (#)")
    assert error.keys == (key,)


def test_a_comment_in_a_file_is_one(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "seed: 3  # of every draw\noutput: {dir: 'a #2'}  # b\n"))
    assert (config.seed, config.output.dir) == (3, "a #2")


@pytest.mark.parametrize("override", ["inner.lr", "=3", "inner.lr=[", "inner.lr={"])
def test_what_is_no_override_is_refused(override: str) -> None:
    message = refused(override).message
    assert override in message or override.replace("=", ": '") in message


@pytest.mark.parametrize(
    "text",
    [
        "data: !!python/object/apply:os.system ['touch TARGET']",
        "data: !!python/object/new:subprocess.Popen [['touch', 'TARGET']]",
        '!!python/object/apply:eval [\'open("TARGET", "w")\']',
        "seed: !!python/name:os.system",
        "seed: !!python/module:os",
    ],
)
def test_python_in_yaml_is_refused_and_not_run(tmp_path: Path, text: str) -> None:
    target = tmp_path / "target"
    path = write(tmp_path, text.replace("TARGET", str(target)))
    error = refused(path=path)
    assert "not plain YAML" in error.message
    assert "python/" in error.message
    override = text.replace("TARGET", str(target)).removeprefix("data: ").removeprefix("seed: ")
    assert "not a YAML value" in refused(f"seed={override}").message
    assert not target.exists()


def test_aliases_that_multiply_fill_neither_memory_nor_screen(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    error = refused(path=write(tmp_path, "\n".join([*lines, "data: {sequence: *a11}"])))
    assert "data.sequence" in error.keys
    assert len(error.message) < 4000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: " + "[" * 5000, "recursion"),
        ("seed: " + "9" * 5000, "digits"),
        ("seed: [1", "line 1"),
        (b"seed: \xff", "utf-8"),
        ("seed: \0", "special characters"),
        ("? [a, b]\n: 1", "unhashable"),
        ("seed: 1\nmeta: {rounds: 2}\nseed: 3", "seed is given twice"),
        ("meta: {rounds: 2, rounds: 3}", "rounds is given twice"),
        ("- 1\n- 2", "expected a mapping"),
        ("seed", "expected a mapping"),
    ],
)
def test_what_is_no_mapping_of_plain_values_is_refused(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    path = write(tmp_path, text)
    error = refused(path=path)
    assert expected in error.message
    assert str(path) in error.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "none.yaml: No such file" in refused(path=tmp_path / "none.yaml").message


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_a_resolved_configuration_is_read_as_it_was(path: Path, tmp_path: Path) -> None:
    config = load_config(
        path, ["seed=7", "inner.lr=1e-7", "data.cameras=[00_01, 00_10]", "outer.clip_norm=0.5"]
    )
    resolved = write(tmp_path, dump_config(config))
    assert load_config(resolved) == config
    # Plain YAML that any reader takes, with every setting in it.
    tree = yaml.safe_load(resolved.read_text())
    assert set(tree) == {name.partition(".")[0] for name, _, _ in settings(RunConfig)}


def test_every_setting_has_a_line_of_help() -> None:
    assert [name for name, text, _ in settings(RunConfig) if not text.strip()] == []
