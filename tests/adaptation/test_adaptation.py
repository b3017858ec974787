"""Features adapted to a map: its tracks lie where they should and teach, what was gained is told, a run resumes."""

import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.nn import functional as F
from tpr.config import load_config
from tpr.data import Data
from tpr.engine import Trainer
from tpr.networks import build_network
from tpr.weights import load_weights, save_weights, shipped_weights

from tpsfm import TpsfmError
from tpsfm.adaptation import adapt
from tpsfm.adaptation.scene import Scene, seen_pixels, seen_places
from tpsfm.cli import main
from tpsfm.photos import read_photo
from tpsfm.reconstruction.opening import open_map

SHORT = [
    "views.size=128",
    "views.landmark_fraction=1",
    "method={points: 64, weighted_after: 1, fixed_after: 1}",
    "loss.moment=0",
    "optimization={batch: 8, rate: 4e-3, warmup: 5, momentum: 0.9, strength: [0.2, 0.3]}",
    "validation={size: 96, pairs: 8}",
]


@pytest.fixture
def adapted_map(held_out, tmp_path):
    """A copy of a map of eight photos."""
    shutil.copytree(held_out / "map", tmp_path / "map")
    return tmp_path / "map"


def right_tracks(data: Data, weights) -> float:
    """The share of the landmarks of two photos whose nearest descriptor in the other is that of the same landmark."""
    network = load_weights(weights)[0]
    with torch.inference_mode():
        dense = [network(levels[0].float().mean(0)[None, None] / 255).descriptors for levels in data.photos.levels]
        right = []
        for one in data.matched:
            sides = ((one.first, one.points), (one.second, one.partners))
            first, second = (
                F.normalize(network.descriptors_at(dense[photo], places[None])[0], dim=-1) for photo, places in sides
            )
            right.append((first @ second.T).argmax(1) == torch.arange(len(first)))
    return torch.cat(right).float().mean().item()


@pytest.fixture
def untrained_map(adapted_map):
    """The same, as if its features were those of an untrained network."""
    torch.manual_seed(0)
    weights = adapted_map / "untrained.safetensors"
    options = {"dim": 32, "widths": [16, 24, 32, 32]}
    save_weights(weights, build_network("s", **options), "s", options)
    manifest = json.loads((adapted_map / "run.json").read_text())
    manifest["options"] |= {"features": "tpr", "weights": str(weights)}
    (adapted_map / "run.json").write_text(json.dumps(manifest))
    return adapted_map


def test_tracks_alone_teach_an_untrained_network(untrained_map):
    """80 steps take the share of landmarks whose nearest descriptor is right from 0.10 to 0.43 or 0.50, by seed."""
    found = adapt(untrained_map, steps=80, overrides=SHORT)
    workspace, model = open_map(untrained_map)
    data = Scene(workspace, model).data(None, load_config("adapt").validation, torch.device("cpu"))
    assert (found.photos, found.pairs, len(found.held_out)) == (6, len(data.matched), 2)
    before, after, shipped = (
        right_tracks(data, weights)
        for weights in (untrained_map / "untrained.safetensors", found.weights, shipped_weights())
    )
    assert after > 3 * before and shipped > 0.75
    assert found.before.registered == 0, "a network that knows nothing"
    assert "pairs of them share landmarks" in found.weights.with_suffix(".md").read_text()


def test_it_goes_on_where_it_was_stopped(untrained_map, monkeypatch):
    whole = untrained_map / "whole.safetensors"
    arguments = {"steps": 6, "overrides": SHORT}
    with monkeypatch.context() as patch:
        patch.setattr("tpsfm.adaptation.measure", lambda *_: None)
        adapt(untrained_map, whole, **arguments)
        run = Trainer.run
        patch.setattr(Trainer, "run", lambda trainer: run(trainer, until=3))
        adapt(untrained_map, **arguments)
        assert torch.load(untrained_map / "adapted.checkpoint", weights_only=True)["step"] == 3
        patch.setattr(Trainer, "run", run)
        again = adapt(untrained_map, **arguments)
    assert again.weights.read_bytes() == whole.read_bytes()


def test_the_command_tells_what_was_gained(adapted_map):
    done = CliRunner().invoke(main, ["adapt", str(adapted_map), "--steps", "1", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert re.search(r"registered +2 +2\n", done.output) and re.search(
        r"error, pixels +\d\.\d+ +\d\.\d+\n", done.output
    )
    before, after = (int(count) for count in re.search(r"inliers +(\d+) +(\d+)\n", done.output).groups())
    assert after == pytest.approx(before, rel=0.05) and ("no gain" in done.output) == (after <= before)
    network, vocabulary = load_weights(adapted_map / "adapted.safetensors")
    assert network.dim == load_weights(shipped_weights())[0].dim
    assert vocabulary.digest == load_weights(shipped_weights())[1].digest, "the vocabulary stays"


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 0), (6, 0), (8, 45), (6, 135)])
def test_keypoints_lie_where_the_photo_shows_them_once_it_is_turned(tmp_path, orientation, turn):
    image = np.zeros((300, 420), np.uint8)
    spots = np.array([[60, 50], [380, 70], [110, 240], [333, 251]])
    for x, y in spots:
        cv2.circle(image, (int(x), int(y)), 9, 255, -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "spots.png", exif=exif)
    photo = replace(read_photo(tmp_path / "spots.png"), turn=turn)
    assert photo.orientation == orientation
    pixels, scale = seen_pixels(photo, 210)
    places = np.rint(seen_places(photo, spots.astype(np.float32), scale)).astype(int)
    assert (pixels[places[:, 1], places[:, 0]] > 250).all() and (pixels > 128).mean() < 0.02
    assert scale == pytest.approx(0.5)


def test_what_cannot_be_adapted_is_told_in_one_line(adapted_map, tmp_path):
    with pytest.raises(TpsfmError, match="the map is made with these weights; name another"):
        adapt(adapted_map, shipped_weights())
    with pytest.raises(TpsfmError, match="must end in"):
        adapt(adapted_map, tmp_path / "mine.pth")
    images = tmp_path / "few"
    images.mkdir()
    workspace, _ = open_map(adapted_map)
    workspace.images = images
    workspace.save()
    with pytest.raises(TpsfmError, match="0 photos that are still"):
        adapt(adapted_map)
