"""The simulate run writes a whole shard set, or nothing."""

import json

import numpy as np
import pytest

from metafuse_ray.dome.simulate import simulate as plan_dome
from metafuse_ray.errors import ConfigError, NotEnoughFramesError, StorageError
from metafuse_ray.runs.settings import load_config
from metafuse_ray.runs.simulate import simulate
from metafuse_ray.shards.shards import ShardSet

SETTINGS = (
    "simulate.cameras=4",
    "simulate.clips=3",
    "simulate.frames_per_clip=5",
    "data.grid=[16, 16]",
    "data.test_cameras=['00_03']",
)


def config(folder, *more: str):
    return load_config(None, [*SETTINGS, f"data.shards={folder}", *more])


def test_the_shards_hold_what_was_filmed(tmp_path):
    settings = config(tmp_path / "shards", "seed=4")
    assert simulate(settings) == str(tmp_path / "shards")
    shards = ShardSet.open(tmp_path / "shards")
    assert shards.manifest.train_cameras == ("00_00", "00_01", "00_02")
    assert shards.manifest.test_cameras == ("00_03",)
    assert shards.manifest.source["kind"] == "simulated dome"
    samples = shards.samples
    assert samples.clip.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert samples.split.tolist() == [0] * 20 + [1] * 10
    plan = plan_dome(settings.simulate, settings.data, 4)
    filmed = plan.film(plan.clips[1])[1]["00_02"]
    stored = shards.camera("00_02").gather(np.arange(10, 20))
    assert np.abs(stored.heatmaps - filmed.heatmaps).max() < 1e-3
    assert np.array_equal(stored.visibility, filmed.visibility)
    assert np.array_equal(stored.crop_from_image, filmed.crop_from_image)


def test_an_older_set_is_replaced_and_other_folders_are_left_alone(tmp_path):
    simulate(config(tmp_path / "shards"))
    simulate(config(tmp_path / "shards", "simulate.clips=2"))
    assert len(ShardSet.open(tmp_path / "shards").samples) == 20
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("words")
    with pytest.raises(StorageError, match="not a shard set"):
        simulate(config(precious))
    assert [path.name for path in precious.iterdir()] == ["chapter.txt"]


def test_bad_settings_leave_nothing_behind(tmp_path):
    with pytest.raises(ConfigError, match="at least 1 item"):
        simulate(config(tmp_path / "shards", "data.test_cameras=[]"))
    assert list(tmp_path.iterdir()) == []


def record(folder, bodies_of):
    """Write 30 frames of poses: whatever ``bodies_of`` returns for each frame's number."""
    folder.mkdir()
    for frame in range(30):
        content = {"version": 0.7, "bodies": bodies_of(frame)}
        (folder / f"body3DScene_{frame:08d}.json").write_text(json.dumps(content))
    return f"simulate.motion={folder}"


def somebody(known: int = 19):
    """Return one body as Panoptic writes it; the joints after the first ones are unknown."""
    joints = np.random.default_rng(0).normal((0, -100, 0), 30, (19, 3))
    scores = np.where(np.arange(19) < known, 0.9, -1.0)
    return [{"id": 0, "joints19": np.column_stack([joints, scores]).ravel().tolist()}]


@pytest.mark.parametrize("meanwhile", [[], somebody(known=0)], ids=["nobody", "unknown"])
def test_a_stretch_without_people_is_left_out(tmp_path, meanwhile):
    motion = record(tmp_path / "poses", lambda f: meanwhile if 10 <= f < 20 else somebody())
    more = (motion, "simulate.frame_step=1", "simulate.frames_per_clip=10")
    settings = config(tmp_path / "shards", *more)
    simulate(settings)
    samples = ShardSet.open(tmp_path / "shards").samples
    assert samples.frame.tolist() == [*range(10), *range(20, 30)]
    plan = plan_dome(settings.simulate, settings.data, 0)
    empty, shots = plan.film(plan.clips[1])
    assert len(empty) == len(shots["00_00"]) == 0
    assert shots["00_00"].heatmaps.shape == (0, 17, 16, 16)


@pytest.mark.parametrize(
    ("since", "which"), [(0, "the training and test clips"), (20, "the test clips")]
)
def test_a_split_without_people_is_refused(tmp_path, since, which):
    motion = record(tmp_path / "poses", lambda f: somebody() if f < since else [])
    more = (motion, "simulate.frame_step=1", "simulate.frames_per_clip=10")
    with pytest.raises(NotEnoughFramesError, match=f"{which}; change simulate.clips"):
        simulate(config(tmp_path / "shards", *more))
    assert [path.name for path in tmp_path.iterdir()] == ["poses"]
