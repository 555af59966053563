"""Any division of a round's tasks among groups gives the same bits."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from metafuse_ray.meta.reduce import join, sum_gradients
from metafuse_ray.meta.tasks import Task
from tests.support.meta import PAIRS, random_gradient


@given(
    groups=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    bad=st.sets(st.integers(0, 39), max_size=5),
    clip=st.sampled_from([None, 2.0]),
    random=st.randoms(use_true_random=False),
)
def test_groups_do_not_show_in_the_bits(groups, bad, clip, random) -> None:
    count = len(groups)
    gradients = [
        random_gradient(
            index, 10.0 ** (index % 7), Task(0, index, PAIRS[0]), math.nan if index in bad else 1.0
        )
        for index in range(count)
    ]
    flat = sum_gradients(gradients, count, clip)
    shares: dict[int, list] = {}
    for gradient, group in zip(gradients, groups, strict=True):
        shares.setdefault(group, []).append(gradient)
    for share in shares.values():
        random.shuffle(share)
    total = join([sum_gradients(share, count, clip) for share in shares.values()], count)
    assert total.reports == flat.reports
    (root,), (expected,) = total.parts, flat.parts
    if expected.arrays is None:
        assert root.arrays is None
    else:
        assert root.arrays is not None
        for name, array in expected.arrays.items():
            assert root.arrays[name].tobytes() == array.tobytes()
