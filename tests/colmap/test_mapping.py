"""COLMAP's mappers on synthesized scenes whose cameras are known."""

import json
import logging
import shutil

import numpy as np
import pytest

from tests.support.synthesized import Scene
from tpsfm import colmap
from tpsfm.colmap import mapping, read_model
from tpsfm.colmap.database import open_database
from tpsfm.evaluation.poses import pose_errors
from tpsfm.geometry import summary


def test_finds_the_cameras(synthetic, synthetic_map):
    root, _, steps, folders = synthetic_map
    assert folders == [root / "sparse"]
    model = read_model(folders[0])
    assert list(model.images) == sorted(synthetic.truth)
    assert pose_errors(synthetic.truth, model.images).max() < 0.5
    (camera,) = model.cameras.values()  # shared, and its focal length found from a guess
    assert camera.params[0] == pytest.approx(1280, rel=0.01)
    assert steps == [2, 3, 4, 5, 6, 7, 8]

    report = summary(model)
    assert report["registered"] == sorted(synthetic.truth)
    assert report["points"] == len(model.points) > 300
    assert 0.1 < report["reprojection_error"] < 0.7
    assert report["mean_track_length"] > 5
    assert report["cameras"][0]["images"] == 8
    json.dumps(report)


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_same_seed_same_model(synthetic, tmp_path, mapper):
    contents = []
    for run, threads in enumerate((2, 1)):
        root = tmp_path / str(run)
        root.mkdir()
        synthetic.database(root / "database.db")
        colmap.verify_matches(root / "database.db", seed=5, threads=threads)
        (folder,), _ = colmap.reconstruct(root / "database.db", root / "sparse", mapper, seed=5, threads=threads)
        assert pose_errors(synthetic.truth, read_model(folder).images).max() < 1
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]


def scenes(folder, *parts: Scene) -> None:
    """Write scenes that have nothing in common to one database, and verify it."""
    both = parts[0]
    for number, part in enumerate(parts):
        prefix = chr(ord("a") + number)
        for field in ("truth", "points", "infos"):
            setattr(part, field, {f"{prefix}/{k}": v for k, v in getattr(part, field).items()})
        part.matches = [(f"{prefix}/{a}", f"{prefix}/{b}", m) for a, b, m in part.matches]
        if number:
            both.points |= part.points
            both.infos |= part.infos
            both.matches += part.matches
    both.database(folder / "database.db")
    colmap.verify_matches(folder / "database.db", threads=2)


def test_two_scenes_give_two_models_the_larger_first(tmp_path):
    scenes(tmp_path, Scene(frames=5, seed=1), Scene(frames=7, seed=2))  # the smaller one comes first by name
    folders, _ = colmap.reconstruct(tmp_path / "database.db", tmp_path / "sparse", "incremental", threads=2)
    assert folders == [tmp_path / "sparse", tmp_path / "sparse" / "1"]
    assert [len(read_model(folder).images) for folder in folders] == [7, 5]


def test_three_scenes_that_are_all_registered_are_not_mapped_again(tmp_path, caplog):
    scenes(tmp_path, *(Scene(frames=5, seed=seed) for seed in (1, 2, 3)))
    with caplog.at_level(logging.WARNING, "tpsfm"):
        folders, _ = colmap.reconstruct(tmp_path / "database.db", tmp_path / "sparse", "incremental", threads=2)
    assert [len(read_model(folder).images) for folder in folders] == [5, 5, 5]
    assert "relaxed" not in caplog.text


