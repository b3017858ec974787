"""The method in one place: two views, an online and a target encoder, the losses (TPR, CVPR 2023)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tpr.keypoints import local_maxima
from tpr.losses.detection import peak_agreement_loss, warp_map
from tpr.losses.prediction import prediction_loss, weighted_loss
from tpr.losses.spread import (
    coding_rate_loss,
    decorrelation_loss,
    effective_rank,
    invariance_loss,
    standardized,
)
from tpr.networks import Network, sample_descriptors
from tpr.views import ViewPair


@dataclass
class LossWeights:
    """How much each term counts; 0 leaves it out."""

    prediction: float = 1.0
    invariance: float = 0.0
    decorrelation: float = 0.3
    coding_rate: float = 0.0
    peaks: float = 0.3
    standardize: bool = True


def predictor(dim: int) -> nn.Module:
    """q: the two-layer perceptron that predicts the target's descriptor from the online one."""
    return nn.Sequential(
        nn.Linear(dim, 2 * dim, bias=False), nn.BatchNorm1d(2 * dim), nn.ReLU(inplace=True), nn.Linear(2 * dim, dim)
    )


def draw_points(logits: Tensor, count: int, generator: torch.Generator, margin: int = 4) -> Tensor:
    """Half of the points at the score map's maxima (likelier where it is high), half anywhere: [B, count, 2]."""
    batch, _, height, width = logits.shape
    noise = torch.rand(logits.shape, generator=generator).to(logits.device)
    keys = logits - torch.log(-torch.log(noise.clamp(1e-9, 1 - 1e-9)))
    inside = torch.zeros_like(keys, dtype=torch.bool)
    inside[..., margin:-margin, margin:-margin] = True
    keys = keys.masked_fill(~(local_maxima(logits, 2) & inside), -1e9).flatten(1)
    top = keys.topk(count // 2, dim=1).indices
    peaks = torch.stack([top % width, top // width], -1).float()
    jitter = torch.rand(peaks.shape, generator=generator).to(peaks.device) - 0.5
    size = torch.tensor([width - 1.0 - 2 * margin, height - 1.0 - 2 * margin])
    anywhere = torch.rand(batch, count - count // 2, 2, generator=generator) * size + margin
    return torch.cat([peaks + jitter, anywhere.to(peaks.device)], 1)


class Learner(nn.Module):
    """Online encoder, target encoder and predictor; `forward` gives the losses of a batch of pairs."""

    def __init__(self, network: Network, weights: LossWeights, points: int = 128, sharpening: float = 0.5):
        super().__init__()
        self.online = network
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.predictor = predictor(network.dim)
        self.weights, self.points, self.sharpening = weights, points, sharpening

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """θ_t ← τ θ_t + (1 − τ) θ_o; buffers are copied."""
        for target, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
            target.lerp_(online, 1 - momentum)
        for target, online in zip(self.target.buffers(), self.online.buffers(), strict=True):
            target.copy_(online)

    def forward(self, pair: ViewPair, generator: torch.Generator) -> dict[str, Tensor]:
        """The weighted terms of the loss ('loss' is their sum) and the effective rank."""
        w = self.weights
        batch = len(pair.first)
        both = torch.cat([pair.first, pair.second])
        dense = self.online(both)
        logits = dense.logits.split(batch)
        points = draw_points(logits[0].detach(), self.points, generator)
        there, valid = pair.match(points, margin=4)
        where = torch.cat([points, there])
        raw = sample_descriptors(dense.descriptors, where, self.online.stride)
        unit = F.normalize(raw, dim=-1)
        first, second = unit.split(batch)
        terms: dict[str, Tensor] = {}
        if w.prediction:
            with torch.no_grad():
                target = sample_descriptors(self.target(both).descriptors, where, self.target.stride)
            predicted = self.predictor(raw.flatten(0, 1)).reshape(raw.shape)
            if w.standardize:
                both_valid = valid.repeat(2, 1)
                target, predicted = standardized(target, both_valid), standardized(predicted, both_valid)
            target, predicted = F.normalize(target, dim=-1), F.normalize(predicted, dim=-1)
            swapped = torch.cat([target[batch:], target[:batch]])
            scores = sample_descriptors(dense.logits, where, 1)[..., 0].sigmoid()
            other = torch.cat([scores[batch:], scores[:batch]])
            terms["prediction"] = w.prediction * weighted_loss(
                prediction_loss(predicted, swapped), scores, other, valid.repeat(2, 1)
            )
        if w.invariance:
            terms["invariance"] = w.invariance * invariance_loss(first, second, valid)
        if w.decorrelation:
            terms["decorrelation"] = w.decorrelation * decorrelation_loss(first, second, valid)
        if w.coding_rate:
            terms["coding_rate"] = w.coding_rate * coding_rate_loss(unit, valid.repeat(2, 1))
        if w.peaks:
            warped, inside = warp_map(logits[1], pair.forward)
            offset = torch.randint(8, (2,), generator=generator).tolist()
            terms["peaks"] = w.peaks * peak_agreement_loss(
                logits[0], warped, inside, 8, (offset[0], offset[1]), self.sharpening
            )
        terms["loss"] = sum(terms.values())
        terms["rank"] = effective_rank(first, valid)
        return terms
