"""The outer gradient of one task, by the path that the settings ask for."""

from __future__ import annotations

from metafuse_ray.config.schema import InnerConfig
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.metafuse.fusion import AffineFusion, ViewFusion
from metafuse_ray.methods.metafuse.inner import Conditioner, OuterGradient, outer_gradient
from metafuse_ray.methods.metafuse.inner_closed_form import closed_form_gradient
from metafuse_ray.methods.metafuse.set_loss import SetLoss


def task_gradient(
    model: ViewFusion,
    support: SetLoss,
    query: SetLoss,
    inner: InnerConfig,
    step_sizes: dict[str, float] | None = None,
    conditioners: dict[str, Conditioner] | None = None,
) -> OuterGradient:
    """Adapt on the support set and differentiate the query loss through the adaptation.

    ``inner.path`` decides how: "higher" records the inner steps, "closed_form" writes their
    gradient down, "auto" takes the closed form where the model has one. They agree up to rounding.

    Raises:
        ConfigError: The closed form is asked for but the model has none.
    """
    if inner.path != "higher":
        if isinstance(model, AffineFusion) and model.operator != "reference":
            return closed_form_gradient(model, support, query, inner, step_sizes, conditioners)
        if inner.path == "closed_form":
            raise ConfigError(
                "inner.path=closed_form needs the affine model and an operator other than the "
                f"reference, got {type(model).__name__}; set inner.path=higher",
                key="inner.path",
            )
    return outer_gradient(model, support, query, inner, step_sizes, conditioners)
