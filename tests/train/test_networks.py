"""What every backbone keeps to: shapes, where its cells lie, gradients, determinism, cost."""

import math

import pytest
import torch
from torch.nn import functional as F
from tpr.complexity import macs_of, table
from tpr.networks import NETWORKS, build_network, sample_descriptors
from tpr.networks.base import parameters_of
from tpr.networks.corners import CornerLogits
from tpr.photos import Photos, find_photos
from tpr.start import start_projection

SMALL = {
    "s": {"dim": 16, "widths": (8, 8, 16, 16)},
    "vgg": {"dim": 16, "widths": (4, 8, 8, 16)},
    "dcn": {"dim": 16, "widths": (8, 8, 16)},
    "swin": {"dim": 16, "width": 16, "depths": (2, 2), "window": 4, "head": 8},
}
PERIOD = {"s": 32, "vgg": 4, "dcn": 4, "swin": 32}  # pixels after which a network's own grids repeat
HEADS = ("detect_half", "detect_quarter", "reliability_head", "detail", "sharpness")  # no descriptor depends on these
every_network = pytest.mark.parametrize("name", list(SMALL))


def picture(height, width, batch=1, seed=2):
    """Smooth random images in [0, 1] that continue across their borders."""
    coarse = torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(F.pad(coarse, (2, 2, 2, 2), mode="circular"), 5, 1)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def make(name, perturbed=True):
    """A small untrained network in evaluation mode, its batch statistics those of a few pictures.

    `perturbed`: deformable layers look around and detection heads say something, which they don't when they start.
    """
    torch.manual_seed(0)
    network = build_network(name, **SMALL[name])
    generator = torch.Generator().manual_seed(1)
    for key, parameter in network.named_parameters():
        if perturbed and ("offset_mask" in key or key.startswith(HEADS[:-1])):
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        network(picture(64, 64, batch=4, seed=8))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def test_every_registered_network_is_tested():
    assert set(SMALL) == set(NETWORKS)


def test_an_unknown_network_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'resnet'.*swin"):
        build_network("resnet")


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width of 40"):
        build_network("swin", width=40)


@every_network
@pytest.mark.parametrize("size", [(64, 64), (37, 53), (97, 60)])
def test_shapes(name, size):
    network = make(name)
    with torch.inference_mode():
        out = network(picture(*size, batch=2))
    assert all(len(level) == 2 for level in out.descriptors)
    assert sum(level.shape[1] for level in out.descriptors) == network.dim
    assert out.logits.shape == (2, 1, *size)
    for k, level in enumerate(out.descriptors):
        height, width = level.shape[2:]
        assert height * (network.stride << k) >= size[0] and width * (network.stride << k) >= size[1]
    assert all(part.isfinite().all() for part in (*out.descriptors, out.logits))


