"""What changes over a run, as functions of the step."""

from __future__ import annotations

import math


def half_cosine(step: int, steps: int) -> float:
    """From 1 at the first step to 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Rises linearly to 1 over the warm-up, then falls to 0 as half a cosine of the whole run."""
    return min(1.0, (step + 1) / max(warmup, 1)) * half_cosine(step, steps)


def curriculum(step: int, steps: int, ends: tuple[float, float]) -> float:
    """From the first to the last value, linearly over the first half of the run."""
    return ends[0] + (ends[1] - ends[0]) * min(1.0, 2 * step / steps)


def momentum(step: int, steps: int, start: float) -> float:
    """τ = 1 − (1 − τ_0) (1 + cos(π t / T)) / 2: from its start to 1. Source: BYOL."""
    return 1 - (1 - start) * half_cosine(step, steps)


def starts_generation(step: int, steps: int, generations: int) -> bool:
    """Whether a generation after the first begins at a step; all are equally long."""
    return step > 0 and (step * generations) // steps > ((step - 1) * generations) // steps
