"""Where networks run and descriptors are matched."""

from __future__ import annotations

import torch

from tpsfm.errors import TpsfmError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one, else the CPU.

    Raises:
        TpsfmError: there is no GPU that PyTorch can use, or no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TpsfmError(f"device '{name}': no GPU that PyTorch can use here; take --device cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise TpsfmError(f"no device '{name}'; there are: auto, cpu, cuda") from None
