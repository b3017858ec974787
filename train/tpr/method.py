"""What is learned by: how much each term of the loss counts, and how they are computed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tpr.heads import Projector


@dataclass
class LossWeights:
    """How much each term counts; 0 leaves it out.

    Attributes:
        prediction: the paper's, `losses.prediction`.
        relation: how points relate to each other, `losses.relation`.
        invariance, decorrelation, covariance, coding_rate, moment: against collapse, `losses.spread`.
        sigreg: the same, `losses.sigreg`.
        reliability, peaks, peakiness, subpixel: of the detector, `losses.detection`.
    """

    prediction: float = 1.0
    relation: float = 0.0
    invariance: float = 1.0
    decorrelation: float = 1.0
    covariance: float = 0.0
    coding_rate: float = 0.0
    moment: float = 0.0
    sigreg: float = 0.0
    reliability: float = 0.0
    peaks: float = 0.3
    peakiness: float = 0.0
    subpixel: float = 0.0


class Space(Enum):
    """What is done to descriptors before prediction and target are compared; all but `raw` against collapse."""

    raw = "raw"
    standardized = "standardized"
    whitened = "whitened"


class Labels(Enum):
    """Where the labels l_c come from: all 1 (L_hard), the target encoder of now, or that of the previous generation."""

    hard = "hard"
    target = "target"
    generation = "generation"


@dataclass
class Method:
    """How the terms are computed.

    Attributes:
        points: points a pair.
        directions: random directions a step of SIGReg.
        order: of the moment of similarities.
        space: where prediction and target are compared.
        labels: where the labels come from.
        temperature: λ of the soft labels.
        relation_temperature, relation_teacher: T and T' of the relations.
        projector: g.
        sharpening: T of the peak agreement; 1 asks for repeatability alone.
        joint: whether the prediction loss moves the scores that weigh it, or not.
        weighted_after: the share of the run after which the scores weigh the points, in the prediction loss and in
            invariance and decorrelation: at the start of training they mean nothing yet.
        fixed_after: the share of the run after which batch normalization uses fixed statistics; 0: from the start,
            those of the weights that the run starts from.
    """

    points: int = 128
    directions: int = 64
    order: int = 8
    space: Space = Space.standardized
    labels: Labels = Labels.hard
    temperature: float = 1.0
    relation_temperature: float = 0.05
    relation_teacher: float = 0.03
    projector: Projector = Projector.none
    sharpening: float = 0.5
    joint: bool = False
    weighted_after: float = 0.5
    fixed_after: float = 1.0
