"""The method: no negatives, stop-gradient, symmetry, the moving target, generations."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from tpr.geometry import sample
from tpr.heads import Projector
from tpr.keypoints import nearest_maximum, refine, strongest
from tpr.learner import Learner
from tpr.losses.prediction import hard_loss, prediction_loss
from tpr.method import Labels, LossWeights, Method, Space
from tpr.networks import Dense, Network, build_network, sample_descriptors
from tpr.pairs import LandmarkPair, ViewPair
from tpr.schedules import curriculum, momentum, starts_generation, warmup_cosine

PREDICTION = LossWeights(prediction=1, invariance=0, decorrelation=0, peaks=0)


class Tiny(Network):
    """Descriptors and scores that share nothing, so that a gradient tells which of them a term moves."""

    dim, stride, multiple = 16, 4, 4

    def __init__(self):
        super().__init__()
        self.describe = nn.Sequential(
            nn.Conv2d(1, 16, 8, 4, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)
        )
        self.detect = nn.Conv2d(1, 1, 5, 1, 2)

    def dense(self, image: torch.Tensor) -> Dense:
        return Dense((self.describe(image),), 8 * self.detect(image))


def small(weights: LossWeights = PREDICTION, **method) -> Learner:
    torch.manual_seed(0)
    return Learner(Tiny(), weights, Method(points=32, **method))


def shifted_pair(batch: int = 4, size: int = 64, shift: int = 6) -> ViewPair:
    """The second view shows what lies `shift` pixels further right."""
    images = F.interpolate(torch.rand(batch, 1, 24, 24, generator=seeded()), size=(size, size + shift), mode="bicubic")
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    grid = torch.stack([x, y]).float().expand(batch, 2, size, size)
    offset = torch.tensor([float(shift), 0])[:, None, None]
    return ViewPair(images[..., :size].clamp(0, 1), images[..., shift:].clamp(0, 1), grid - offset, grid + offset)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_negatives_in_the_prediction_loss():
    """A point's term, and its gradient, don't see the other points: their weights' sum is all that they share."""
    first = F.normalize(torch.randn(1, 8, 16, generator=seeded(1)), dim=-1).requires_grad_()
    second = F.normalize(torch.randn(1, 8, 16, generator=seeded(2)), dim=-1)
    scores, valid = torch.rand(1, 8, generator=seeded(3)), torch.ones(1, 8, dtype=torch.bool)

    def gradient_at_first(target: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(hard_loss(prediction_loss(first, target), scores, scores, valid), first)[0][0, 0]

    others = F.normalize(torch.randn(1, 7, 16, generator=seeded(4)), dim=-1)
    changed = torch.cat([second[:, :1], others], 1)
    assert torch.equal(prediction_loss(first, second)[0, 0], prediction_loss(first, changed)[0, 0])
    assert torch.equal(gradient_at_first(second), gradient_at_first(changed))


@pytest.mark.parametrize(
    ("space", "statistics"), [(Space.raw, False), (Space.standardized, True), (Space.whitened, True)]
)
def test_other_points_act_through_the_named_statistics_alone(space, statistics):
    """The whole path from descriptors to a point's term, batch statistics of the predictor fixed."""
    learner = small(space=space).eval()
    learner.predictor[1].running_mean.normal_()
    raw, target = torch.randn(2, 4, 32, 16, generator=seeded())
    valid = torch.ones(4, 32, dtype=torch.bool)

    def term(raw: torch.Tensor) -> torch.Tensor:
        predicted = learner.predictor(learner.project(raw.flatten(0, 1))).reshape(raw.shape)
        return prediction_loss(learner.compared(predicted, valid), learner.compared(target, valid))[0, 0]

    changed = raw.clone()
    changed[0, 1:] = torch.randn(31, 16, generator=seeded(7))
    changed[1:] = torch.randn(3, 32, 16, generator=seeded(8))
    difference = (term(raw) - term(changed)).abs().item()
    assert difference > 1e-3 if statistics else difference < 1e-6


@pytest.mark.parametrize(
    "weight", ["prediction", "invariance", "decorrelation", "covariance", "coding_rate", "moment", "sigreg"]
)
def test_each_term_alone_reaches_the_descriptors(weight):
    learner = small(LossWeights(**dict.fromkeys(vars(LossWeights()), 0.0) | {weight: 1.0}))
    terms = learner(shifted_pair(), seeded())
    assert terms["loss"].item() == pytest.approx(terms[weight].item()) and torch.isfinite(terms["loss"])
    terms["loss"].backward()
    assert learner.online.describe[0].weight.grad.abs().sum() > 0
    assert learner.online.detect.weight.grad is None


@pytest.mark.parametrize("weight", ["peaks", "peakiness", "subpixel"])
def test_each_term_of_the_detector_reaches_the_scores_alone(weight):
    learner = small(LossWeights(**dict.fromkeys(vars(LossWeights()), 0.0) | {weight: 2.0}))
    pair = shifted_pair()
    pair.second = (pair.second + 0.1 * torch.randn(pair.second.shape, generator=seeded())).clamp(0, 1)
    terms = learner(pair, seeded())
    terms["loss"].backward()
    assert learner.online.detect.weight.grad.abs().sum() > 0
    assert learner.online.describe[0].weight.grad is None


def test_the_prediction_loss_moves_the_scores_only_if_asked():
    for joint in (False, True):
        learner = small(joint=joint)
        learner(shifted_pair(), seeded())["loss"].backward()
        assert (learner.online.detect.weight.grad is not None) == joint


def test_no_gradient_enters_the_target_and_it_follows_the_online_encoder():
    learner = small(projector=Projector.mlp)
    before = copy.deepcopy(learner.target.state_dict())
    learner(shifted_pair(), seeded())["loss"].backward()
    assert all(p.grad is None for p in [*learner.target.parameters(), *learner.target_project.parameters()])
    assert learner.project[0].weight.grad.abs().sum() > 0
    with torch.no_grad():
        for parameter in [*learner.online.parameters(), *learner.project.parameters()]:
            parameter += 1
    learner.update_target(0.75)
    for name, value in learner.target.named_parameters():
        assert torch.allclose(value, before[name] + 0.25, atol=1e-6)
    assert torch.allclose(learner.target_project[0].weight, learner.project[0].weight - 0.75, atol=1e-6)


def test_the_loss_is_symmetric_in_the_views():
    learner = small(space=Space.raw)
    pair = shifted_pair()
    points = torch.rand(4, 20, 2, generator=seeded()) * 40 + 12
    there, valid = pair.match(points, margin=4)
    one = LandmarkPair(pair.first, pair.second, points, there, valid)
    other = LandmarkPair(pair.second, pair.first, there, points, valid)
    assert learner(one, seeded())["loss"].item() == pytest.approx(learner(other, seeded())["loss"].item(), abs=1e-5)


def test_hard_loss_of_the_learner_worked_out_step_by_step():
    learner, pair = small(space=Space.raw).eval(), shifted_pair()
    points = torch.rand(4, 20, 2, generator=seeded()) * 40 + 12
    there, valid = pair.match(points, margin=4)
    terms = learner(LandmarkPair(pair.first, pair.second, points, there, valid), seeded())
    total = 0.0
    for here, elsewhere, a, b in ((pair.first, pair.second, points, there), (pair.second, pair.first, there, points)):
        dense, other, target = learner.online(here), learner.online(elsewhere), learner.target(elsewhere)
        for i in range(4):
            y = learner.predictor(sample_descriptors((dense.descriptors[0][i : i + 1],), a[i : i + 1], 4)[0])
            t = sample_descriptors((target.descriptors[0][i : i + 1],), b[i : i + 1], 4)[0]
            s = sample(dense.logits[i : i + 1], a[i : i + 1])[0, :, 0].sigmoid()
            s = s * sample(other.logits[i : i + 1], b[i : i + 1])[0, :, 0].sigmoid() * valid[i]
            total += ((s / s.sum()) * (1 - F.cosine_similarity(y, t))).sum().item() / 8
    assert terms["prediction"].item() == pytest.approx(total, rel=1e-4)


def test_generations():
    pair = shifted_pair()
    learner, hard = small(labels=Labels.generation, temperature=0.5), small()
    state = copy.deepcopy(learner.state_dict())

    def loss(alpha: float) -> float:
        learner.load_state_dict(state)
        return learner(pair, seeded(), alpha)["loss"].item()

    reference = hard(pair, seeded())["loss"].item()
    assert loss(3.0) == pytest.approx(reference), "the first generation has no teacher: all labels are 1"
    with torch.no_grad():
        for parameter in learner.target.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=seeded())
    learner.begin_generation()
    state = copy.deepcopy(learner.state_dict())
    teacher, target = copy.deepcopy(learner.previous.state_dict()), learner.target.state_dict()
    assert learner.generation == 1 and all(torch.equal(teacher[f"encoder.{name}"], target[name]) for name in target)
    assert loss(3.0) != pytest.approx(loss(0.0), abs=1e-3)
    learner.online.requires_grad_(True)
    learner(pair, seeded(), 3.0)["loss"].backward()
    learner.update_target(0.0)
    assert all(torch.equal(learner.previous.state_dict()[name], teacher[name]) for name in teacher), "it stays frozen"
    assert all(p.grad is None for p in learner.previous.parameters())


