"""The method in one place: two views, an online and a target encoder, the losses (TPR, CVPR 2023)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tpr.geometry import sample
from tpr.heads import perceptron, projector
from tpr.keypoints import nearest_maximum, refine, strongest
from tpr.losses.detection import peak_agreement_loss, peakiness_loss, reliability_loss, subpixel_loss
from tpr.losses.prediction import hard_loss, prediction_loss, soft_labels, soft_loss
from tpr.losses.relation import relation_loss
from tpr.losses.sigreg import random_directions, sigreg_loss
from tpr.losses.spread import (
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
from tpr.method import Labels, LossWeights, Method, Space
from tpr.networks import Dense, Network
from tpr.pairs import Pair, draw_points

WINDOW = 8


class Teacher(nn.Module):
    """The frozen model of a generation: encoder f and projector g, both averaged over steps, and predictor q."""

    def __init__(self, encoder: Network, project: nn.Module, predictor: nn.Module):
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.project, self.predictor = copy.deepcopy(project), copy.deepcopy(predictor)
        self.requires_grad_(False).eval()


class Learner(nn.Module):
    """Online encoder, target encoder and predictor; `forward` gives the losses of a batch of pairs.

    Args:
        network: the online encoder.
        weights: of the terms.
        method: how they are computed.
        bfloat16: run the encoders in bfloat16 (the losses stay in float32).
    """

    def __init__(
        self,
        network: Network,
        weights: LossWeights | None = None,
        method: Method | None = None,
        bfloat16: bool = False,
    ):
        super().__init__()
        self.weights, self.method, self.in_bfloat16 = weights or LossWeights(), method or Method(), bfloat16
        self.online = network
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.project = projector(self.method.projector, network.dim)
        self.target_project = copy.deepcopy(self.project).requires_grad_(False)
        self.predictor = perceptron(network.dim)
        self.generation, self.fixed = 0, False
        self.previous: Teacher | None = None
        if self.method.labels is Labels.generation:
            self.previous = Teacher(self.target, self.target_project, self.predictor)
        self.measured: tuple[Tensor, Tensor] | None = None

    def get_extra_state(self) -> dict[str, int]:
        """What of the state is no tensor: a GPU need not be asked for it each step."""
        return {"generation": self.generation, "fixed": self.fixed}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.generation, self.fixed = state["generation"], bool(state["fixed"])

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """θ_t ← τ θ_t + (1 − τ) θ_o; batch statistics are the target's own (`measure_statistics`)."""
        target: list[Tensor] = [*self.target.parameters(), *self.target_project.parameters()]
        online: list[Tensor] = [*self.online.parameters(), *self.project.parameters()]
        torch._foreach_lerp_(target, online, 1 - momentum)

    @torch.no_grad()
    def measure_statistics(self, batches: list[Tensor], generator: torch.Generator) -> None:
        """Measure the target's batch statistics anew: averaged parameters have other ones than those of any step.

        Args:
            batches: images [B, 1, H, W], as they are trained on.
            generator: for the choice of points (CPU).
        """
        self.train()
        modules = [*self.target.modules(), *self.target_project.modules()]
        norms = [m for m in modules if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and m.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        for images in batches:
            dense = self.encode(self.target, images)
            where = draw_points(dense.logits, self.method.points, generator)
            self.target_project(self.target.descriptors_at(dense.descriptors, where).flatten(0, 1))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @torch.no_grad()
    def fix_statistics(self) -> None:
        """Use the target's batch statistics of now in both encoders from here on, as they are used at inference.

        Each size that a network reads the image at is normalized by statistics of its own while these come from the
        batch, and by those of all sizes at inference: training goes on with the latter. Those of the descriptors'
        projection, which is read at points, stay the batch's.
        """
        for online, target in zip(self.online.buffers(), self.target.buffers(), strict=True):
            online.copy_(target)
        self.fixed = True

    @torch.no_grad()
    def begin_generation(self) -> None:
        """Freeze the model of now as the teacher of the next generation."""
        if self.previous is not None:
            self.previous = Teacher(self.target, self.target_project, self.predictor)
        self.generation += 1

    def train(self, mode: bool = True) -> Learner:
        """As `nn.Module.train`; what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.previous is not None:
            self.previous.eval()
        if self.fixed:
            for module in [*self.online.modules(), *self.target.modules()]:
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def encode(self, network: Network, images: Tensor) -> Dense:
        """A network's dense descriptors and logits, in float32."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            dense = network(images)
        reliability = None if dense.reliability is None else dense.reliability.float()
        return Dense(tuple(level.float() for level in dense.descriptors), dense.logits.float(), reliability)

    @torch.no_grad()
    def describe(self, network: Network, images: Tensor, where: Tensor) -> Tensor:
        """A network's descriptors at points: [2 B, N, D], not normalised, without gradient."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            descriptors = network.descriptors(images)
        return network.descriptors_at(descriptors, where)

    def compared(self, descriptors: Tensor, valid: Tensor) -> Tensor:
        """Unit descriptors in the space where prediction and target meet."""
        change = {Space.standardized: standardized, Space.whitened: whitened}.get(self.method.space)
        return F.normalize(change(descriptors, valid) if change else descriptors, dim=-1)

    def forward(
        self, pair: Pair, generator: torch.Generator, alpha: float = 0.0, weighted: bool = True
    ) -> dict[str, Tensor]:
        """The weighted terms of the loss; 'loss' is their sum.

        Args:
            pair: a batch of pairs of views.
            generator: for the choice of points (CPU).
            alpha: α of the soft labels.
            weighted: whether the scores weigh the points.
        """
        w, batch = self.weights, len(pair.first)
        images = torch.cat([pair.first, pair.second])
        dense = self.encode(self.online, images)
        points, there, valid = pair.correspondences(dense.logits[:batch].detach(), self.method.points, generator)
        where, both = torch.cat([points, there]), valid.repeat(2, 1)
        raw = self.online.descriptors_at(dense.descriptors, where)
        unit = F.normalize(raw, dim=-1)
        first, second = unit.split(batch)
        self.measured = first.detach(), valid
        scores = sample(dense.logits, where)[..., 0].sigmoid() if weighted else torch.ones_like(where[..., 0])
        weight = valid.float() * (scores[:batch] * scores[batch:]).detach().sqrt()
        terms: dict[str, Tensor] = {}
        if w.prediction or w.relation:
            described = self.describe(self.target, images, where)
        if w.prediction:
            terms["prediction"] = self.prediction(images, scores, raw, described, where, both, alpha)
        if w.relation:
            t, teacher = self.method.relation_temperature, self.method.relation_teacher
            target = F.normalize(described, dim=-1)
            terms["relation"] = relation_loss(unit.roll(batch, 0), target, both, t, teacher)
        if w.invariance:
            terms["invariance"] = invariance_loss(first, second, weight)
        if w.decorrelation:
            terms["decorrelation"] = decorrelation_loss(first, second, weight)
        if w.covariance:
            terms["covariance"] = (covariance_loss(first, valid) + covariance_loss(second, valid)) / 2
        if w.coding_rate:
            terms["coding_rate"] = coding_rate_loss(unit, both)
        if w.moment:
            terms["moment"] = moment_loss(unit, both, self.method.order)
        if w.sigreg:
            directions = random_directions(self.method.directions, unit.shape[-1], generator, unit.device)
            terms["sigreg"] = sigreg_loss(unit, both, directions)
        if w.reliability:
            terms["reliability"] = self.reliability(dense, first, second, where, valid)
        terms |= self.detection(pair, dense.logits, generator)
        terms = {name: getattr(w, name) * value for name, value in terms.items()}
        return terms | {"loss": torch.stack(list(terms.values())).sum()}

    def distribution(self) -> dict[str, Tensor]:
        """Effective rank and spread of the descriptors of the last batch's first views."""
        assert self.measured is not None
        descriptors, valid = self.measured
        return {"rank": effective_rank(descriptors, valid).float(), "spread": spread(descriptors, valid)}

    def prediction(
        self,
        images: Tensor,
        scores: Tensor,
        raw: Tensor,
        described: Tensor,
        where: Tensor,
        valid: Tensor,
        alpha: float,
    ) -> Tensor:
        """L_hard or L_soft, each view predicting the other; all arguments hold the first views, then the second."""
        batch = len(images) // 2
        predicted = self.predictor(self.project(raw.flatten(0, 1))).reshape(raw.shape)
        with torch.no_grad():
            target = self.target_project(described.flatten(0, 1)).reshape(raw.shape)
        loss = prediction_loss(self.compared(predicted, valid), self.compared(target, valid).roll(batch, 0))
        if not self.method.joint:
            scores = scores.detach()
        if self.method.labels is Labels.target:
            first = second = described
        elif self.previous is not None and self.generation > 0:
            first, second = self.taught(self.previous, images, where)
        else:
            return hard_loss(loss, scores, scores.roll(batch, 0), valid)
        first, second = self.compared(first, valid), self.compared(second, valid)
        labels = soft_labels(first, second.roll(batch, 0), alpha, self.method.temperature)
        return soft_loss(loss, labels, scores, scores.roll(batch, 0), valid)

    @torch.no_grad()
    def taught(self, teacher: Teacher, images: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """A teacher's predictions q(g(z)) and targets g(z) at points, each [2 B, N, D]."""
        described = self.describe(teacher.encoder, images, where)
        target = teacher.project(described.flatten(0, 1))
        return teacher.predictor(target).reshape(described.shape), target.reshape(described.shape)

    def reliability(self, dense: Dense, first: Tensor, second: Tensor, where: Tensor, valid: Tensor) -> Tensor:
        """How far the scores are from the similarity that the descriptors reach across the views."""
        pair = [F.normalize(standardized(descriptors, valid), dim=-1) for descriptors in (first, second)]
        similarity = (pair[0] * pair[1]).sum(-1).repeat(2, 1)
        if dense.reliability is None:
            logits = sample(dense.logits, where)
        else:
            logits = sample(dense.reliability, where, self.online.stride)
        return reliability_loss(logits[..., 0], similarity, valid.repeat(2, 1))

    def detection(self, pair: Pair, logits: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of the detector, unweighted."""
        w = self.weights
        first, second = logits.chunk(2)
        terms = {}
        offset = tuple(torch.randint(WINDOW, (2,), generator=generator).tolist())
        if w.peaks:
            warped, inside = pair.warp(second)
            terms["peaks"] = peak_agreement_loss(first, warped, inside, WINDOW, offset, self.method.sharpening)
        if w.peakiness:
            terms["peakiness"] = peakiness_loss(logits, WINDOW, offset)
        if w.subpixel:
            peaks, exist = strongest(first, self.method.points // 2)
            found, seen = pair.match(refine(first[:, 0], peaks), margin=4)
            nearby, some = nearest_maximum(second, found)
            terms["subpixel"] = subpixel_loss(found, refine(second[:, 0], nearby), exist & seen & some)
        return terms
