"""Weights files: safetensors with the network's name and options as metadata."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tpr.networks import Network, build_network
from tpr.vlad import Vocabulary

# A layer's name in files of before.
RENAMED = re.compile(r"^rely\.")
# Of `Vocabulary`: its attributes by the names of the tensors.
VOCABULARY = {"centres": "vocabulary", "mean": "vocabulary.mean", "whitening": "vocabulary.whitening"}


class WeightsError(ValueError):
    """Weights that can't be used; the message names the file and says why."""


def shipped_weights(name: str = "s") -> Path:
    """The file of the weights that come with the package."""
    return Path(str(files("tpr") / "weights" / f"{name}.safetensors"))


def save_weights(
    path: str | Path, network: Network, name: str, options: dict, vocabulary: Vocabulary | None = None
) -> None:
    """Write a network's parameters in float32 with all that is needed to build it again, atomically.

    Args:
        path: a .safetensors file.
        network: the trained network.
        name: its name in the registry.
        options: what it was built with.
        vocabulary: for retrieval; its whitening is kept in float16.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    for attribute, key in VOCABULARY.items():
        array = getattr(vocabulary, attribute, None)
        if array is not None:
            tensors[key] = torch.from_numpy(array).to(torch.float32 if attribute == "centres" else torch.float16)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(ordered(save(tensors, {"network": name, "options": json.dumps(options)})))
    partial.replace(path)


def ordered(content: bytes) -> bytes:
    """A safetensors file with its header's keys sorted: safetensors itself orders the metadata at random."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def read_weights(path: str | Path) -> tuple[tuple[str, dict[str, Any]], dict[str, Tensor]]:
    """The network that a file of weights is for, as its name and options, and the tensors in it.

    Raises:
        WeightsError: the file is missing, truncated, or not of a network.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); copy it again") from error
    if "network" not in metadata:
        raise WeightsError(f"{path}: these aren't weights of a TPR network (no 'network' in their metadata)")
    return (metadata["network"], json.loads(metadata.get("options", "{}"))), tensors


def load_weights(path: str | Path) -> tuple[Network, Vocabulary | None]:
    """Build the network that a file of weights is for, on the CPU, in evaluation mode.

    Returns:
        The network and its vocabulary, None where it has none.

    Raises:
        WeightsError: the file is missing, truncated, or not of a network known here.
    """
    (name, options), tensors = read_weights(path)
    found = {attribute: tensors.pop(key).float().numpy() for attribute, key in VOCABULARY.items() if key in tensors}
    vocabulary = Vocabulary(**found) if found else None
    tensors = {RENAMED.sub("reliability_head.", key): value for key, value in tensors.items()}
    try:
        network = build_network(name, **options)
        network.load_state_dict(tensors)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: they don't fit the network '{name}': {reason}") from error
    channels_last = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
    return channels_last, vocabulary


def weights_digest(path: str | Path) -> str:
    """A digest of a weights file's content, 16 hexadecimal digits."""
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()