def test_batch_statistics_of_the_target_are_its_own():
    learner = small()
    batches = list(torch.rand(3, 4, 1, 32, 32, generator=seeded()))
    with torch.no_grad():
        for parameter in learner.target.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded())
    learner.measure_statistics(batches, seeded())
    convolution, norm = learner.target.describe[:2]
    found = torch.cat(batches)
    with torch.no_grad():
        expected = convolution(found).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1 and not torch.allclose(learner.online.describe[1].running_mean, expected, atol=1e-3)
    learner.update_target(0.5)
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-4, atol=1e-5)


def test_fixed_statistics_make_training_what_inference_is():
    learner, images = small(), torch.rand(4, 1, 32, 32, generator=seeded())
    learner.measure_statistics([images], seeded())
    learner.fix_statistics()
    learner.train()
    online, target = learner.online, learner.target
    assert torch.equal(online.describe[1].running_mean, target.describe[1].running_mean)
    trained = online(images[:2]).descriptors[0]
    kept = online.describe[1].running_mean.clone()
    torch.testing.assert_close(trained, online.eval()(images[:2]).descriptors[0])
    other = Learner(Tiny(), PREDICTION, Method(points=32))
    other.load_state_dict(learner.state_dict())
    assert not other.train().online.describe[1].training and other.predictor[1].training
    other.measure_statistics([images / 2], seeded())
    assert torch.equal(other.target.describe[1].running_mean, kept)


