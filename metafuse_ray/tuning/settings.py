"""The search for a problem's step sizes: the section ``tune``."""

from __future__ import annotations

from typing import Literal

from metafuse_ray.config.kinds import (
    FloatRange,
    NaturalFloat,
    PositiveInt,
    SeveralInt,
)
from metafuse_ray.config.section import section


@section
class TuneConfig:
    """The search: for alpha, beta and K of MetaFuse, or the step sizes of MetaFuse+."""

    trials: PositiveInt = 24
    """Settings to try, those of the configuration first."""
    searcher: Literal["optuna", "random", "hyperopt"] = "optuna"
    """What proposes settings: Optuna's TPE, chance, or HyperOpt (to be installed separately)."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """What stops poor trials early: ASHA, the median of the others, or nothing."""
    metric: Literal["jdr", "loss"] = "jdr"
    """The score that decides, on held-out cameras after adaptation: the joint detection rate, or
    the loss."""
    ranges: dict[str, FloatRange] | None = None
    """Ranges by setting ({inner.lr: [0.3, 30]}); the other settings that the problem searches are
    searched around the configuration's own values."""
    first_rung: PositiveInt = 15
    """Rounds after which a trial is first judged; at the later rungs it is judged again."""
    reduction: SeveralInt = 2
    """Factor between rungs; at each rung, ASHA lets one trial in so many go on."""
    final_draws: PositiveInt = 8
    """New draws of frames a task, on which the best settings are compared with the defaults."""
    driver_cpus: NaturalFloat = 0.1
    """CPUs that a trial reserves for its driver, which mostly waits, beside those of its actors."""
    concurrent: PositiveInt | None = None
    """Trials at a time; as many as the cluster holds where empty."""
