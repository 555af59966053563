"""The network that turns person crops into heatmaps: the section ``backbone``."""

from __future__ import annotations

from metafuse_ray.config.kinds import LocalPath, PositiveInt
from metafuse_ray.config.section import section


@section
class BackboneConfig:
    """The network that turns person crops into heatmaps."""

    name: str = "blazepose"
    """Which backbone (`metafuse_ray/backbones/table.py` lists them)."""
    file: LocalPath | None = None
    """The backbone's weights; fetched once into the cache where empty."""
    cache_dir: LocalPath | None = None
    """Where fetched backbones are kept; the user's cache folder where empty."""
    batch_size: PositiveInt = 32
    """Crops handed to a backbone worker at a time."""

    def idle(self) -> dict[str, str]:
        """Say which fields have no effect; see `metafuse_ray.config.section.section`."""
        return {} if self.file is None else {"cache_dir": "backbone.file empty"}
