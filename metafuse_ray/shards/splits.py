"""Which cameras are trained on, which judge a training, and which are kept for testing."""

from __future__ import annotations

from collections.abc import Sequence

from metafuse_ray.errors import CalibrationError, ConfigError
from metafuse_ray.seeds import generator
from metafuse_ray.shards.settings import DataConfig

_HELD_OUT = 4


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


def hold_out(
    cameras: Sequence[str], wanted: int | None, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw the training cameras that no training sees, on which it is judged.

    Args:
        cameras: All training cameras.
        wanted: How many to hold out; where empty 4, or a quarter of them if that is less, and none
            if it is one, which makes no pair.
        seed: Seed of the draw.

    Returns:
        Cameras to train on and those held out, each in the given order.

    Raises:
        ConfigError: Fewer than two would be left to train on, or one alone is held out.

    >>> [len(names) for names in hold_out([f"{k:02d}" for k in range(16)], None, seed=0)]
    [12, 4]
    """
    count = wanted
    if count is None:
        count = min(_HELD_OUT, len(cameras) // 4)
        count = count if count > 1 else 0
    if count == 1 or (count > 0 and len(cameras) - count < 2):
        raise ConfigError(
            f"held_out.cameras={count} of {len(cameras)} training cameras leaves"
            f" {max(len(cameras) - count, 0)} to train on, and pairs need two on either side;"
            " change it, set it to 0, or keep fewer cameras for testing (data.test_camera_share"
            " when making the shards)",
            key="held_out.cameras",
        )
    random = generator(seed, "held-out cameras", count)
    held = {cameras[k] for k in random.permutation(len(cameras))[:count]}
    return tuple(name for name in cameras if name not in held), tuple(
        name for name in cameras if name in held
    )