def test_labels_of_a_generation_compare_predictions_with_targets():
    """l_c = exp(−α (1 − ⟨q(g(z)), g(z')⟩) / λ), all three of the frozen model, in evaluation mode."""
    pair = shifted_pair()
    learner = small(labels=Labels.generation, space=Space.raw, projector=Projector.mlp)
    learner(pair, seeded())
    learner.begin_generation()
    teacher = copy.deepcopy(learner.previous).eval()
    with torch.no_grad():
        for parameter in [*learner.target.parameters(), *learner.predictor.parameters(), *learner.project.parameters()]:
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded())
    points = torch.rand(4, 20, 2, generator=seeded()) * 40 + 12
    there, _ = pair.match(points)
    images, where = torch.cat([pair.first, pair.second]), torch.cat([points, there])
    learner.train()
    first, second = learner.taught(learner.previous, images, where)
    described = teacher.encoder.descriptors_at(teacher.encoder(images).descriptors, where)
    target = teacher.project(described.flatten(0, 1))
    torch.testing.assert_close(second.flatten(0, 1), target)
    torch.testing.assert_close(first.flatten(0, 1), teacher.predictor(target))
    assert not torch.allclose(first, second, atol=0.1)


def test_scores_weigh_the_points_only_once_they_mean_something():
    pair = shifted_pair()

    def loss(shift: float, weighted: bool) -> float:
        learner = small(LossWeights(prediction=1, invariance=1, decorrelation=0, peaks=0)).eval()
        with torch.no_grad():
            learner.online.detect.weight += shift * torch.randn(1, 1, 5, 5, generator=seeded())
        points = torch.rand(4, 20, 2, generator=seeded()) * 40 + 12
        given = LandmarkPair(pair.first, pair.second, points, *pair.match(points, margin=4))
        return learner(given, seeded(), weighted=weighted)["loss"].item()

    assert loss(0.0, False) == loss(1.0, False)
    assert loss(0.0, True) != pytest.approx(loss(1.0, True), abs=1e-4)


