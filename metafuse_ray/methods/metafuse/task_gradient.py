"""The outer gradient of one task, by the path that the settings ask for."""

from __future__ import annotations

from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.metafuse.fusion import AffineFusion, ViewFusion
from metafuse_ray.methods.metafuse.inner import LinearMap, OuterGradient, outer_gradient
from metafuse_ray.methods.metafuse.inner_closed_form import closed_form_gradient
from metafuse_ray.methods.metafuse.set_loss import SetLoss
from metafuse_ray.methods.metafuse.settings import InnerConfig


def task_gradient(
    model: ViewFusion,
    support: SetLoss,
    query: SetLoss,
    inner: InnerConfig,
    step_sizes: dict[str, float] | None = None,
    conditioners: dict[str, LinearMap] | None = None,
    step_maps: dict[str, LinearMap] | None = None,
) -> OuterGradient:
    """Adapt on the support set and differentiate the query loss through the adaptation.

    ``inner.path`` decides how: "higher" records the inner steps; "closed_form" computes their
    gradient without recording, for plain steps of the affine model. They agree up to rounding.

    Raises:
        ConfigError: The closed form is asked for but there is none; see `check_path` too.
    """
    if inner.path == "higher":
        return outer_gradient(model, support, query, inner, step_sizes, conditioners, step_maps)
    if not isinstance(model, AffineFusion):
        raise ConfigError(
            f"inner.path=closed_form needs the affine model, got {type(model).__name__}; set"
            " inner.path=higher",
            key="inner.path",
        )
    check_path(inner, model.operator)
    return closed_form_gradient(model, support, query, inner, step_sizes, conditioners)


def check_path(inner: InnerConfig, operator: str) -> None:
    """Check that the inner loop has the path that is asked for.

    Raises:
        ConfigError: The closed form is asked for but there is none.
    """
    wrong = {
        f"inner.optimizer=sgd (now {inner.optimizer})": inner.optimizer != "sgd",
        "another model.operator than reference": operator == "reference",
    }
    needed = [remedy for remedy, applies in wrong.items() if applies]
    if inner.path == "closed_form" and needed:
        raise ConfigError(
            f"inner.path=closed_form needs {' and '.join(needed)}; or set inner.path=higher",
            key="inner.path",
        )
