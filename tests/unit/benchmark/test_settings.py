"""What is compared is refused by name where there is no such method."""

from __future__ import annotations

import pytest

from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.table import METHODS
from metafuse_ray.runs.settings import load_config


def test_unknown_methods_are_refused_with_those_that_are_there() -> None:
    known = ", ".join(METHODS)
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["evaluate.methods=[No-Fusion, Best, MetaFuze]"])
    assert f"there is no method Best, MetaFuze; choose from {known}" in caught.value.message


def test_every_method_of_the_table_may_be_compared() -> None:
    quoted = ", ".join(map(repr, METHODS))
    config = load_config(None, [f"evaluate.methods=[{quoted}]"])
    assert config.evaluate.methods == tuple(METHODS)