def test_labels_of_the_target_soften_the_loss():
    pair = shifted_pair()
    soft, hard = small(labels=Labels.target), small()
    assert soft(pair, seeded(), 0.0)["loss"].item() == pytest.approx(hard(pair, seeded())["loss"].item())
    assert soft(pair, seeded(), 5.0)["loss"].item() < hard(pair, seeded())["loss"].item() - 0.05


def test_bfloat16_encoders_leave_the_losses_in_float32():
    learner = small(LossWeights())
    learner.in_bfloat16 = True
    terms = learner(shifted_pair(), seeded())
    assert all(value.dtype == torch.float32 or name == "rank" for name, value in terms.items())
    exact = small(LossWeights())(shifted_pair(), seeded())
    assert terms["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.1)


def test_schedules():
    assert [curriculum(step, 100, (0.2, 1.0)) for step in (0, 25, 50, 99)] == pytest.approx([0.2, 0.6, 1.0, 1.0])
    assert momentum(0, 100, 0.9) == pytest.approx(0.9) and momentum(100, 100, 0.9) == pytest.approx(1.0)
    assert momentum(50, 100, 0.9) == pytest.approx(0.95)
    assert warmup_cosine(0, 100, 10) == pytest.approx(0.1) and warmup_cosine(100, 100, 10) == pytest.approx(0)
    assert [step for step in range(10) if starts_generation(step, 10, 3)] == [4, 7]
    assert not any(starts_generation(step, 10, 1) for step in range(10))


def test_refined_peaks_of_a_known_parabola():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    logits = -((x - 9.3) ** 2) - (y - 6.8) ** 2
    logits = torch.stack([logits, logits.roll((2, 1), (0, 1))])[:, None].requires_grad_()
    peaks, exist = strongest(logits, 2)
    assert exist.tolist() == [[True, False], [True, False]]
    refined = refine(logits[:, 0], peaks)
    assert torch.allclose(refined[:, 0], torch.tensor([[9.3, 6.8], [10.3, 8.8]]), atol=1e-4)
    refined[0, 0, 0].backward()
    # d(offset)/d(right neighbour) > 0: a higher one pulls the peak to it.
    assert logits.grad[0, 0, 7, 10] > 0 and logits.grad[0, 0, 7, 8] < 0
    nearby, some = nearest_maximum(logits, torch.tensor([[[10.6, 5.9], [3, 3]]]).expand(2, 2, 2), radius=2)
    assert nearby[0, 0].tolist() == [9, 7] and some.tolist() == [[True, False], [False, False]]


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("in_bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_a_step_of_the_whole_method_on_each_device_in_each_precision(device, in_bfloat16):
    torch.manual_seed(0)
    network = build_network("s", dim=12, widths=(8, 8, 16, 16), counts=(1, 1, 0.6), per_size=8)
    weights = LossWeights(prediction=0.5, decorrelation=0.3, moment=0.03, sigreg=0.1, reliability=0.3, peaks=0.3)
    method = Method(points=32, labels=Labels.generation)
    learner = Learner(network, weights, method, in_bfloat16).to(device, memory_format=torch.channels_last)
    pair = shifted_pair()
    pair = ViewPair(*(x.to(device) for x in (pair.first, pair.second, pair.forward, pair.backward)))
    learner.measure_statistics([pair.first], seeded())
    learner.begin_generation()
    learner.fix_statistics()
    learner.train()
    terms = learner(pair, seeded(), alpha=1.0)
    terms["loss"].backward()
    assert all(value.isfinite() and value.dtype == torch.float32 for value in terms.values())
    assert all(p.grad.isfinite().all() for p in learner.online.parameters())
    assert all(p.grad.abs().sum() > 0 for p in learner.online.projection.parameters())
    learner.update_target(0.9)
    assert all(value.isfinite() for value in learner.distribution().values())
