"""Which cameras are trained on, and which are kept for testing."""

from __future__ import annotations

from collections.abc import Sequence

from metafuse_ray.config.schema import DataConfig
from metafuse_ray.errors import CalibrationError, ConfigError
from metafuse_ray.seeds import generator


def split_cameras(
    data: DataConfig, names: Sequence[str], seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a rig's cameras into those to train on and those kept for testing.

    Args:
        data: `test_cameras` names the test cameras; without it `test_camera_share` of them are
            drawn.
        names: All cameras of the rig.
        seed: Seed of the draw.

    Returns:
        Training and test cameras, each in the rig's order.

    Raises:
        CalibrationError: A named test camera is not in the rig.
        ConfigError: No camera, or only one, would be left to train on, or none to test on.

    >>> train, test = split_cameras(DataConfig(), [f"{k:02d}" for k in range(31)], seed=0)
    >>> len(train), len(test)
    (20, 11)
    """
    if data.test_cameras is not None:
        test = set(data.test_cameras)
        unknown = sorted(test - set(names))
        if unknown:
            raise CalibrationError(
                f"data.test_cameras: the rig has no camera {', '.join(unknown)}; it has"
                f" {', '.join(names)}",
                cameras=unknown,
                known=tuple(names),
            )
        key, remedy = "data.test_cameras", "name fewer test cameras, or at least one"
    else:
        count = round(data.test_camera_share * len(names))
        order = generator(seed, "test cameras").permutation(len(names))
        test = {names[k] for k in order[:count]}
        key, remedy = "data.test_camera_share", "change it, or use more cameras"
    train = tuple(name for name in names if name not in test)
    if len(train) < 2 or not test:
        raise ConfigError(
            f"{key}: of {len(names)} cameras {len(train)} are left to train on and {len(test)} to"
            f" test on, expected at least 2 and 1; {remedy}",
            key=key,
        )
    return train, tuple(name for name in names if name in test)
