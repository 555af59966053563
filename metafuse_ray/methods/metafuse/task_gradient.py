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

    ``inner.path`` decides how: "higher" records the inner steps, "closed_form" writes their
    gradient down, which is possible for plain steps of the affine model. They agree up to rounding.

    Raises:
        ConfigError: The closed form is asked for but there is none.
    """
    if inner.path == "higher":
        return outer_gradient(model, support, query, inner, step_sizes, conditioners, step_maps)
    if inner.optimizer != "sgd":
        raise _no_closed_form(f"plain steps (inner.optimizer=sgd), got {inner.optimizer}")
    if not isinstance(model, AffineFusion) or model.operator == "reference":
        raise _no_closed_form(
            "the affine model and an operator other than the reference, got " + type(model).__name__
        )
    return closed_form_gradient(model, support, query, inner, step_sizes, conditioners)


def _no_closed_form(needed: str) -> ConfigError:
    return ConfigError(
        f"inner.path=closed_form needs {needed}; set inner.path=higher", key="inner.path"
    )
