"""Theta from a calibration puts the weights on the epipolar lines."""

import torch

from metafuse_ray.methods.metafuse.adapt_rig import Choosing
from metafuse_ray.methods.metafuse.settings import ChooseConfig, FineTuneConfig, ModelConfig
from metafuse_ray.methods.rivals.affine_from_calibration import AffineFromCalibration
from metafuse_ray.samples.settings import TriangulateConfig
from tests.support.scenes import exact_scene, task_of


def test_theta_from_the_calibration_puts_the_weights_where_the_joint_is():
    # A scene that keeps its place: one crop-to-crop map serves all samples.
    batch = exact_scene(5, samples=6)
    choosing = Choosing(ChooseConfig(self_weights=(0.3,)), TriangulateConfig())
    method = AffineFromCalibration(0, ModelConfig(), FineTuneConfig(steps=(0,)), choosing)
    adapted = method.adapt(task_of(batch, batch.rig))
    sources = batch.target(0)
    with torch.no_grad():
        carried = adapted.adapted.models[0].transport(sources.sources_VBJhw)
    at = batch.label_VBJ2[0].round().long().clamp(0, 31)
    there = torch.stack(
        [carried[:, b, j, y, x] for b in range(6) for j, (x, y) in enumerate(at[b].tolist())]
    )
    # What arrives at the joint is far above what arrives on average, from every source.
    assert (there.mean(0) > 4 * carried.mean((1, 2, 3, 4))).all()
