"""Backbones by name."""

from __future__ import annotations

from typing import Any

from tpr.networks.base import Dense, Network, sample_descriptors
from tpr.networks.dcn import DCN
from tpr.networks.s import Small
from tpr.networks.swin import Swin
from tpr.networks.vgg import VGG

__all__ = ["NETWORKS", "Dense", "Network", "build_network", "sample_descriptors"]

NETWORKS: dict[str, type[Network]] = {"s": Small, "vgg": VGG, "dcn": DCN, "swin": Swin}


def build_network(name: str, **options: Any) -> Network:
    """Make an untrained network.

    Raises:
        ValueError: no network has that name.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network named '{name}'; there are: {', '.join(NETWORKS)}")
    return NETWORKS[name](**options)
