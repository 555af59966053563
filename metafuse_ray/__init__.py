"""Meta-learned cross-view heatmap fusion for multi-camera human pose, on Ray.

>>> import torch, metafuse_ray
>>> theta = torch.eye(2, 3).expand(16, 2, 3)
>>> metafuse_ray.fuse(torch.ones(4, 4), theta, torch.rand(1, 17, 4, 4)).shape
torch.Size([1, 17, 4, 4])
"""

from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.errors import MetaFuseError
from metafuse_ray.models.operator import fuse

__all__ = ["MetaFuseError", "RunConfig", "ShardSet", "fuse", "load_config"]
