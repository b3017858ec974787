"""Each loss: its value worked out by hand on a tiny case, and its gradient against finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F
from tpr.losses.detection import peak_agreement_loss, peakiness_loss, reliability_loss, subpixel_loss
from tpr.losses.prediction import hard_loss, prediction_loss, soft_labels, soft_loss
from tpr.losses.relation import relation_loss
from tpr.losses.sigreg import random_directions, sigreg_loss
from tpr.losses.spread import (
    centred,
    coding_rate_loss,
    covariance_loss,
    decorrelation_loss,
    effective_rank,
    invariance_loss,
    moment_loss,
    spread,
    standardized,
    whitened,
)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def randoms(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TRUE = torch.ones(2, 9, dtype=torch.bool)


def some_invalid() -> torch.Tensor:
    valid = TRUE.clone()
    valid[0, 2] = valid[1, 7] = False
    return valid


def test_prediction_is_one_less_the_cosine():
    first, second = tensor([[1, 0], [1, 0], [0.6, 0.8]]), tensor([[1, 0], [0, 1], [-0.6, -0.8]])
    assert torch.allclose(prediction_loss(first, second), tensor([0, 1, 2]))
    y = first.clone().requires_grad_()
    prediction_loss(y, second).sum().backward()
    assert torch.allclose(y.grad, -second)


def test_soft_labels():
    first, second = tensor([[1, 0], [1, 0]]), tensor([[1, 0], [0, 1]])
    assert torch.allclose(soft_labels(first, second, 2.0, 0.5), tensor([1, math.exp(-4)]))
    assert torch.equal(soft_labels(first, second, 0.0, 0.5), tensor([1, 1]))


def test_hard_loss_weighs_by_both_scores_within_each_image():
    loss, valid = tensor([[1, 2, 7], [3, 4, 5]]), torch.tensor([[True, True, False], [True, True, True]])
    scores, others = tensor([[0.5, 0.5, 1], [0, 0.4, 0.2]]), tensor([[0.2, 0.6, 1], [1, 0.5, 1]])
    first = (0.1 * 1 + 0.3 * 2) / 0.4
    second = (0.2 * 4 + 0.2 * 5) / 0.4
    loss.requires_grad_()
    value = hard_loss(loss, scores, others, valid)
    assert value.item() == pytest.approx((first + second) / 2)
    value.backward()
    assert torch.allclose(loss.grad, tensor([[0.125, 0.375, 0], [0, 0.25, 0.25]]))


def test_hard_loss_of_an_image_without_valid_points_is_zero():
    loss = tensor([[1.0, 2]]).requires_grad_()
    value = hard_loss(loss, tensor([[1, 1]]), tensor([[1, 1]]), torch.zeros(1, 2, dtype=torch.bool))
    value.backward()
    assert value == 0 and torch.equal(loss.grad, tensor([[0, 0]]))


def test_soft_loss_is_the_distance_of_similarity_to_label():
    loss, labels, ones = tensor([[0.1, 0.6]]), tensor([[0.5, 0.7]]), tensor([[1, 1]])
    loss.requires_grad_()
    value = soft_loss(loss, labels, ones, ones, ones > 0)
    assert value.item() == pytest.approx((abs(0.5 - 0.9) + abs(0.7 - 0.4)) / 2)
    value.backward()
    # Too similar for its label: pushed apart; not similar enough: pulled together.
    assert torch.allclose(loss.grad, tensor([[-0.5, 0.5]]))


def test_soft_loss_with_labels_of_one_is_the_hard_loss():
    loss, scores, others = randoms(2, 9).abs(), randoms(2, 9, seed=1).sigmoid(), randoms(2, 9, seed=2).sigmoid()
    valid = some_invalid()
    soft = soft_loss(loss, torch.ones_like(loss), scores, others, valid)
    assert soft.item() == pytest.approx(hard_loss(loss, scores, others, valid).item())


def test_centred_and_standardized_by_hand():
    descriptors = tensor([[[1, 10], [3, 10], [99, 99]], [[5, 0], [7, 4], [6, 2]]])
    valid = torch.tensor([[True, True, False], [True, True, True]])
    expected = tensor([[[-1, 0], [1, 0], [0, 0]], [[-1, -2], [1, 2], [0, 0]]])
    assert torch.allclose(centred(descriptors, valid), expected)
    deviation = tensor([4 / 5, 8 / 5]).sqrt()
    assert torch.allclose(standardized(descriptors, valid, eps=0), expected / deviation)


def test_whitened_has_unit_covariance():
    valid = some_invalid()
    descriptors = randoms(2, 9, 3) @ tensor([[9, 1, 0], [0, 1, 0.5], [0, 0, 0.1]]) + 4
    flat = whitened(descriptors, valid, eps=1e-9).flatten(0, 1)
    assert torch.allclose(flat.T @ flat / valid.sum(), torch.eye(3, dtype=torch.float64), atol=1e-4)


# Two channels over four points, each of mean 0 and variance 1, uncorrelated.
SQUARE = tensor([[[1, 1], [1, -1], [-1, 1], [-1, -1]]])
FOUR = torch.ones(1, 4, dtype=torch.bool)


def test_invariance_and_decorrelation_by_hand():
    swapped = SQUARE.flip(-1)
    assert invariance_loss(SQUARE, SQUARE, FOUR).item() == pytest.approx(0, abs=1e-6)
    assert decorrelation_loss(SQUARE, SQUARE, FOUR).item() == pytest.approx(0, abs=1e-6)
    # C = [[0, 1], [1, 0]]: nothing agrees by channel, and all is redundant across channels.
    assert invariance_loss(SQUARE, swapped, FOUR).item() == pytest.approx(1, abs=1e-3)
    assert decorrelation_loss(SQUARE, swapped, FOUR).item() == pytest.approx(1, abs=1e-3)


def test_covariance_by_hand():
    same = SQUARE[..., :1].expand(-1, -1, 2)
    assert covariance_loss(SQUARE, FOUR).item() == pytest.approx(0, abs=1e-6)
    assert covariance_loss(same, FOUR).item() == pytest.approx(1, abs=1e-3)


def test_coding_rate_by_hand():
    # Cov = I, D = 2, ε = ½: log det(I + 8 I) = 2 log 9.
    assert coding_rate_loss(SQUARE, FOUR).item() == pytest.approx(-math.log(9) / 2)
    assert coding_rate_loss(0 * SQUARE, FOUR).item() == 0


@pytest.mark.parametrize(("order", "random"), [(4, 3 / (4 * 6)), (8, 105 / (4 * 6 * 8 * 10))])
def test_moments_by_hand(order, random):
    descriptors = torch.nn.functional.normalize(randoms(1, 3, 4), dim=-1)
    first, second, third = descriptors[0]
    similarities = torch.stack([first @ second, first @ third, second @ third])
    expected = torch.log((similarities**order).mean() / random + 1e-6)
    assert torch.allclose(moment_loss(descriptors, torch.tensor([[True, True, True]]), order), expected)
    without_third = torch.log((first @ second) ** order / random + 1e-6)
    assert torch.allclose(moment_loss(descriptors, torch.tensor([[True, True, False]]), order), without_third)


def test_moments_are_those_of_the_products_of_channels():
    """The mean of ⟨y_c, y_d⟩⁴ over all c and d is ‖E[m mᵀ]‖², m the products of two channels."""
    descriptors = torch.nn.functional.normalize(randoms(50, 3), dim=-1)
    products = torch.einsum("ni,nj->nij", descriptors, descriptors).flatten(1)
    norm = (products.T @ products / 50).square().sum()
    assert torch.allclose((descriptors @ descriptors.T).pow(4).mean(), norm)


def test_moments_of_random_directions_are_zero():
    directions = torch.nn.functional.normalize(randoms(4, 600, 24), dim=-1)
    valid = torch.ones(4, 600, dtype=torch.bool)
    assert abs(moment_loss(directions, valid, 4).item()) < 0.05 and abs(moment_loss(directions, valid, 8).item()) < 0.3
    assert moment_loss(directions[:, :1].expand(-1, 600, -1), valid, 4).item() > 3


def fourth_moment(descriptors, valid):
    return moment_loss(descriptors, valid, 4)


def test_sigreg_by_hand():
    """Of one point along one direction |exp(i t p) − exp(−t²/2)|² = 1 − 2 cos(t p) exp(−t²/2) + exp(−t²)."""
    descriptors, direction = tensor([[[0.6, 0.8]]]), tensor([[1.0], [0.0]])
    t = torch.linspace(0, 5, 2001, dtype=torch.float64)
    distance = 1 - 2 * torch.cos(t * 0.6 * math.sqrt(2)) * torch.exp(-t.square() / 2) + torch.exp(-t.square())
    expected = 2 * torch.trapezoid(distance * torch.exp(-t.square() / 2), t)
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert torch.allclose(sigreg_loss(descriptors, valid, direction, knots=2001), expected)
    assert torch.allclose(sigreg_loss(descriptors, valid, direction), expected, rtol=1e-3), "a few knots are enough"


def test_sigreg_is_near_zero_for_an_even_spread_and_grows_as_descriptors_collapse():
    generator = torch.Generator().manual_seed(0)
    spread_out = torch.nn.functional.normalize(randoms(2, 4000, 32), dim=-1)
    axis = torch.nn.functional.normalize(randoms(1, 1, 32, seed=1), dim=-1)
    valid, directions = torch.ones(2, 4000, dtype=torch.bool), random_directions(64, 32, generator, "cpu").double()
    values = [
        sigreg_loss(torch.nn.functional.normalize(spread_out + share * axis, dim=-1), valid, directions).item()
        for share in (0.0, 0.5, 1.0, 4.0)
    ]
    assert values[0] < 0.003 and values == sorted(values) and values[-1] > 0.1
    flat = torch.nn.functional.normalize(spread_out * (torch.arange(32) < 8), dim=-1)
    assert sigreg_loss(flat, valid, directions).item() > 5 * values[0], "a low rank is seen too"


def test_rank_and_spread_by_hand():
    assert effective_rank(SQUARE, FOUR).item() == pytest.approx(2)
    assert effective_rank(SQUARE * tensor([1, 0]), FOUR).item() == pytest.approx(1)
    assert spread(SQUARE / math.sqrt(2), FOUR).item() == pytest.approx(1)
    assert spread(torch.ones_like(SQUARE), FOUR).item() == 0


@pytest.mark.parametrize("loss", [invariance_loss, decorrelation_loss])
def test_gradients_of_terms_on_two_views(loss):
    first, second = randoms(2, 9, 3).requires_grad_(), randoms(2, 9, 3, seed=1).requires_grad_()
    assert gradcheck(lambda a, b: loss(a, b, some_invalid()), (first, second))


def sigreg_of_two(descriptors, valid):
    generator = torch.Generator().manual_seed(3)
    directions = random_directions(2, descriptors.shape[-1], generator, "cpu").to(descriptors.dtype)
    return sigreg_loss(descriptors, valid, directions)


@pytest.mark.parametrize(
    "loss", [covariance_loss, coding_rate_loss, standardized, whitened, fourth_moment, sigreg_of_two]
)
def test_gradients_of_terms_on_one_view(loss):
    assert gradcheck(lambda x: loss(x, some_invalid()), randoms(2, 9, 3).requires_grad_())


def test_invalid_points_change_no_term_against_collapse():
    valid = some_invalid()
    first, second = randoms(2, 9, 3), randoms(2, 9, 3, seed=1)
    other, another = first.clone(), second.clone()
    other[~valid], another[~valid] = 99.0, -7.0
    for loss in (invariance_loss, decorrelation_loss):
        assert torch.allclose(loss(first, second, valid), loss(other, another, valid))
    for loss in (covariance_loss, coding_rate_loss, spread, effective_rank, fourth_moment, sigreg_of_two):
        assert torch.allclose(loss(first, valid), loss(other, valid))


def test_peak_agreement_by_hand():
    # One window of 2 x 2; S = (a, 0, 0, 0) in one view and flat in the other.
    a = math.log(3.0)
    first, second = tensor([[[[a, 0], [0, 0]]]]), torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    target = torch.softmax(tensor([a, 0, 0, 0]) / 2, 0)  # T = 1
    cross = -(target * (tensor([0.5, 1 / 6, 1 / 6, 1 / 6]).log() + math.log(0.25)) / 2).sum()
    expected = (cross + (target * target.log()).sum()) / math.log(4)
    assert peak_agreement_loss(first, second, valid, 2, (0, 0), 1.0).item() == pytest.approx(expected.item())


def test_peak_agreement_is_zero_without_a_valid_window_or_for_equal_maps():
    logits = randoms(2, 1, 16, 16)
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    assert peak_agreement_loss(logits, logits, valid, 8, (0, 0), 1.0).item() == pytest.approx(0, abs=1e-12)
    assert peak_agreement_loss(logits, logits, valid, 8, (0, 0), 0.5).item() > 0.01
    assert peak_agreement_loss(logits, -logits, ~valid, 8, (0, 0), 1.0).item() == 0


def test_peak_agreement_gradient_is_that_of_a_cross_entropy():
    logits, other = randoms(1, 1, 4, 4).requires_grad_(), randoms(1, 1, 4, 4, seed=1)
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    peak_agreement_loss(logits, other, valid, 4, (0, 0), 0.5).backward()
    with torch.no_grad():
        flat, flat_other = logits.flatten(), other.flatten()
        expected = (flat.softmax(0) - (flat + flat_other).softmax(0)) / 2 / math.log(16)
    assert torch.allclose(logits.grad.flatten(), expected)


def test_peakiness_by_hand():
    scores = tensor([[[[0.9, 0.1], [0.1, 0.1]]]])
    assert peakiness_loss(scores.logit(), 2).item() == pytest.approx(1 - (0.9 - 0.3))
    assert peakiness_loss(0 * scores, 2).item() == 1
    assert gradcheck(lambda x: peakiness_loss(x, 2, (1, 1)), randoms(1, 1, 5, 5).requires_grad_())


def test_subpixel_by_hand():
    found, other = tensor([[[3, 4], [1, 1], [9, 9]]]).requires_grad_(), tensor([[[0, 0], [1, 1], [0, 0]]])
    valid = torch.tensor([[True, True, False]])
    value = subpixel_loss(found, other, valid, scale=1.0)
    assert value.item() == pytest.approx((math.sqrt(26) - 1) / 2)
    value.backward()
    assert torch.allclose(found.grad[0], tensor([[3, 4], [0, 0], [0, 0]]) / math.sqrt(26) / 2)


def test_reliability_is_the_cross_entropy_with_the_similarity():
    logits = tensor([[0.0, 0.0, 5.0]]).requires_grad_()
    similarity = tensor([[1.0, -0.5, 1.0]]).requires_grad_()
    valid = torch.tensor([[True, True, False]])
    loss = reliability_loss(logits, similarity, valid)
    assert torch.allclose(loss, tensor(math.log(2)))  # σ(0) = ½ whatever the target
    loss.backward()
    # σ − r over the two valid points; a similarity below 0 counts as 0, an invalid point for nothing.
    assert torch.allclose(logits.grad, tensor([[-0.25, 0.25, 0.0]]))
    assert similarity.grad is None


def test_weights_of_points_act_as_repetition():
    first, second = randoms(1, 4, 3), randoms(1, 4, 3, seed=1)
    weighted = invariance_loss(first, second, tensor([[1.0, 2, 1, 0]]))
    order = [0, 1, 1, 2]
    repeated = invariance_loss(first[:, order], second[:, order], torch.ones(1, 4, dtype=torch.bool))
    assert torch.allclose(weighted, repeated)


def test_relations_of_descriptors_that_are_the_targets_already_move_nothing():
    target = F.normalize(randoms(2, 6, 8), dim=-1)
    target[:, 1] = target[:, 0]  # look-alikes share their label, and stay as they are
    valid = torch.ones(2, 6, dtype=torch.bool)
    predicted = target.clone().requires_grad_()
    loss = relation_loss(predicted, target, valid, 0.05, 0.05)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert gradient.abs().max() < 1e-6
    moved = F.normalize(target + 0.1 * randoms(2, 6, 8, seed=1), dim=-1)
    assert relation_loss(moved, target, valid, 0.05, 0.05) > loss > 0.2  # the entropy of the two that share


def test_relations_to_a_certain_teacher_are_a_classification():
    """T' near 0 names each point itself, which is InfoNCE; points that aren't seen take no part."""
    predicted, target = F.normalize(randoms(2, 3, 6, 8), dim=-1)
    valid = torch.ones(3, 6, dtype=torch.bool)
    valid[:, 4:] = False
    logits = predicted[:, :4] @ target[:, :4].transpose(1, 2) / 0.1
    expected = F.cross_entropy(logits.flatten(0, 1), torch.arange(4).repeat(3))
    assert torch.allclose(relation_loss(predicted, target, valid, 0.1, 1e-4), expected, atol=1e-5)
