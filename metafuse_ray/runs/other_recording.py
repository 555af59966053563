"""Where the test frames of a run come from."""

from __future__ import annotations

from metafuse_ray.errors import ConfigError
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.shards import ShardSet

_KEY = "data.test_shards"


def open_test_shards(data: DataConfig, shards: ShardSet) -> ShardSet:
    """Open ``data.test_shards``, or return the shards themselves where it is empty.

    Raises:
        ConfigError: They are the same shards, whose training frames would become test frames, or
            their heatmaps do not fit.
    """
    other = data.test_shards
    if other is None:
        return shards
    test_shards = ShardSet.open(other, data.cache_dir)
    if test_shards.directory.resolve() == shards.directory.resolve():
        raise ConfigError(
            f"{_KEY}: {other} is data.shards itself, and its labelled frames would become test"
            " frames; leave it empty to test on the held-out frames of data.shards",
            key=_KEY,
        )
    for what, here, there in (
        ("heatmaps of", shards.grid, test_shards.grid),
        ("crops of", shards.manifest.crop_px, test_shards.manifest.crop_px),
        ("skeleton", shards.skeleton.name, test_shards.skeleton.name),
    ):
        if here != there:
            raise ConfigError(
                f"{_KEY}: {what} {there}, but data.shards holds {here}; make them again with the"
                " same settings of data",
                key=_KEY,
            )
    return test_shards
