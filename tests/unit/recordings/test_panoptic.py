import numpy as np
import pytest

from metafuse_ray.errors import CalibrationError, DataError
from metafuse_ray.pose.skeleton import COCO19
from metafuse_ray.recordings.labels import project_labels
from metafuse_ray.recordings.panoptic import read_panoptic_sequence
from metafuse_ray.recordings.panoptic_poses import read_pose_file
from tests.support.panoptic import BODY, body_entry, write_recording
from tests.support.rigs import looking_at, random_rig

SIDEWAYS = np.array([50.0, 0, 0])


def test_a_recording_with_gaps_and_absent_people(tmp_path):
    rig = random_rig(0, 3)
    frames = {
        905: [body_entry(4), body_entry(1, BODY + SIDEWAYS)],
        120: [body_entry(1)],
        121: [],
    }
    recording = read_panoptic_sequence(write_recording(tmp_path / "any_name", rig, frames))

    assert recording.name == "170101_test1"
    assert recording.frames == (120, 121, 905)
    assert [(r.frame, r.person) for r in recording.records] == [(120, 1), (905, 1), (905, 4)]
    assert recording.bodies[121] == ()
    np.testing.assert_array_equal(recording.bodies[905][0].joints_world, BODY + SIDEWAYS)
    np.testing.assert_array_equal(recording.bodies[905][0].confidence, np.full(19, 0.6))
    assert recording.rig.names == rig.names
    assert not recording.has_images
    assert recording.image_path("00_01", 120) is None


def test_images_are_found_by_camera_and_frame(tmp_path):
    directory = write_recording(
        tmp_path / "r", random_rig(0, 3), {7: [body_entry(0)]}, image_cameras=["00_01"]
    )
    (directory / "hdImgs" / "00_01" / "00_01_00000008.png").touch()
    recording = read_panoptic_sequence(directory)

    assert recording.has_images
    assert recording.image_path("00_01", 7) == directory / "hdImgs/00_01/00_01_00000007.jpg"
    assert recording.image_path("00_01", 8) == directory / "hdImgs/00_01/00_01_00000008.png"
    assert recording.image_path("00_01", 9) is None
    assert recording.image_path("00_02", 7) is None
    with pytest.raises(CalibrationError, match="00_00, 00_01, 00_02"):
        recording.image_path("00_09", 7)


def test_a_choice_of_cameras(tmp_path):
    directory = write_recording(
        tmp_path / "r", random_rig(0, 4), {7: [body_entry(0)]}, image_cameras=["00_01"]
    )
    chosen = read_panoptic_sequence(directory, cameras=["00_03", "00_00"])

    assert chosen.rig.names == ("00_03", "00_00")
    assert not chosen.has_images  # 00_01 has some, but is not asked for
    with pytest.raises(CalibrationError, match="00_09"):
        read_panoptic_sequence(directory, cameras=["00_09"])


def test_missing_joints_are_nan_with_confidence_zero(tmp_path):
    body = body_entry(0)
    values = np.reshape(body["joints19"], (19, 4))
    values[3] = [0, 0, 0, -1]
    values[5] = [-55.2, -40.1, -37.0, -1]
    values[7] = [12, -40, 3, 0]
    values[9] = [0, 0, 0, 0.4]
    values[11] = [-1, -1, -1, 0.4]
    values[13] = [np.nan, np.nan, np.nan, -1]
    body["joints19"] = values.ravel().tolist()
    recording = read_panoptic_sequence(write_recording(tmp_path / "r", random_rig(0), {0: [body]}))

    record = recording.records[0]
    missing = np.isnan(record.joints_world).all(axis=1)
    assert np.flatnonzero(missing).tolist() == [3, 5, 7, 9, 11, 13]
    np.testing.assert_array_equal(record.confidence == 0, missing)


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, "nan"), (1, "inf"), (2, "-inf"), (3, "nan"), (3, "inf")],
)
def test_a_present_joint_must_be_finite(tmp_path, value, column):
    bad = body_entry(8)
    bad["joints19"][4 * COCO19.index("lKnee") + column] = float(value)
    directory = write_recording(tmp_path / "r", random_rig(0), {55: [body_entry(2), bad]})

    with pytest.raises(DataError, match=r"body3DScene_00000055\.json.*body 8.*lKnee") as caught:
        read_panoptic_sequence(directory)

    assert (caught.value.body, caught.value.joint) == (8, "lKnee")
    assert caught.value.path.endswith("body3DScene_00000055.json")


@pytest.mark.parametrize(
    ("bodies", "message"),
    [
        ([{"id": 3, "joints19": [1.0] * 75}], "body 3.*76 numbers.*75"),
        ([{"id": 3, "joints19": ["a"] * 76}], "numbers in 'joints19'"),
        ([{"joints19": [1.0] * 76}], "'id'"),
        ([{"id": 3}], "joints19"),
        ([5], "every body needs"),
        ([body_entry(3), body_entry(3)], r"must differ.*\[3, 3\]"),
    ],
)
def test_malformed_bodies_are_refused_with_the_file(tmp_path, bodies, message):
    directory = write_recording(tmp_path / "r", random_rig(0), {55: bodies})
    with pytest.raises(DataError, match=rf"(?s)body3DScene_00000055\.json.*{message}"):
        read_panoptic_sequence(directory)


