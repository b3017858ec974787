"""Deformable convolution against a loop that follows the equation."""

import math

import pytest
import torch
from torch.nn import functional as F
from tpr.networks.deformable import DeformableConv2d, deformable_conv2d

BATCH, INPUTS, OUTPUTS, KERNEL, HEIGHT, WIDTH = 2, 3, 4, 3, 4, 5


def bilinear(image, x, y):
    """image [C, H, W] at a real place, zero outside."""
    left, top = math.floor(x.detach()), math.floor(y.detach())
    value = torch.zeros_like(image[:, 0, 0])
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            value = value + (1 - abs(x - column)) * (1 - abs(y - row)) * image[:, row, column]
    return value


def slow(x, weight, offset, mask):
    """y(p) = Σ_k w_k m_k(p) x(p + p_k + Δp_k(p)), one tap at a time."""
    out = []
    for b in range(len(x)):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                total = 0
                for tap in range(weight.shape[-1] ** 2):
                    row, column = divmod(tap, weight.shape[-1])
                    dx, dy = offset[b, tap, :, i, j]
                    value = bilinear(x[b], j + column - 1 + dx, i + row - 1 + dy)
                    total = total + mask[b, tap, i, j] * (weight[:, :, row, column] @ value)
                out.append(total)
    return torch.stack(out).reshape(len(x), x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2)


def case(dtype=torch.float64):
    """Inputs whose taps fall inside, across the border and far outside; none on a whole cell, where there's a kink."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    offset = 2 * normal(BATCH, KERNEL**2, 2, HEIGHT, WIDTH)
    return (
        normal(BATCH, INPUTS, HEIGHT, WIDTH),
        normal(OUTPUTS, INPUTS, KERNEL, KERNEL),
        offset.floor() + 0.1 + 0.8 * (offset - offset.floor()),
        normal(BATCH, KERNEL**2, HEIGHT, WIDTH).sigmoid(),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_the_loop(dtype, tolerance):
    inputs = [x.requires_grad_() for x in case(dtype)]
    fast, reference = deformable_conv2d(*inputs), slow(*inputs)
    torch.testing.assert_close(fast, reference, rtol=tolerance, atol=tolerance)
    upstream = torch.randn(fast.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    gradients = torch.autograd.grad((fast * upstream).sum(), inputs)
    expected = torch.autograd.grad((reference * upstream).sum(), inputs)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance)


def test_unmoved_taps_of_full_weight_are_a_plain_convolution():
    x, weight, offset, mask = case()
    ours = deformable_conv2d(x, weight, torch.zeros_like(offset), torch.ones_like(mask))
    torch.testing.assert_close(ours, F.conv2d(x, weight, padding=1))


def test_an_offset_of_one_cell_reads_the_next_cell():
    x, weight, offset, mask = case()
    moved = torch.zeros_like(offset)
    moved[:, :, 0], moved[:, :, 1] = 1, -1
    ours = deformable_conv2d(x, weight, moved, torch.ones_like(mask))
    shifted = F.conv2d(x, weight, padding=1).roll((1, -1), (2, 3))
    torch.testing.assert_close(ours[:, :, 2:-1, 1:-2], shifted[:, :, 2:-1, 1:-2])


def test_bfloat16_reads_at_exact_places():
    x, weight, offset, mask = case(torch.float32)
    wide = F.pad(x, (0, 600))
    expected = deformable_conv2d(wide, weight, F.pad(offset, (0, 600)), F.pad(mask, (0, 600)))
    half = [t.bfloat16() for t in (wide, weight, F.pad(offset, (0, 600)), F.pad(mask, (0, 600)))]
    ours = deformable_conv2d(*half)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), expected, rtol=0.05, atol=0.25)


def test_the_layer_starts_as_a_convolution_of_half_weight_and_learns_where_to_look():
    torch.manual_seed(0)
    layer = DeformableConv2d(INPUTS, OUTPUTS)
    x = torch.randn(1, INPUTS, 9, 9)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, padding=1) / 2, rtol=1e-4, atol=1e-5)
    target = F.conv2d(x, layer.weight.detach(), padding=1).roll(1, 3)[..., 2:-2, 2:-2]
    optimizer = torch.optim.Adam(layer.offset_mask.parameters(), 0.05)
    losses = []
    for _ in range(60):
        loss = (layer(x)[..., 2:-2, 2:-2] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
