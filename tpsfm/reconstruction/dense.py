"""A dense map by COLMAP's or OpenMVS' own programs, where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import Workspace
from tpsfm.progress import Progress
from tpsfm.reconstruction.opening import image_folder, map_digest

_RECORD = "steps.json"  # in the folder: of which map it is, and which steps are done
_LOOK = 0.5  # seconds between two looks at what a program has written


@dataclass(frozen=True)
class Step:
    """A program to run on the folder of undistorted photos.

    Attributes:
        command: with the folder as its working directory.
        result: what it leaves.
        pieces: pattern of the files that it writes one by one, which tell how far it is; "" for none.
        each: how many of these it writes for a photo.
    """

    command: tuple[str, ...]
    result: str
    pieces: str = ""
    each: int = 1


_STEPS = {
    "colmap": (
        Step(
            (
                *("colmap", "patch_match_stereo", "--workspace_path", ".", "--workspace_format", "COLMAP"),
                *("--PatchMatchStereo.geom_consistency", "true"),
            ),
            "stereo/depth_maps",
            "stereo/depth_maps/**/*.bin",
            2,  # photometric, then geometric
        ),
        Step(
            (
                *("colmap", "stereo_fusion", "--workspace_path", ".", "--workspace_format", "COLMAP"),
                *("--input_type", "geometric", "--output_path", "fused.ply"),
            ),
            "fused.ply",
        ),
    ),
    "openmvs": (
        Step(("InterfaceCOLMAP", "-w", ".", "-i", ".", "-o", "scene.mvs", "--image-folder", "images/"), "scene.mvs"),
        Step(("DensifyPointCloud", "-w", ".", "scene.mvs", "-o", "scene_dense.mvs"), "scene_dense.ply", "depth*.dmap"),
    ),
}
DENSE_TOOLS = tuple(_STEPS)


def dense(
    workspace: Workspace,
    output: str | Path,
    tool: str = "auto",
    masks: str | Path | None = None,
    threads: int = -1,
    progress: Progress | None = None,
) -> Path:
    """Undistort the photos of a map and make dense points of them; run again, it goes on with the step it was in.

    Args:
        output: a folder for all that the programs read and write; each step's output is in its STEP.log.
        tool: one of `DENSE_TOOLS`; auto takes the first whose programs are on the PATH.
        masks: folder of masks; OpenMVS leaves out what they hide.
        threads: of the undistortion.

    Returns:
        The file of the dense points.

    Raises:
        TpsfmError: no such program is on the PATH, it fails, or `output` is of another map.
    """
    from tpsfm.colmap import undistort

    output, progress = Path(output), progress or Progress()
    tool = _installed(tool)
    record: dict[str, Any] = {"map": map_digest(workspace), "tool": tool, "done": []}
    if (output / _RECORD).exists():
        found = json.loads((output / _RECORD).read_text(encoding="utf-8"))
        if (found.get("map"), found.get("tool")) != (record["map"], tool):
            raise TpsfmError(f"{output} is of another map or for another program; delete it or name another folder")
        record = found
    else:
        undistort(workspace.sparse, image_folder(workspace), output, tool, masks, threads, progress)
        write_atomic(output / _RECORD, json.dumps(record))
    photos = sum(path.is_file() for path in (output / "images").rglob("*"))
    for step in _STEPS[tool]:
        command = list(step.command)
        if command[0] == "DensifyPointCloud" and masks is not None:
            command += ["--mask-path", "masks"]
        name = command[1] if command[0] == "colmap" else command[0]
        if name not in record["done"]:
            with progress.bar(name, photos * step.each if step.pieces else None) as update:
                _run(command, output, name, step, photos * step.each, update)
            record["done"].append(name)
            write_atomic(output / _RECORD, json.dumps(record))
    return output / _STEPS[tool][-1].result


def _installed(tool: str) -> str:
    """The tool whose programs are all on the PATH."""
    if tool not in ("auto", *DENSE_TOOLS):
        raise TpsfmError(f"no dense maps by '{tool}'; there are: {', '.join(DENSE_TOOLS)}")
    for name in DENSE_TOOLS if tool == "auto" else (tool,):
        if all(shutil.which(step.command[0]) for step in _STEPS[name]):
            return name
    wanted = {"colmap": "COLMAP with CUDA (colmap)", "openmvs": "OpenMVS (InterfaceCOLMAP, DensifyPointCloud)"}
    names = " or ".join(wanted.values()) if tool == "auto" else wanted[tool]
    raise TpsfmError(
        f"dense maps need {names} on the PATH; install it, or let 'tpsfm undistort' write what another program reads"
    )


def _run(
    command: list[str], folder: Path, name: str, step: Step, total: int, update: Callable[[int, int], None]
) -> None:
    log = folder / f"{name}.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                if step.pieces:
                    update(min(sum(1 for _ in folder.glob(step.pieces)), total), total)
                time.sleep(_LOOK)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode or not (folder / step.result).exists():
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        raise TpsfmError(f"{command[0]} failed with exit status {process.returncode}: {last[:200]} (all of it: {log})")
