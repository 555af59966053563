"""`meta_batch_size: 1` with SGD is Algorithm 1 of the paper, written out here once more.

What is trained is `configs/algorithm1.yaml`, in float32. The reference is METHOD.md in float64, and
shares only the draw of pairs and images with the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.trainer import MetaTrainer, round_tasks
from metafuse_ray.methods.metafuse.start import FusionWeights, random_start
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.samples.episodes import EpisodeSampler, FusionBatch
from metafuse_ray.shards.shards import ShardSet
from tests.support.plain_fusion import plain_fuse
from tests.support.shards import random_content, write

ROOT = Path(__file__).parents[2]
ROUNDS, GRID, SELF_WEIGHT, SIGMA_PX, SEED = 4, (6, 4), 0.3, 1.0, 1
ALPHA, BETA = 0.02, 0.05


@dataclass(frozen=True)
class Result:
    """Where training went."""

    omega: torch.Tensor
    theta: torch.Tensor


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    content = random_content(2, blocks=(16,), cameras=4, grid=GRID, test=())
    return ShardSet.open(write(tmp_path_factory.mktemp("oracle") / "s", content, grid=GRID))


def settings(shards: ShardSet, *overrides: str) -> RunConfig:
    """The configuration that is published as Algorithm 1, with this case's data and step sizes."""
    return load_config(
        ROOT / "configs" / "algorithm1.yaml",
        [
            f"data.shards={shards.directory}",
            f"seed={SEED}",
            "episode.shots=3",
            f"inner.lr={ALPHA}",
            f"outer.lr={BETA}",
            f"model.self_weight={SELF_WEIGHT}",
            f"model.target_sigma={SIGMA_PX / GRID[1]}",
            *overrides,
        ],
    )


def start() -> FusionWeights:
    return random_start(GRID, SEED)


def train(config: RunConfig) -> Result:
    problem = build_problem(config)
    trainer = MetaTrainer(problem, InProcessPool(problem), config.meta, config.outer)
    trainer.fit(ROUNDS)
    weights = trainer.outer.tensors
    return Result(weights["omega"].double(), weights["theta"].double())


def loss(omega: torch.Tensor, theta: torch.Tensor, images: FusionBatch) -> torch.Tensor:
    """L: squared error of the fused heatmaps, per visible joint."""
    rows, columns = torch.meshgrid(*(torch.arange(size) for size in GRID), indexing="ij")
    own, other = images.target_BJHW.double(), images.sources_VBJhw[0].double()
    collected = plain_fuse(omega, theta, other).reshape(own.shape)
    fused = SELF_WEIGHT * own + (1 - SELF_WEIGHT) * collected
    errors = []
    for image, joint in images.visibility_BJ.nonzero().tolist():
        x, y = images.label_BJ2[image, joint].double()
        squared_px = (columns - x) ** 2 + (rows - y) ** 2
        truth = torch.exp(-squared_px / (2 * SIGMA_PX**2))
        errors.append(((fused[image, joint] - truth) ** 2).sum())
    return torch.stack(errors).mean()


def algorithm_1(config: RunConfig, shards: ShardSet, *, second_order: bool) -> Result:
    """For each task: K images, an inner step on both, K others, an outer step on both."""
    omega, theta = (w.double().requires_grad_() for w in (start().omega, start().theta))
    problem = build_problem(config)
    pairs = shards.rig.subset(shards.manifest.train_cameras).pairs()
    tasks = [(pair.target, pair.source) for pair in pairs]
    sampler = EpisodeSampler(shards, config.episode.shots, config.seed)
    for number in range(ROUNDS):
        (task,) = round_tasks(problem, tasks, number, config.meta.meta_batch_size)
        episode = sampler.sample(number, CameraPair(*task.cameras))
        train_loss = loss(omega, theta, episode.support)
        slopes = torch.autograd.grad(train_loss, (omega, theta), create_graph=second_order)
        inner = omega - ALPHA * slopes[0], theta - ALPHA * slopes[1]
        slopes = torch.autograd.grad(loss(*inner, episode.query), (omega, theta))
        omega = (omega - BETA * slopes[0]).detach().requires_grad_()
        theta = (theta - BETA * slopes[1]).detach().requires_grad_()
    return Result(omega.detach(), theta.detach())


def distance(one: Result, other: Result) -> float:
    """The larger of the distances in omega and theta, as shares of the way from the start."""
    origin = start()
    return max(
        float((a - b).norm() / (b - o.double()).norm())
        for a, b, o in (
            (one.omega, other.omega, origin.omega),
            (one.theta, other.theta, origin.theta),
        )
    )


@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize(
    ("operator", "path"),
    [
        *(("auto", "higher"), ("auto", "closed_form")),
        *(("torch", "higher"), ("torch", "closed_form"), ("reference", "higher")),
    ],
)
def test_one_task_a_round_with_sgd_is_algorithm_1(
    shards: ShardSet, order: str, operator: str, path: str
) -> None:
    config = settings(
        shards, f"inner.order={order}", f"model.operator={operator}", f"inner.path={path}"
    )
    expected = algorithm_1(config, shards, second_order=order == "second")
    assert distance(train(config), expected) < 1e-5


def test_the_case_tells_the_orders_apart(shards: ShardSet) -> None:
    config = settings(shards)
    second = algorithm_1(config, shards, second_order=True)
    first = algorithm_1(config, shards, second_order=False)
    assert distance(first, second) > 0.01
    moved = distance(Result(start().omega.double(), start().theta.double()), second)
    assert moved == 1.0


def test_more_tasks_a_round_is_not_algorithm_1(shards: ShardSet) -> None:
    config = settings(shards)
    expected = algorithm_1(config, shards, second_order=True)
    assert distance(train(settings(shards, "meta.meta_batch_size=2")), expected) > 0.1
