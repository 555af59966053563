"""The table of methods, a row each. To add a method, write a file for it and a row here.

To add a problem, which is a kind of meta-training, write a file for it and a `ProblemRow` in the
row of the method that starts from its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.methods.interface import RigMethod
from metafuse_ray.methods.metafuse.adapt_rig import Choosing
from metafuse_ray.methods.metafuse.fused_rig import FusionRigMethod
from metafuse_ray.methods.metafuse.fusion_methods import AffineMethod, NoFusionMethod
from metafuse_ray.methods.metafuse.problem import MetaFuseProblem, metafuse_weights
from metafuse_ray.methods.metafuse.settings import (
    ChooseConfig,
    FineTuneConfig,
    MetaFuseSettings,
    ModelConfig,
)
from metafuse_ray.methods.metafuse.start import FusionWeights, start_weights
from metafuse_ray.methods.plus.method import PlusMethod
from metafuse_ray.methods.plus.problem import PlusProblem, plus_weights
from metafuse_ray.methods.plus.settings import PlusSettings
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.rivals.affine_from_calibration import AffineFromCalibration
from metafuse_ray.methods.rivals.epipolar_maximum import EpipolarMaximum
from metafuse_ray.methods.rivals.naive_fuse import NaiveFuseMethod
from metafuse_ray.methods.rivals.ridge import RidgeMethod
from metafuse_ray.methods.rivals.settings import NaiveFuseConfig, RidgeConfig
from metafuse_ray.methods.rivals.triangulation import (
    RobustTriangulation,
    TriangulationOverTime,
    WeightedTriangulation,
)
from metafuse_ray.methods.row import MethodRow, ProblemRow, Searched
from metafuse_ray.samples.settings import SamplesConfig, TriangulateConfig


def _metafuse(*, held_out: HeldOutConfig, **sections: Any) -> MetaFuseProblem:
    return MetaFuseProblem(judging=held_out, **sections)


def _plus_problem(*, held_out: HeldOutConfig, **sections: Any) -> PlusProblem:
    return PlusProblem(judging=held_out, **sections)


_SHARDS = (
    *("seed", "data.shards", "data.cache_dir", "data.fold", "data.folds", "data.time_margin"),
    *("held_out.cameras", "held_out.labelled_frames", "held_out.query_frames"),
)
METAFUSE = ProblemRow(
    kind="metafuse",
    settings=MetaFuseSettings,
    reads=(*_SHARDS, "problem", "model", "inner", "outer.lr", "outer.lr_omega", "episode"),
    make=_metafuse,
    weights=metafuse_weights,
    searched=(
        Searched("inner.lr", "alpha"),
        Searched("outer.lr", "beta"),
        Searched("episode.shots", "K", integer=True),
    ),
)
PLUS = ProblemRow(
    kind="plus",
    settings=PlusSettings,
    reads=(*_SHARDS, "problem"),
    make=_plus_problem,
    weights=plus_weights,
    searched=(Searched("problem.lr", "lr"), Searched("problem.lr_offsets", "lr_offsets")),
)


def _no_fusion(_learned: None, *, seed: int) -> RigMethod:
    return FusionRigMethod(NoFusionMethod(), seed)


def _naive_fuse(
    _learned: None, *, seed: int, naive_fuse: NaiveFuseConfig, model: ModelConfig
) -> RigMethod:
    return FusionRigMethod(NaiveFuseMethod(naive_fuse, model.target_sigma), seed)


def _ridge(
    _learned: None,
    *,
    seed: int,
    ridge: RidgeConfig,
    model: ModelConfig,
    choose: ChooseConfig,
    triangulate: TriangulateConfig,
) -> RigMethod:
    method = RidgeMethod(ridge, choose, model.target_sigma)
    return FusionRigMethod(method, seed, Choosing(choose, triangulate))


def _affine(
    learned: FusionWeights | None,
    *,
    seed: int,
    model: ModelConfig,
    fine_tune: FineTuneConfig,
    choose: ChooseConfig,
    triangulate: TriangulateConfig,
) -> RigMethod:
    def start(grid: tuple[int, int], _view: int) -> FusionWeights:
        return start_weights(model, grid, seed) if learned is None else learned

    method = AffineMethod(model, fine_tune, choose.self_weights, start)
    return FusionRigMethod(method, seed, Choosing(choose, triangulate), model.self_weight)


def _affine_from_f(
    _learned: None,
    *,
    seed: int,
    model: ModelConfig,
    fine_tune: FineTuneConfig,
    choose: ChooseConfig,
    triangulate: TriangulateConfig,
) -> RigMethod:
    return AffineFromCalibration(seed, model, fine_tune, Choosing(choose, triangulate))


def _robust(_learned: None, *, triangulate: TriangulateConfig) -> RigMethod:
    return RobustTriangulation(triangulate.inlier_px)


def _over_time(
    _learned: None, *, triangulate: TriangulateConfig, samples: SamplesConfig
) -> RigMethod:
    return TriangulationOverTime(triangulate.inlier_px, samples.look_ahead)


def _plus(learned: PlusWeights | None, *, samples: SamplesConfig) -> RigMethod:
    return PlusMethod(learned or PlusWeights.start(), samples.look_ahead)


_CHOICE = ("choose", "triangulate.inlier_px")
_FITTED = ("seed", "model.self_weight", "model.theta_smoothing", "model.target_sigma",
           "model.operator", "fine_tune.lr_omega", "fine_tune.steps", "fine_tune.batch_size",
           *_CHOICE)  # fmt: skip
_START = ("model.start", "model.blob_sigma_x", "model.blob_sigma_y", "model.blob_gain")

# Okabe and Ito's colours, which colour-blind readers tell apart; shapes differ as well.
_ROWS = (
    MethodRow("No-Fusion", _no_fusion, "#5a5a5a", "", "never", "never", ("seed",)),
    MethodRow(
        *("NaiveFuse", _naive_fuse, "#d55e00", "v", "required", "never"),
        reads=("seed", "naive_fuse", "model.target_sigma"),
        costly=True,
        drawn=True,
    ),
    MethodRow(
        *("NaiveFuse ridge", _ridge, "#e69f00", "s", "required", "never"),
        reads=("seed", "ridge", "model.target_sigma", *_CHOICE),
        drawn=True,
    ),
    MethodRow(
        *("Affine", _affine, "#56b4e9", "D", "optional", "never"),
        reads=(*_FITTED, *_START, "fine_tune.lr"),
        costly=True,
        drawn=True,
    ),
    MethodRow(
        *("MetaFuse random start", _affine, "#999933", "x", "optional", "never"),
        reads=(*_FITTED, "fine_tune.lr"),
        costly=True,
        drawn=True,
        problem=METAFUSE,
    ),
    MethodRow(
        *("MetaFuse", _affine, "#0072b2", "o", "optional", "never"),
        reads=(*_FITTED, "fine_tune.lr"),
        costly=True,
        drawn=True,
        ours=True,
        problem=METAFUSE,
    ),
    MethodRow(
        *("Affine from F", _affine_from_f, "#117733", "^", "required", "exact"),
        reads=_FITTED,
        costly=True,
    ),
    MethodRow(
        *("Epipolar maximum", lambda _learned: EpipolarMaximum(), "#aa4499", ">"),
        *("never", "required"),
    ),
    MethodRow(
        "Epipolar maximum, F from labels",
        lambda _learned: EpipolarMaximum(from_labels=True),
        *("#882255", "<", "required", "never"),
    ),
    MethodRow(
        *("Weighted DLT", lambda _learned: WeightedTriangulation(), "#88ccee", "d"),
        *("never", "required"),
    ),
    MethodRow(
        *("Robust triangulation", _robust, "#009e73", "h", "never", "required"),
        reads=("triangulate.inlier_px",),
    ),
    MethodRow(
        *("Triangulation over time", _over_time, "#44aa99", "p", "never", "required"),
        reads=("triangulate.inlier_px", "samples.look_ahead"),
    ),
    MethodRow(
        *("MetaFuse+ hand-set", _plus, "#cc79a7", "P", "optional", "optional"),
        reads=("samples.look_ahead",),
        drawn=True,
    ),
    MethodRow(
        *("MetaFuse+", _plus, "#000000", "*", "optional", "optional"),
        reads=("samples.look_ahead",),
        drawn=True,
        ours=True,
        problem=PLUS,
    ),
)
METHODS: dict[str, MethodRow] = {row.name: row for row in _ROWS}
"""Name -> row. The order counts: of the methods that can be drawn, the last one is."""


class _Problems(Mapping[str, Any]):
    """Something of every problem by its kind; follows `METHODS`."""

    def __init__(self, of: Callable[[ProblemRow], Any]) -> None:
        self._of = of

    def __getitem__(self, kind: str) -> Any:
        for row in METHODS.values():
            if row.problem is not None and row.problem.kind == kind:
                return self._of(row.problem)
        raise KeyError(kind)

    def __iter__(self) -> Iterator[str]:
        kinds = (row.problem.kind for row in METHODS.values() if row.problem is not None)
        return iter(dict.fromkeys(kinds))

    def __len__(self) -> int:
        return len(list(iter(self)))


PROBLEMS: Mapping[str, ProblemRow] = _Problems(lambda row: row)
"""Kind -> row of a problem."""
PROBLEM_SETTINGS: Mapping[str, type] = _Problems(lambda row: row.settings)
"""Kind -> the section ``problem`` of that kind."""