def test_a_failed_start_is_tried_again_relaxed(synthetic_map, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(mapping.MAPPER_OPTIONS, "init_min_num_inliers", 1_000_000)
    with caplog.at_level(logging.WARNING, "tpsfm"):
        (folder,), _ = colmap.reconstruct(synthetic_map[0] / "database.db", tmp_path / "sparse", "incremental")
    assert len(read_model(folder).images) == 8
    assert "0 of 8 connected photos registered: trying relaxed thresholds" in caplog.text
    assert "relaxed thresholds registered 8 of 8" in caplog.text


def cameras(database) -> list[list[float]]:
    with open_database(database) as db:
        return [camera.params.tolist() for camera in db.read_all_cameras()]


def test_where_incremental_mapping_leaves_parts_all_is_mapped_at_once(synthetic_map, tmp_path, caplog, monkeypatch):
    """No third photo is found well enough; the global mapper needs none that is."""
    monkeypatch.setitem(mapping.MAPPER_OPTIONS, "abs_pose_min_num_inliers", 1_000_000)
    monkeypatch.setitem(mapping._RELAXED_OPTIONS, "structure_less_registration_fallback", False)
    database = synthetic_map[0] / "database.db"
    before = cameras(database)
    with caplog.at_level(logging.WARNING, "tpsfm"):
        (folder,), mapper = colmap.reconstruct(database, tmp_path / "sparse")
    assert mapper == "global" and len(read_model(folder).images) == 8
    assert "of 8 connected photos are in one model: mapping globally" in caplog.text
    assert "global mapping put 8 photos in one model; the global map is kept" in caplog.text
    assert cameras(database) == before  # the global mapper calibrates them in its own copy


def test_the_incremental_map_is_kept_where_the_global_one_has_no_more(synthetic_map, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(mapping, "_MOST", 2)
    monkeypatch.setattr(mapping, "_global", lambda *_: [])
    with caplog.at_level(logging.WARNING, "tpsfm"):
        (folder,), mapper = colmap.reconstruct(synthetic_map[0] / "database.db", tmp_path / "sparse")
    assert mapper == "incremental" and "the incremental map is kept" in caplog.text
    expected = (synthetic_map[3][0] / "images.bin").read_bytes()
    assert (folder / "images.bin").read_bytes() == expected


def test_scenes_that_have_nothing_in_common_are_not_mapped_globally(tmp_path, caplog):
    scenes(tmp_path, *(Scene(frames=5, seed=seed) for seed in (1, 2, 3)))
    with caplog.at_level(logging.WARNING, "tpsfm"):
        folders, mapper = colmap.reconstruct(tmp_path / "database.db", tmp_path / "sparse", threads=2)
    assert len(folders) == 3 and mapper == "incremental" and not caplog.text


def test_no_model_leaves_the_old_one(synthetic, synthetic_map, tmp_path):
    (tmp_path / "sparse").mkdir()
    (tmp_path / "sparse" / "kept").touch()
    nothing = Scene(frames=3)
    nothing.matches = [(a, b, m[:5]) for a, b, m in nothing.matches]
    nothing.database(tmp_path / "database.db")
    assert set(colmap.verify_matches(tmp_path / "database.db")[1].values()) == {0}
    for mapper in ("incremental", "global"):
        assert colmap.reconstruct(tmp_path / "database.db", tmp_path / "sparse", mapper) == ([], mapper)
    assert (tmp_path / "sparse" / "kept").exists()


def test_colours_come_from_the_photos(synthetic, synthetic_map, tmp_path):
    from PIL import Image

    photos = tmp_path / "photos"
    for name in list(synthetic.truth)[:-1]:  # one photo has gone meanwhile: the others still give colours
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1024, 768), (200, 100, 50)).save(photos / name)
    folder = shutil.copytree(synthetic_map[3][0], tmp_path / "sparse")
    colmap.color_points(folder, photos, threads=2)
    colors = read_model(folder).colors
    assert (colors == [200, 100, 50]).all(1).mean() > 0.95


def test_colours_of_formats_that_colmap_can_not_read_and_of_mirrored_photos(synthetic, synthetic_map, tmp_path):
    from PIL import Image

    halves = Image.new("RGB", (1024, 768), (0, 0, 255))
    halves.paste((200, 100, 50), (0, 0, 512, 768))  # the left half
    mirrored = Image.Exif()
    mirrored[0x0112] = 2
    for number, name in enumerate(synthetic.truth):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if number % 2:
            halves.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / name, format="PNG", exif=mirrored)
        else:
            halves.save(tmp_path / name, format="WEBP", lossless=True)
    folder = shutil.copytree(synthetic_map[3][0], tmp_path / "sparse")
    colmap.color_points(folder, tmp_path, threads=2)
    model, seen = read_model(folder), colmap.read_observations(folder)
    sums, views = np.zeros((len(model.points), 3)), np.zeros((len(model.points), 1))
    for keypoints, rows in seen.values():
        left = keypoints[rows >= 0, :1] < 511.5
        np.add.at(sums, rows[rows >= 0], np.where(left, [200, 100, 50], [0, 0, 255]))
        np.add.at(views, rows[rows >= 0], 1)
    assert np.abs(model.colors - sums / views).max() <= 0.5
    assert len(np.unique(model.colors, axis=0)) > 3
