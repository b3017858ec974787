"""Layers of single backbones against their equations: detection by peaks, attention in windows."""

import math

import pytest
import torch
from torch.nn import functional as F
from tpr.networks import build_network
from tpr.networks.peaks import over_neighbours, peakiness, relative, soft_detection
from tpr.networks.windows import WindowAttention, join_windows, separate, split_windows


def test_neighbours_are_combined_as_by_a_loop():
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(5))
    wide = F.pad(x, (2, 2, 2, 2), mode="replicate")
    expected = sum(wide[..., i : i + 5, j : j + 6] for i in (0, 2, 4) for j in (0, 2, 4))
    torch.testing.assert_close(over_neighbours(x, torch.add, 2), expected)


def test_soft_detection_follows_its_equation():
    features = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(6))
    cut = features.clamp_min(1e-6)
    expected = []
    for k in range(3):
        around = cut[0, k, 1:4, 1:4].exp()
        expected.append(around[1, 1] / around.sum() * cut[0, k, 2, 2] / cut[0, :, 2, 2].max())
    torch.testing.assert_close(soft_detection(features)[0, 0, 2, 2], torch.stack(expected).max().log())


def test_soft_detection_is_highest_where_one_channel_peaks_and_survives_extremes():
    features = torch.zeros(1, 4, 9, 9)
    features[0, 2, 3, 5] = 200
    features.requires_grad_()
    score = soft_detection(features)
    assert score.argmax() == 3 * 9 + 5 and math.isclose(score.max().item(), 0, abs_tol=1e-5)
    score.sum().backward()
    assert score.isfinite().all() and features.grad.isfinite().all()


def test_peakiness_follows_its_equation():
    features = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(7))
    place = features[0, :, 2, 2]
    local = F.softplus(place - features[0, :, 1:4, 1:4].mean((1, 2)))
    among = F.softplus(place - place.mean())
    torch.testing.assert_close(peakiness(features, 1)[0, 0, 2, 2], (local * among).max())


def test_relative_scores_have_mean_one_in_each_image():
    scores = 1 + 9 * torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(9))
    divided = scores / scores.mean((2, 3), keepdim=True)
    torch.testing.assert_close(relative(scores.log()), divided.log())


def test_windows_are_cut_and_joined():
    x = torch.arange(2 * 6 * 9 * 2).reshape(2, 6, 9, 2)
    windows = split_windows(x, 3)
    assert torch.equal(windows[1, 4], x[1, 3:6, 3:6].flatten(0, 1))
    assert torch.equal(join_windows(windows, 6, 9), x)


def attend(layer, x):
    """Window attention cell by cell: who shares the cell's window of the shifted grid, and lies inside, is heard."""
    side, shift, heads = layer.window, layer.shift, layer.heads
    height, width, channels = x.shape
    query, key, value = layer.qkv(x).reshape(height, width, 3, heads, channels // heads).unbind(2)
    out = torch.zeros_like(x)
    for y in range(height):
        for x_ in range(width):
            top, left = ((p - shift) // side * side + shift for p in (y, x_))
            rows = range(max(top, 0), min(top + side, height))
            columns = range(max(left, 0), min(left + side, width))
            heard = [(i, j) for i in rows for j in columns]
            bias = [(y - i + side - 1) * (2 * side - 1) + x_ - j + side - 1 for i, j in heard]
            for h in range(heads):
                keys, values = (torch.stack([t[i, j, h] for i, j in heard]) for t in (key, value))
                weights = keys @ query[y, x_, h] / math.sqrt(channels // heads) + layer.bias[h, bias]
                part = slice(h * channels // heads, (h + 1) * channels // heads)
                out[y, x_, part] = weights.softmax(0) @ values
    return layer.project(out)


def test_every_second_block_shifts_its_windows_by_half():
    stage = build_network("swin", width=32, depths=(4, 2), window=8, head=16).stages[0]
    assert [block.attention.shift for block in stage] == [0, 4, 0, 4]


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (6, 11), (3, 4)])
def test_window_attention_is_that_of_the_loop(size, shift):
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, 4, shift)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, *size, 8)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[1], attend(layer, x[1]), rtol=1e-4, atol=1e-5)


def test_no_cell_is_cut_off_from_itself():
    apart = separate(5, 6, (8, 8), 4, 2, "cpu")
    assert (apart.diagonal(dim1=1, dim2=2) == 0).all()
