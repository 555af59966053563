"""Settings are refused by name before any work starts, and what was read can be read again."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

from metafuse_ray.config.load import dump_config, load_config, settings
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import ConfigError

ROOT = Path(__file__).parents[3]
JOBS = sorted((ROOT / "jobs").glob("[!_]*.py"))


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
        ("evaluate.methods=[MetaFuze]", "'MetaFuse'"),
        ("inner=3", "dictionary"),
        ("inner.lr.x=3", "number"),
        ("seed=true", "expected a number"),
        ("outer.lr=true", "expected a number"),
        ("adapt.steps=[0, true]", "expected a number"),
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
        "adapt.folds=1",
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
        ("seed: 1\nmeta: {rounds: 2}\nseed: 3", "seed comes twice"),
        ("meta: {rounds: 2, rounds: 3}", "rounds comes twice"),
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
    assert set(tree) == {name.partition(".")[0] for name, _, _ in settings()}


def test_every_setting_has_a_line_of_help() -> None:
    assert [name for name, text, _ in settings() if not text.strip()] == []


READ_BY = {
    "adapt": {"seed", "data", "adapt", "output"},
    "evaluate": {"seed", "data", "adapt", "evaluate", "cluster", "output"},
    "fetch_backbone": {"backbone"},
    "meta_train": {
        *("seed", "data", "model", "inner", "outer", "episode", "meta"),
        *("cluster", "checkpoint", "output"),
    },
    "prepare": {"seed", "data", "backbone", "cluster"},
    "simulate": {"seed", "data", "simulate"},
    "tune": {"seed", "data", "model", "inner", "outer", "episode", "meta", "tune", "cluster"},
}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_help_lists_the_settings_of_the_job(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(job), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(job), run_name="__main__")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--config FILE" in text
    listed = set(re.findall(r"^  ([a-z_.]+) = ", text, re.MULTILINE))
    sections = {name.partition(".")[0] for name in listed}
    assert sections >= READ_BY[job.stem]
    expected = {name: line for name, line, _ in settings() if name.split(".")[0] in sections}
    assert listed == set(expected)
    assert all(" ".join(line.split()) in text for line in expected.values())
