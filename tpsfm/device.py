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
    for kind, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        if name.startswith(kind) and not backend.is_available():
            raise TpsfmError(f"device '{name}': no GPU that PyTorch can use here; take --device cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise TpsfmError(f"no device '{name}'; there are: auto, cpu, cuda") from None


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, with which networks run some twice as fast."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.2 cannot tell
    return device.type == "cpu" and (able.get("avx512_bf16", False) or able.get("amx_bf16", False))
