"""What a network costs: its parameters and the multiplications of one image."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from tpr.networks import NETWORKS, Network, build_network
from tpr.networks.base import parameters_of


@dataclass(frozen=True)
class Complexity:
    """A row of the table of networks.

    Attributes:
        name: in the registry.
        parameters: how many.
        macs: multiply-accumulates of one image.
        dim: descriptor dimension.
        stride: pixels from one descriptor to the next.
    """

    name: str
    parameters: int
    macs: int
    dim: int
    stride: int


def macs_of(network: Network, height: int = 480, width: int = 640) -> int:
    """Multiply-accumulates of one image of height x width pixels, for any device: nothing is computed.

    Those of convolutions and matrix products; interpolation and what is done value by value doesn't count.
    """
    shape_only = copy.deepcopy(network).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shape_only(torch.empty(1, 1, height, width, device="meta"))
    return counter.get_total_flops() // 2


def table(height: int = 480, width: int = 640) -> list[Complexity]:
    """One row for each network of the registry, with its default options, the cheapest first."""
    rows = []
    for name in NETWORKS:
        with torch.device("meta"):
            network = build_network(name)
        macs = macs_of(network, height, width)
        rows.append(Complexity(name, parameters_of(network), macs, network.dim, network.stride))
    return sorted(rows, key=lambda row: row.macs)
