"""Data-parallel training: processes started by torchrun, each with its share of every batch."""

from __future__ import annotations

import os

import torch
from torch import Tensor, distributed


class Processes:
    """The process group of a run; a group of one where torchrun started none.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1"; with several processes on GPUs each takes its own.

    Attributes:
        rank, count: which process this is, and of how many.
        device: where it works.
    """

    def __init__(self, device: str = "auto"):
        self.rank, self.count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        self.device = torch.device(device)
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: list[Tensor]) -> None:
        """Replace float tensors, in place, by their means over the processes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def decide(self, value: bool) -> bool:
        """What the first process says, in all of them: for decisions that depend on a clock."""
        if self.count == 1:
            return value
        flag = torch.tensor(float(value), device=self.device)
        distributed.broadcast(flag, 0)
        return bool(flag)

    def close(self) -> None:
        """Leave the process group."""
        if self.count > 1 and distributed.is_initialized():
            distributed.barrier()
            distributed.destroy_process_group()
