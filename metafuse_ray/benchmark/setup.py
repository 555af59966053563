"""What a benchmark needs to know of one data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metafuse_ray.benchmark.settings import EvaluateConfig, Position
from metafuse_ray.methods.interface import RigMethod
from metafuse_ray.methods.row import MethodRow, bound
from metafuse_ray.samples.settings import SamplesConfig, TriangulateConfig
from metafuse_ray.shards.settings import DataConfig

Weights = Mapping[str, Any]
"""Meta-learned weights by the name of the method that starts from them."""


@dataclass(frozen=True, eq=False)
class Setup:
    """A data set's settings, and its methods.

    Attributes:
        seed: Of every draw.
        data: The shards.
        evaluate: What is compared.
        samples: Which samples are labelled and judged.
        triangulate: How joints become points.
        methods: The rows of the methods, by name.
        sections: The sections of settings that these read, by name.
    """

    seed: int
    data: DataConfig
    evaluate: EvaluateConfig
    samples: SamplesConfig
    triangulate: TriangulateConfig
    methods: Mapping[str, MethodRow]
    sections: Mapping[str, Any]

    @property
    def positions(self) -> tuple[Position, ...]:
        """The ways of finding 3D joints."""
        return self.evaluate.positions

    def method(self, name: str, learned: Any = None) -> RigMethod:
        """Make a method, from its meta-learned weights where it has some."""
        return bound(self.methods[name], self.sections)(learned)
