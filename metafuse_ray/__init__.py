"""Meta-learned cross-view heatmap fusion for multi-camera human pose, on Ray.

>>> import torch, metafuse_ray
>>> theta = torch.eye(2, 3).expand(16, 2, 3)
>>> metafuse_ray.fuse(torch.ones(4, 4), theta, torch.rand(1, 17, 4, 4)).shape
torch.Size([1, 17, 4, 4])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metafuse_ray.errors import MetaFuseError
    from metafuse_ray.export.adapted_rig import load_adapted_rig
    from metafuse_ray.methods.metafuse.operator import fuse
    from metafuse_ray.runs.settings import RunConfig, load_config
    from metafuse_ray.shards.shards import ShardSet

__all__ = ["MetaFuseError", "RunConfig", "ShardSet", "fuse", "load_adapted_rig", "load_config"]

_HOME = {
    "MetaFuseError": "errors",
    "RunConfig": "runs.settings",
    "ShardSet": "shards.shards",
    "fuse": "methods.metafuse.operator",
    "load_adapted_rig": "export.adapted_rig",
    "load_config": "runs.settings",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: reading a configuration needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'metafuse_ray' has no attribute {name!r}")
    return getattr(import_module(f"metafuse_ray.{_HOME[name]}"), name)