@pytest.mark.parametrize("text", ["", '{"bodies": [', "[]", '{"people": []}', '{"bodies": {}}'])
def test_truncated_or_foreign_pose_files_are_refused(tmp_path, text):
    path = tmp_path / "body3DScene_00000001.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"body3DScene_00000001\.json"):
        read_pose_file(path)


def test_other_names_are_no_pose_files(tmp_path):
    with pytest.raises(DataError, match=r"like body3DScene_00000123\.json"):
        read_pose_file(tmp_path / "hand3D_00000001.json")


def test_what_is_missing_from_a_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.sequence"):
        read_panoptic_sequence(tmp_path / "absent")
    directory = write_recording(tmp_path / "r", random_rig(0), {1: [body_entry(0)]})
    with pytest.raises(CalibrationError, match="no camera of type 'vga'"):
        read_panoptic_sequence(directory, camera_type="vga")
    with pytest.raises(CalibrationError, match="choose from hd, vga, kinect-color"):
        read_panoptic_sequence(directory, camera_type="gopro")

    pose = directory / "hdPose3d_stage1_coco19"
    (pose / "body3DScene_00000001.json").unlink()
    with pytest.raises(DataError, match=r"holds no body3DScene"):
        read_panoptic_sequence(directory)
    pose.rmdir()
    with pytest.raises(DataError, match=r"hdPose3d_stage1_coco19 is missing"):
        read_panoptic_sequence(directory)
    (directory / "calibration_170101_test1.json").unlink()
    with pytest.raises(CalibrationError, match="found none"):
        read_panoptic_sequence(directory)


def test_several_calibrations_are_told_apart_by_the_folder_name(tmp_path):
    directory = write_recording(tmp_path / "r", random_rig(0), {1: [body_entry(0)]})
    text = (directory / "calibration_170101_test1.json").read_text()
    (directory / "calibration_other.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"found several \(calibration_170101_test1"):
        read_panoptic_sequence(directory)
    (directory / "calibration_r.json").write_text(text)
    assert read_panoptic_sequence(directory).name == "r"


def test_images_of_an_uncalibrated_camera_are_refused(tmp_path):
    directory = write_recording(
        tmp_path / "r", random_rig(0, 2), {1: [body_entry(0)]}, image_cameras=["00_01", "00_30"]
    )
    with pytest.raises(CalibrationError, match=r"hdImgs holds images of 00_30") as caught:
        read_panoptic_sequence(directory)
    assert caught.value.camera == "00_30"


@pytest.mark.parametrize(
    ("sequence", "frames", "records", "missing"),
    [
        ("basketball_dome", range(100), 200, 0),
        ("160906_band1", range(168, 188), 60, 80),
        ("160906_band2", range(139, 159), 60, 0),
    ],
)
def test_real_recordings(shared_data, sequence, frames, records, missing):
    recording = read_panoptic_sequence(shared_data / "panoptic" / sequence)
    joints = np.stack([record.joints_world for record in recording.records])

    assert recording.frames == tuple(frames)
    assert len(recording.rig) == 31
    assert joints.shape == (records, 19, 3)
    assert np.isnan(joints[..., 0]).sum() == missing
    # People stand or sit on a floor near y = 0 and are smaller than two metres; y points down.
    assert -210 < np.nanmin(joints[..., 1]) < -110
    assert np.nanmax(joints[..., 1]) < 20
    assert np.nanmedian(joints[..., COCO19.index("lAnkle"), 1]) > -25
    shins = np.linalg.norm(
        joints[:, COCO19.index("lKnee")] - joints[:, COCO19.index("lAnkle")], axis=-1
    )
    assert 30 < np.nanmedian(shins) < 50


def test_real_people_project_into_the_images(shared_data):
    recording = read_panoptic_sequence(shared_data / "panoptic" / "basketball_dome")
    joints = np.stack([record.joints_world for record in recording.records])
    labels = [project_labels(camera, joints) for camera in recording.rig.cameras]

    assert recording.has_images
    assert recording.image_path("00_30", 99) is not None
    inside = np.mean(
        [c.contains(v.label_image_px) for c, v in zip(recording.rig.cameras, labels, strict=True)]
    )
    assert inside == pytest.approx(0.755, abs=0.001)
    # 4,971 crops with half of the joints inside, as the prototypes counted.
    assert sum(int(view.seen.sum()) for view in labels) == pytest.approx(4971, abs=15)


def test_a_real_lens_does_not_fold_people_into_the_image(shared_data):
    recording = read_panoptic_sequence(shared_data / "panoptic" / "160906_band1")
    grid = np.stack(np.meshgrid([-300, 0, 300], [-400, -100], [-300, 0, 300]), -1).reshape(-1, 3)
    for camera in recording.rig.cameras:
        inside = camera.contains(camera.project(grid.astype(float)))
        ideal = grid[inside] @ camera.projection_matrix[:, :3].T + camera.projection_matrix[:, 3]
        slope = np.linalg.norm((ideal[:, :2] / ideal[:, 2:] - camera.K[:2, 2]) / 1600, axis=1)
        assert np.all(slope < 0.85)  # nothing in the image lies beyond 40 degrees off the axis


def test_a_camera_that_looks_away_sees_nobody():
    camera = looking_at((0, -100, -300), (0, -100, -900))
    labels = project_labels(camera, BODY[None])
    assert not labels.seen.any()
    assert np.isnan(labels.label_image_px).all()
