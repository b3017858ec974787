"""A COLMAP model made a workspace."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import replace_folder
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.report import record_map

_OTHERS = {  # what to do with the files of other programs, by how their names end
    ".out": "COLMAP reads no Bundler files; write its poses as a CSV and run 'tpsfm reconstruct --poses'",
    "transforms.json": "run 'tpsfm reconstruct --poses' on it",
    ".json": "of OpenMVG's sfm_data, openMVG_main_openMVG2Colmap writes one",
    ".nvm": "COLMAP reads no NVM files; write its poses as a CSV and run 'tpsfm reconstruct --poses'",
}

log = logging.getLogger("tpsfm")


def import_model(model: str | Path, images: str | Path, out: str | Path) -> Workspace:
    """Make a workspace of a COLMAP model, to look at and to export.

    The model stays in its folder `imported`, and its poses become the known poses of the workspace: the next
    `reconstruct` of the photos there makes the points anew from our features, and photos can be localized.

    Args:
        model: folder of the model, binary or text; or one above it, as COLMAP's `sparse` and hloc's `outputs` are.
        images: folder of its photos.
        out: the workspace, a new folder.

    Raises:
        TpsfmError: the model is damaged or empty, none of its photos is there, or `out` has a map already.
    """
    from tpsfm.colmap import read_model, to_binary

    images, model = Path(images), _model_folder(Path(model))
    workspace = Workspace.open(Path(out), create=True)
    with workspace.locked():
        if workspace.manifest["stages"] or workspace.sparse.exists():
            raise TpsfmError(f"{out} has a map already; name a new folder")
        imported, new = workspace.root / "imported", workspace.root / "sparse.new"
        to_binary(model, imported)
        names = list(read_model(imported).images)
        gone = [name for name in names if not (images / name).is_file()]
        if len(gone) == len(names):
            shutil.rmtree(imported)
            first = f", {gone[0]} first" if gone else ": it has none"
            raise TpsfmError(f"{images} has none of the {len(names)} photos of '{model}'{first}; give their folder")
        if gone:
            log.warning(
                "%d of the model's %d photos are gone from %s, %s first", len(gone), len(names), images, gone[0]
            )
        Stages.of(poses=imported).record(workspace, images)
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(imported, new)
        replace_folder(new, workspace.sparse)
        record_map(workspace, len(names))
    return workspace


def _model_folder(path: Path) -> Path:
    """The folder of the only COLMAP model in a folder, or in those below it.

    Raises:
        TpsfmError: there is none, or there are several.
    """
    if path.is_file():
        hint = next((hint for suffix, hint in _OTHERS.items() if path.name.endswith(suffix)), "give its folder")
        raise TpsfmError(f"{path} is a file, and models are folders of COLMAP's cameras, images and points3D; {hint}")
    if not path.is_dir():
        raise TpsfmError(f"there is no folder {path}")
    for pattern in ("", "*/", "*/*/"):
        found = sorted({file.parent for suffix in ("bin", "txt") for file in path.glob(f"{pattern}images.{suffix}")})
        if len(found) == 1:
            return found[0]
        if found:
            raise TpsfmError(f"{path} has {len(found)} models; name one: {', '.join(map(str, found[:5]))}")
    raise TpsfmError(f"{path} has no COLMAP model: cameras, images and points3D, .bin or .txt")