def test_a_projection_makes_descriptors_of_what_all_sizes_say():
    torch.manual_seed(0)
    network = build_network("s", dim=10, widths=(8, 8, 16, 16), counts=(1, 1, 0.5), per_size=8)
    image, points = picture(64, 96, batch=2), torch.rand(2, 50, 2) * 63
    found = network(image)
    assert [level.shape[1] for level in found.descriptors] == [8, 8, 8]
    described = network.descriptors_at(found.descriptors, points)
    assert described.shape == (2, 50, network.dim) == (2, 50, 10)
    torch.testing.assert_close(described.flatten(0, 1).var(0, correction=0), torch.ones(10), rtol=1e-2, atol=1e-2)
    network.eval()
    described = network.descriptors_at(found.descriptors, points)
    read = sample_descriptors(found.descriptors, points, network.stride)
    linear, norm = network.projection
    expected = (read @ linear.weight.T - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(described, expected)


def test_the_first_projection_keeps_similarities(photo_folder):
    plain = make("s")
    torch.manual_seed(0)
    projected = build_network("s", **SMALL["s"] | {"dim": 12}, per_size=8)
    projected.load_state_dict(plain.state_dict(), strict=False)
    photos = Photos(find_photos(photo_folder)[:20])
    start_projection(projected, photos)
    assert projected.training
    projected.eval()
    image, points = photos.levels[3][0].float().mean(0)[None, None] / 255, torch.rand(1, 80, 2) * 200
    with torch.inference_mode():
        similarity = []
        for network in (plain, projected):
            found = F.normalize(network.descriptors_at(network(image).descriptors, points)[0], dim=-1)
            similarity.append(found @ found.T)
    assert torch.corrcoef(torch.stack(similarity).flatten(1))[0, 1] > 0.8


@every_network
def test_a_flat_image_gives_finite_numbers_and_gradients(name):
    network = make(name)
    image = torch.full((1, 1, 48, 48), 0.5, requires_grad=True)
    out = network(image)
    parts = (*out.descriptors, out.logits)
    sum(part.sum() for part in parts).backward()
    assert all(part.isfinite().all() for part in parts)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@every_network
def test_a_shifted_image_shifts_descriptors_and_scores(name):
    """Down and left by one period; compared in the middle, out of sight of the borders.

    Scores relative to an image's mean differ by a constant, for the borders count in the mean.
    """
    network, period = make(name), PERIOD[name]
    image = picture(640, 640)
    with torch.inference_mode():
        before, after = network(image), network(image.roll((period, -period), (2, 3)))
    cells = [network.stride << k for k in range(len(before.descriptors))] + [1]
    befores, afters = (*before.descriptors, before.logits), (*after.descriptors, after.logits)
    for was, is_now, cell in zip(befores, afters, cells, strict=True):
        low, high, step = 288 // cell, 352 // cell, period // cell
        was = was[..., low:high, low:high]
        is_now = is_now[..., low + step : high + step, low - step : high - step]
        assert was.std() > 0.1
        if cell == 1:
            was, is_now = was - was.mean(), is_now - is_now.mean()
        torch.testing.assert_close(is_now, was, rtol=1e-3, atol=2e-3)


def mirror_weights(network):
    """Make each kernel its own mirror image, so that only a grid off the pixels' centre can tell left from right."""
    for key, parameter in network.named_parameters():
        if parameter.dim() == 4:
            parameter.data = (parameter + parameter.flip(-1)) / 2
        elif key.endswith("attention.bias"):
            square = parameter.unflatten(1, (math.isqrt(parameter.shape[1]), -1))
            parameter.data = ((square + square.flip(-1)) / 2).flatten(1)
        elif key.endswith("reduce.weight"):
            cells = parameter.unflatten(1, (2, 2, -1))
            parameter.data = ((cells + cells.flip(2)) / 2).flatten(1)


@every_network
def test_cells_and_scores_are_centred(name):
    """A mirrored image gives mirrored maps exactly if cell j lies where cell w − 1 − j is seen from the other side."""
    network = make(name, perturbed=False)
    mirror_weights(network)
    image = picture(64, 96)
    with torch.inference_mode():
        plain, mirrored = network(image), network(image.flip(-1))
    back = [part.flip(-1) for part in (*mirrored.descriptors, mirrored.logits)]
    torch.testing.assert_close(back, [*plain.descriptors, plain.logits], rtol=1e-3, atol=1e-4)


@every_network
def test_gradients_reach_every_parameter(name):
    network = make(name).train()
    out = network(picture(48, 48, batch=2))
    generator = torch.Generator().manual_seed(4)
    of_descriptors = sum((level * torch.randn(level.shape, generator=generator)).sum() for level in out.descriptors)
    of_scores = (out.logits * torch.randn(out.logits.shape, generator=generator)).sum()
    names, parameters = zip(*network.named_parameters(), strict=True)
    first = torch.autograd.grad(of_descriptors, parameters, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(of_scores, parameters, allow_unused=True)
    for key, a, b in zip(names, first, second, strict=True):
        reached = [g is not None and bool(g.abs().max() > 0) for g in (a, b)]
        assert any(reached), key
        if not key.startswith(HEADS):
            assert reached[0], key
    assert sum(g is not None and bool(g.abs().max() > 0) for g in second) > 3


@every_network
def test_the_same_seed_and_image_give_the_same_answer(name):
    image = picture(50, 70)
    with torch.inference_mode():
        first, second = make(name)(image), make(name)(image)
    torch.testing.assert_close(first.descriptors, second.descriptors, rtol=0, atol=0)
    assert torch.equal(first.logits, second.logits)


@every_network
def test_images_of_a_batch_do_not_touch_each_other(name):
    network, images = make(name), picture(48, 64, batch=2)
    with torch.inference_mode():
        together, alone = network(images), network(images[1:])
    torch.testing.assert_close(tuple(x[1:] for x in together.descriptors), alone.descriptors, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.logits[1:], alone.logits, rtol=1e-4, atol=1e-4)


@every_network
def test_channels_last_changes_nothing(name):
    network, image = make(name), picture(64, 48, batch=2)
    with torch.inference_mode():
        plain = network(image)
        network.to(memory_format=torch.channels_last)
        other = network(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(plain.descriptors, other.descriptors, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain.logits, other.logits, rtol=1e-4, atol=1e-4)


@every_network
def test_gain_and_offset_of_the_light_hardly_matter(name):
    network, image = make(name), picture(64, 64)
    with torch.inference_mode():
        before, after = network(image), network(0.2 + 0.5 * image)
    for was, is_now in zip(before.descriptors, after.descriptors, strict=True):
        assert F.cosine_similarity(was, is_now).min() > 0.999


@every_network
def test_descriptors_are_standardized_in_training(name):
    network = make(name).train()
    for level in network(picture(64, 64, batch=4)).descriptors:
        one = torch.ones(level.shape[1])
        torch.testing.assert_close(level.mean((0, 2, 3)), 0 * one, rtol=0, atol=1e-3)
        torch.testing.assert_close(level.std((0, 2, 3), correction=0), one, rtol=0, atol=0.01)


@every_network
def test_octaves_are_the_image_made_smaller(name):
    """The first is the network's answer to the image, the second that to the halved image, gain apart."""
    network, image = make(name), picture(128, 192)
    with torch.inference_mode():
        first, second = network.octaves(image, 2)
        alone, smaller = network(image), network(F.avg_pool2d(image, 2))
    torch.testing.assert_close(first.logits, alone.logits)
    for level, other in zip(second.descriptors, smaller.descriptors, strict=True):
        assert F.cosine_similarity(level, other).mean() > 0.8


@every_network
def test_octaves_of_odd_sides(name):
    with torch.inference_mode():
        sizes = [out.logits.shape[2:] for out in make(name).octaves(picture(131, 198), 3)]
    assert sizes == [(131, 198), (66, 99), (33, 50)]


def test_table_of_networks():
    rows = {row.name: row for row in table()}
    assert set(rows) == set(NETWORKS)
    assert rows["s"].parameters <= 1_000_000
    assert 7e6 < rows["swin"].parameters < 15e6
    for name, row in rows.items():
        if name in ("s", "dcn"):
            network = build_network(name)
            assert row.parameters == parameters_of(network)
            assert (row.dim, row.stride) == (network.dim, network.stride)


def test_macs_of_a_network_counted_by_hand():
    network = build_network("vgg", dim=8, widths=(2, 3, 4, 5))
    full, half, quarter = 64 * 48, 32 * 24, 16 * 12
    blocks = full * 9 * (2 + 2 * 2) + half * 9 * (2 * 3 + 3 * 3) + quarter * 9 * (3 * 4 + 2 * 4 * 4)
    assert macs_of(network, 48, 64) == blocks + quarter * 9 * (4 * 5 + 2 * 5 * 5) + quarter * 5 * 8


def test_corners_do_not_depend_on_the_strips(monkeypatch):
    corners, image = CornerLogits(), picture(200, 90)
    monkeypatch.setattr("tpr.networks.corners.STRIP", 90 * 37)
    torch.testing.assert_close(corners(image), corners.response(image), rtol=1e-5, atol=1e-5)
