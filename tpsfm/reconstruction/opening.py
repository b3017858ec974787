"""A map that was made, as later steps open it."""

from __future__ import annotations

from pathlib import Path

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model
from tpsfm.io.workspace import Workspace
from tpsfm.photos import file_digest


def open_map(root: Path, model: int = 0) -> tuple[Workspace, Model]:
    """A workspace and the map in it.

    Args:
        model: which of its models; 0 is the largest, 1, 2, ... those that don't connect to it.

    Raises:
        TpsfmError: `root` is no workspace, holds no map yet, or not that model.
    """
    workspace = Workspace.open(root)
    if not (workspace.sparse / "images.bin").exists():
        raise TpsfmError(f"{root}: there is no map yet; run 'tpsfm reconstruct' or 'tpsfm map'")
    workspace = workspace.of_model(model)
    if not (workspace.sparse / "images.bin").exists():
        count = len(list((Workspace.open(root).sparse).glob("[0-9]*/images.bin")))
        raise TpsfmError(f"{root}: there is no model {model}; its map has {f'models 0 to {count}' if count else 'one'}")
    return workspace, read_model(workspace.sparse)


def map_digest(workspace: Workspace) -> str:
    """Digest of this build of a workspace's map."""
    return file_digest(workspace.sparse / "images.bin")


def image_folder(workspace: Workspace) -> Path:
    """Where the photos of a workspace lie.

    Raises:
        TpsfmError: nothing is extracted yet, or the folder is gone.
    """
    folder = workspace.images
    if not folder.is_dir():
        again = "'tpsfm extract'" if workspace.features.exists() else "'tpsfm import'"
        raise TpsfmError(f"{workspace.root}: its photos' folder {folder} is gone; run {again} on the new one")
    return folder
