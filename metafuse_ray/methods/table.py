"""The methods under comparison: by name, what makes them and what they need.

A method joins by one line in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from metafuse_ray.config.schema import Method, RunConfig
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.interface import RigMethod
from metafuse_ray.methods.metafuse.fused_rig import FusionRigMethod
from metafuse_ray.methods.metafuse.fusion_methods import (
    AffineMethod,
    NaiveFuseMethod,
    NoFusionMethod,
    RidgeMethod,
)
from metafuse_ray.methods.metafuse.start import FusionWeights, start_weights
from metafuse_ray.methods.plus.method import PlusMethod
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.rivals.affine_from_calibration import AffineFromCalibration
from metafuse_ray.methods.rivals.epipolar_maximum import EpipolarMaximum
from metafuse_ray.methods.rivals.triangulation import (
    RobustTriangulation,
    TriangulationOverTime,
    WeightedTriangulation,
)

MetaWeights = FusionWeights | PlusWeights
Weights = Mapping[Method, MetaWeights]
"""Meta-learned weights of the methods that start from them."""


@dataclass(frozen=True)
class MethodEntry:
    """What makes a method, and what it needs of a rig.

    Attributes:
        make: Builds the method from the run and the meta-learned weights.
        labels: ``never`` (N = 0 alone), ``optional`` (N = 0 is defined), ``required``, or
            ``uncalibrated`` (they help to estimate a calibration, and for nothing else).
        calibration: ``never``, ``exact`` (not tried with errors), ``required`` or ``optional``
            (estimated where none is given).
        costly: Takes many steps: see ``evaluate.costly_labelled_frames``.
    """

    make: Callable[[RunConfig, Weights], RigMethod]
    labels: Literal["never", "optional", "required", "uncalibrated"]
    calibration: Literal["never", "exact", "required", "optional"]
    costly: bool = False


def _affine(config: RunConfig, weights: Weights) -> RigMethod:
    def start(grid: tuple[int, int], _view: int) -> FusionWeights:
        return start_weights(config.model, grid, config.seed)

    return FusionRigMethod(AffineMethod(config, start), config)


def _meta_fuse(name: Method) -> Callable[[RunConfig, Weights], RigMethod]:
    def make(config: RunConfig, weights: Weights) -> RigMethod:
        start = weights[name]
        assert isinstance(start, FusionWeights)
        return FusionRigMethod(AffineMethod(config, lambda _grid, _view: start), config)

    return make


def _plus(config: RunConfig, weights: Weights) -> RigMethod:
    learned = weights["MetaFuse+"]
    assert isinstance(learned, PlusWeights)
    return PlusMethod(learned, config.evaluate.look_ahead)


def _plus_by_hand(config: RunConfig, _weights: Weights) -> RigMethod:
    return PlusMethod(PlusWeights.start(), config.evaluate.look_ahead)


METHODS: Mapping[Method, MethodEntry] = MappingProxyType(
    {
        "No-Fusion": MethodEntry(
            lambda config, _: FusionRigMethod(NoFusionMethod(), config), "never", "never"
        ),
        "NaiveFuse": MethodEntry(
            lambda config, _: FusionRigMethod(NaiveFuseMethod(config), config),
            "required",
            "never",
            costly=True,
        ),
        "NaiveFuse ridge": MethodEntry(
            lambda config, _: FusionRigMethod(RidgeMethod(config), config), "required", "never"
        ),
        "Affine": MethodEntry(_affine, "optional", "never", costly=True),
        "MetaFuse": MethodEntry(_meta_fuse("MetaFuse"), "optional", "never", costly=True),
        "MetaFuse random start": MethodEntry(
            _meta_fuse("MetaFuse random start"), "optional", "never", costly=True
        ),
        "Affine from F": MethodEntry(
            lambda config, _: AffineFromCalibration(config), "required", "exact", costly=True
        ),
        "Epipolar maximum": MethodEntry(lambda *_: EpipolarMaximum(), "never", "required"),
        "Epipolar maximum, F from labels": MethodEntry(
            lambda *_: EpipolarMaximum(from_labels=True), "required", "never"
        ),
        "Weighted DLT": MethodEntry(lambda *_: WeightedTriangulation(), "never", "required"),
        "Robust triangulation": MethodEntry(
            lambda config, _: RobustTriangulation(config), "never", "required"
        ),
        "Triangulation over time": MethodEntry(
            lambda config, _: TriangulationOverTime(config), "never", "required"
        ),
        "MetaFuse+": MethodEntry(_plus, "optional", "optional"),
        "MetaFuse+ hand-set": MethodEntry(_plus_by_hand, "optional", "optional"),
    }
)


def method_entry(name: Method) -> MethodEntry:
    """Return a method's entry.

    Raises:
        ConfigError: The method is not there; lists those that are.
    """
    if name not in METHODS:
        raise ConfigError(
            f"evaluate.methods: {name} is not available; choose from {', '.join(METHODS)}",
            key="evaluate.methods",
        )
    return METHODS[name]
