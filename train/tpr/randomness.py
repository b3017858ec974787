"""Random generators keyed by seed, purpose and step, so that resuming needs no state."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator_for(*key: int | str) -> torch.Generator:
    """A generator (CPU) seeded by a hash of a key, e.g. (seed, "views", process, step)."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def hashed(name: str) -> float:
    """A number in [0, 1) that depends on a name alone."""
    return int(hashlib.blake2b(name.encode(), digest_size=4).hexdigest(), 16) / 2**32


def generator_on(generator: torch.Generator, device: torch.device | str) -> torch.Generator:
    """A generator on `device`, seeded by the next number of another one: for numbers by the pixel."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def smooth_field(
    batch: int, knots: int, height: int, width: int, generator: torch.Generator, device: torch.device | str
) -> Tensor:
    """Uniform numbers in [0, 1] at knots x knots places, with a smooth surface through them: [B, 1, height, width]."""
    low = torch.rand(batch, 1, knots, knots, generator=generator).to(device)
    field = torch.nn.functional.interpolate(low, size=(height, width), mode="bicubic", align_corners=True)
    return field.clamp(0, 1)
