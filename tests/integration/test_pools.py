"""Where a round's tasks run changes no bit of either problem's weights, and no figure that a
training shows. Real Ray, one session for all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import ShardFormatError
from metafuse_ray.meta.tasks import Weights
from metafuse_ray.meta.trainer import RoundRecord, round_tasks
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.settings import RunConfig
from tests.support.meta_training import (
    JUDGED,
    assert_learned,
    assert_same,
    both_problems,
    dome_to_judge_on,
    figures,
    settings,
    start_of,
    train_by_actors,
    train_here,
)
from tests.support.shards import random_content, write

ROUNDS = 4


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ensure_ray(ClusterConfig(actors=3)):
        yield


@pytest.fixture(scope="module")
def judged_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dome_to_judge_on(tmp_path_factory.mktemp("judged") / "shards")


def losses(records: list[RoundRecord]) -> list[tuple[float, float, float]]:
    return [(r.support_loss, r.query_loss, r.gradient_norm) for r in records]


def trained_in_process(config: RunConfig) -> tuple[Weights, list[RoundRecord]]:
    weights, records = train_here(config, ROUNDS)
    assert_learned(weights, config)
    return weights, records


@both_problems
def test_one_two_and_three_actors_and_none_give_the_same_bits(tiny_shards: Path, kind: str) -> None:
    compiled = "model.operator=auto"
    expected, expected_records = trained_in_process(settings(tiny_shards, kind, compiled))
    for actors in (1, 2, 3):
        config = settings(tiny_shards, kind, compiled, f"cluster.actors={actors}")
        found, records = train_by_actors(config, ROUNDS)
        assert_same(found, expected)
        assert losses(records) == losses(expected_records)


@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        ("metafuse", ("inner.path=higher", "inner.order=first", "inner.steps=2")),
        ("metafuse", ("inner.path=closed_form",)),
        ("plus", ("problem.exponents=true",)),
    ],
)
def test_so_they_do_by_another_inner_loop_with_sgd_and_clipping(
    tiny_shards: Path, kind: str, inner: tuple[str, ...]
) -> None:
    outer = ("outer.optimizer=sgd", "outer.clip_norm=0.1")
    config = settings(tiny_shards, kind, "cluster.actors=2", *inner, *outer)
    expected, expected_records = trained_in_process(config)
    found, records = train_by_actors(config, ROUNDS)
    assert_same(found, expected)
    assert losses(records) == losses(expected_records)


WHERE = {
    "in_process": ("cluster.backend=in_process",),
    **{f"{actors} actors": (f"cluster.actors={actors}",) for actors in (1, 2, 3)},
    "groups": ("cluster.actors=2", "cluster.groups=2"),
}


@both_problems
def test_a_training_leaves_the_same_weights_and_judged_figures_anywhere(
    judged_shards: Path, tmp_path: Path, kind: str
) -> None:
    found: dict[str, tuple[bytes, list[dict[str, Any]]]] = {}
    for name, where in WHERE.items():
        run = ("meta.rounds=3", "held_out.every=2", f"output.dir={tmp_path / name}")
        small = ("meta.meta_batch_size=3", "output.tensorboard=false")
        config = settings(judged_shards, kind, *JUDGED, *run, *small, *where)
        folder = Path(meta_train(config))
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        weights = (folder / "final" / "model.safetensors").read_bytes()
        found[name] = weights, [figures(json.loads(line)) for line in lines]
    weights, records = found.pop("in_process")
    judged = [record["round"] for record in records if record["held_out_loss"] is not None]
    assert judged == [1, 2, 3]  # the first, every second, the last
    assert all(0 < record["held_out_jdr"] <= 100 for record in records)
    assert len({record["held_out_loss"] for record in records}) == 3  # they follow the weights
    for name, other in found.items():
        assert other == (weights, records), name


@both_problems
def test_gradients_return_in_the_order_of_the_tasks(tiny_shards: Path, kind: str) -> None:
    config = settings(tiny_shards, kind, "cluster.actors=2")
    problem = build_problem(config)
    tasks = round_tasks(problem, problem.tasks(), 0, config.meta.meta_batch_size)
    with closing(RayTaskPool(problem, config.cluster)) as pool:
        for order in (tasks, tasks[::-1]):
            results = pool.run_round(start_of(config), order)
            assert [result.task for result in results] == order


@both_problems
def test_a_damaged_shard_is_named_from_an_actor(tmp_path: Path, kind: str) -> None:
    shards = write(tmp_path / "s", random_content(0, blocks=(12, 12), test=()))
    path = shards / "cameras" / "00_01.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    config = settings(shards, kind, "cluster.actors=1")
    with pytest.raises(ShardFormatError, match="truncated or altered") as caught:
        RayTaskPool(build_problem(config), config.cluster)
    assert caught.value.path == str(path)
