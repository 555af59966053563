"""Values on the command line mean what they look like."""

from __future__ import annotations

from typing import Any

import pytest

from metafuse_ray.config.load import dump_config
from metafuse_ray.errors import ConfigError
from metafuse_ray.runs.settings import load_config


def test_camera_names_are_names() -> None:
    config = load_config(None, ["data.cameras=[00_00, 00_20, 01_08, 07]"])
    assert config.data.cameras == ("00_00", "00_20", "01_08", "07")


def test_names_that_look_like_numbers_survive_a_round_trip(tmp_path) -> None:
    config = load_config(None, ["data.cameras=[00_20, 07]", "data.shards=2026-11-24"])
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E3", 1e3), ("2.5e-4", 2.5e-4), (".5", 0.5), ("1.", 1.0), ("3", 3.0)],
)
def test_numbers_are_numbers(text: str, value: Any) -> None:
    assert load_config(None, [f"inner.lr={text}"]).inner.lr == value


@pytest.mark.parametrize("text", ["0x10", "1:30", ".inf", ".nan", "ten"])
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"inner\.lr"):
        load_config(None, [f"inner.lr={text}"])
