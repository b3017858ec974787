"""Backbones by name."""

from __future__ import annotations

from tpr.networks.base import Dense, Network, sample_descriptors
from tpr.networks.s import Small

__all__ = ["NETWORKS", "Dense", "Network", "build_network", "sample_descriptors"]

NETWORKS: dict[str, type[Network]] = {"s": Small}


def build_network(name: str, **options) -> Network:
    """Make an untrained network.

    Raises:
        ValueError: no network has that name.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network named '{name}'; there are: {', '.join(NETWORKS)}")
    return NETWORKS[name](**options)
