"""Views: their correspondences hold to a fraction of a pixel, in the images themselves."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tpr.cameras import fixed_cameras, held_out_sites, site
from tpr.geometry import apply_homography, pixel_grid, sample, sample_rows
from tpr.jpeg import jpeg
from tpr.landmarks import LandmarkViews, Matched
from tpr.photometric import Light, cast_shadow, channel_weights, fall_night, raise_fog, relight
from tpr.photos import Photos, find_photos, split
from tpr.relief import Relief
from tpr.validation import hours_pairs
from tpr.views import Views
from tpr.warps import Warp

DARK = Light(exposure=0, gamma=1, noise=0, blur=0, shadow=0, night=0, fog=0, jpeg=0)


def waves(width: int = 420, height: int = 380, shift: float = 0.0) -> np.ndarray:
    """A smooth pattern, up to 30 grey levels a pixel steep, so a wrong place shows."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x = x - shift
    value = np.sin(x / 4.5) + np.sin(y / 4) + np.sin((x + y) / 9) + np.cos((x - 2 * y) / 11)
    return np.repeat((127.5 + 31 * value).round().astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Photos:
    path = tmp_path_factory.mktemp("pattern") / "waves.png"
    cv2.imwrite(str(path), waves())
    return Photos([path])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disagreement(first, second, valid) -> float:
    return ((first - second).abs() * valid).sum().item() / valid.sum().item() * 255


def test_the_same_scene_point_looks_the_same_in_both_views(pattern):
    views = Views(96, Warp(scale=(0.8, 1.1)), DARK)
    pair = views.draw(pattern, 24, 1.0, seeded())
    warped, valid = pair.warp(pair.second)
    assert 0.25 < valid.float().mean() < 0.9
    right = disagreement(pair.first, warped, valid)
    pair.forward[:, 0] += 0.3
    wrong = disagreement(pair.first, pair.warp(pair.second)[0], valid)
    assert right < 2.0 and wrong > 1.5 * right, (right, wrong)
    back, valid = pair.swapped().warp(pair.first)
    assert disagreement(pair.second, back, valid) < 2.0


def test_there_and_back_again(pattern):
    pair = Views(96, light=DARK).draw(pattern, 16, 1.0, seeded(1))
    points = torch.rand(16, 200, 2, generator=seeded()) * 95
    there, seen = pair.match(points)
    back, _ = pair.swapped().match(there)
    assert seen.float().mean() > 0.3
    assert (back - points).norm(dim=-1)[seen].max() < 0.05


def test_relief_bends_what_no_homography_does(pattern):
    def residual(relief: float) -> float:
        pair = Views(96, Warp(relief=relief), DARK).draw(pattern, 8, 1.0, seeded(2))
        worst = 0.0
        for forward in pair.forward:
            here, there = pixel_grid(96, 96).numpy(), forward.flatten(1).T.numpy()
            homography, _ = cv2.findHomography(here[::7], there[::7])
            fitted = apply_homography(torch.from_numpy(homography).float()[None], torch.from_numpy(here)[None])[0]
            worst = max(worst, float((fitted - torch.from_numpy(there)).norm(dim=-1).median()))
        return worst

    assert residual(0.0) < 0.01
    assert residual(0.1) > 0.5


def test_relief_is_inverted():
    shift = torch.tensor([[9.0, -3], [0, 9.6], [0, 0]])
    relief = Relief(shift, torch.full((3, 2), 100.0), torch.full((3,), 96.0), seeded())
    points = torch.rand(3, 500, 2, generator=seeded()) * 200
    moved = relief.to_photo(points)
    assert (moved - points)[:2].norm(dim=-1).amax(1).min() > 2 and torch.equal(moved[2], points[2])
    assert (relief.from_photo(moved) - points).norm(dim=-1).max() < 0.05


def test_without_strength_the_views_are_equal(pattern):
    pair = Views(64).draw(pattern, 4, 0.0, seeded())
    assert torch.equal(pair.first, pair.second)
    assert (pair.forward.flatten(2).transpose(1, 2) - pixel_grid(64, 64)).abs().max() < 0.01


def test_strength_drives_geometry_and_light(pattern):
    def change(strength: float) -> tuple[float, float]:
        pair = Views(64).draw(pattern, 32, strength, seeded())
        moved = (pair.forward.flatten(2).transpose(1, 2) - pixel_grid(64, 64)).norm(dim=-1).mean().item()
        warped, valid = pair.warp(pair.second)
        return moved, disagreement(pair.first, warped, valid)

    weak, strong = change(0.2), change(1.0)
    assert strong[0] > 2 * weak[0] and strong[1] > 1.5 * weak[1]


def test_the_same_seed_draws_the_same(pattern):
    one, two, other = (Views(64).draw(pattern, 6, 0.8, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.first, two.first) and torch.equal(one.forward, two.forward)
    assert not torch.equal(one.first, other.first)


def test_two_hours_of_one_camera(tmp_path):
    folder = tmp_path / "street"
    folder.mkdir()
    for i, picture in enumerate((waves(), 255 - waves(), waves()[:300])):
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    index = "\n".join(f"{i}.png\tday/cam_7_{12 + i}.jpg\t420x380" for i in range(3))
    (tmp_path / "street.index.tsv").write_text(index)
    cameras = fixed_cameras(find_photos(tmp_path), r"cam_(\d+)_")
    assert len(cameras) == 3 and len(set(cameras.values())) == 1
    photos = Photos(find_photos(tmp_path), cameras=cameras)
    assert photos.cameras == [[0, 1]], "the third has another size"
    pair = Views(96, Warp(scale=(0.8, 1.1)), DARK, same_camera_fraction=1.0).draw(photos, 16, 1.0, seeded())
    warped, valid = pair.warp(pair.second)
    assert disagreement(pair.first, 1 - warped, valid) < 2.5
    assert fixed_cameras(find_photos(tmp_path), "") == {}


def test_the_first_group_that_matched_names_the_camera(tmp_path):
    paths = [tmp_path / name for name in ("camera_12/1.jpg", "lapse/town/bridge_a/1.jpg", "else/1.jpg")]
    found = fixed_cameras(paths, r"camera_(\d+)|lapse/[^/]+/([^/]+)/")
    assert [found[path].rpartition(":")[2] for path in paths[:2]] == ["12", "bridge_a"] and paths[2] not in found


def test_neighbouring_cameras_are_held_out_together():
    cameras = {tmp: f"folder{i % 3}:place{i // 4}_{i}" for i, tmp in enumerate(map(str, range(80)))}
    assert {site(camera) for camera in cameras.values()} == {f"place{i}" for i in range(20)}
    held_out = held_out_sites(cameras, 0.3)
    assert 2 <= len(held_out) <= 12
    some = {photo: camera for photo, camera in cameras.items() if int(photo) < 60}
    assert held_out_sites(some, 0.3) == held_out & {site(camera) for camera in some.values()}
    assert held_out_sites(cameras, 0) == set() == held_out_sites({"a": "f:one"}, 0.5)
    assert len(held_out_sites({"a": "f:one", "b": "f:two"}, 0.001)) == 1


def test_hours_are_pairs_of_one_camera_barely_warped(tmp_path):
    for name, picture in (("a", waves()), ("b", 255 - waves())):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    paths = find_photos(tmp_path)
    pairs = hours_pairs(Photos(paths, cameras=dict.fromkeys(paths, "f:one")), 192, 6)
    warped, valid = pairs.warp(pairs.second)
    assert disagreement(pairs.first, 1 - warped, valid) < 2.5 and valid.float().mean() > 0.6
    assert hours_pairs(Photos(paths), 192, 6) is None


def test_colours_are_mixed_with_weights_of_either_sign_that_sum_to_one():
    weights = channel_weights(500, Light(colour=0.5), 1.0, seeded())
    torch.testing.assert_close(weights.sum(1), torch.ones(500))
    assert 0.05 < (weights < 0).float().mean() < 0.5
    assert (channel_weights(500, Light(), 1.0, seeded()) >= 0).all()


def test_local_light_changes_from_place_to_place():
    flat = torch.full((8, 1, 96, 96), 0.5)
    assert relight(flat, DARK, 1.0, seeded()).flatten(1).std(1).max() < 1e-3
    lit = relight(flat, replace(DARK, local_exposure=1.0, local_gamma=1.6), 1.0, seeded())
    assert lit.flatten(1).std(1).min() > 0.02
    steps = (lit[..., 1:] - lit[..., :-1]).abs()
    assert steps.max() < 0.06, "smoothly"


def test_landmarks_stay_on_their_scene_points(tmp_path):
    for name, shift in (("a", 0.0), ("b", 15.0)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), waves(shift=shift))
    photos = Photos(find_photos(tmp_path))
    points = torch.rand(300, 2, generator=seeded()) * torch.tensor([300.0, 300]) + 40
    matched = [Matched(0, 1, points, points + torch.tensor([15.0, 0]))]
    pair = LandmarkViews(Views(96, Warp(scale=(0.8, 1.1)), DARK), matched).draw(photos, 8, 1.0, seeded())
    here, there, valid = pair.correspondences(torch.zeros(8, 1, 96, 96), 64, seeded())
    assert valid.sum(1).min() >= 1 and valid.sum() > 60
    difference = (sample(pair.first, here) - sample(pair.second, there))[..., 0].abs()[valid]
    assert difference.mean() * 255 < 2.5
    assert not pair.match(here)[1].any() and not pair.warp(pair.second)[1].any()


@pytest.mark.parametrize("effect", [cast_shadow, fall_night, raise_fog])
def test_light_changes_images_but_not_their_places(effect):
    images = torch.from_numpy(waves()[:96, :96, :1]).permute(2, 0, 1)[None].float().expand(4, 1, 96, 96) / 255
    changed = effect(images, torch.full((4, 1, 1, 1), 0.7), seeded())
    assert changed.shape == images.shape and changed.isfinite().all()
    assert (changed - images).abs().mean() > 0.02


def test_relight_keeps_to_the_range_of_a_sensor():
    images = torch.from_numpy(waves()[:64, :64, :1]).permute(2, 0, 1)[None].float().expand(64, 1, 64, 64) / 255
    lit = relight(images, Light(night=1, fog=1, jpeg=1), 1.0, seeded())
    assert lit.isfinite().all() and lit.min() >= 0 and lit.max() <= 1
    assert torch.allclose(lit * 255, (lit * 255).round(), atol=1e-4)
    assert torch.equal(relight(images, DARK, 0.0, seeded()), (images * 255).round() / 255)


@pytest.mark.parametrize("quality", [15, 60, 85])
def test_jpeg_is_that_of_pillow(quality):
    image = waves()[:90, :83, 0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    reference = np.asarray(Image.open(buffer)).astype(np.float32)
    ours = jpeg(torch.from_numpy(image)[None, None].float() / 255, torch.tensor([float(quality)]))
    ours = (ours[0, 0].numpy() * 255).round()
    assert np.abs(ours - reference).mean() < 0.6
    assert np.abs(image - reference).mean() > 2 * np.abs(ours - reference).mean()


def test_bad_images_are_skipped_and_named(tmp_path, caplog):
    whole = cv2.imencode(".jpg", waves())[1].tobytes()
    (tmp_path / "good.jpg").write_bytes(whole)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "small.png"), waves(100, 100))
    photos = Photos(find_photos(tmp_path))
    assert [path.name for path in photos.paths] == ["good.jpg"]
    assert all(name in caplog.text for name in ("cut.jpg", "empty.png", "small.png"))


def test_a_grown_folder_keeps_its_split(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(400)]
    _, before = split(paths[:200], tmp_path, 0.1)
    train, after = split(paths, tmp_path, 0.1)
    assert set(before) == set(after) & set(paths[:200])
    assert len(train) + len(after) == 400 and 20 <= len(after) <= 60
    assert len(split(paths[:12], tmp_path, 0.01)[1]) == 4


def test_both_ways_to_read_maps_agree():
    torch.manual_seed(0)
    for height, width in ((7, 9), (1, 5), (4, 1)):
        values, points = torch.randn(2, 3, height, width, dtype=torch.float64), 60 * torch.rand(2, 40, 2) - 10
        torch.testing.assert_close(
            sample_rows(values, points, 4), sample(values.float(), points, 4), rtol=1e-4, atol=1e-4
        )
