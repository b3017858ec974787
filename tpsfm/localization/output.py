"""Files of localization results: poses.txt, localization.json and localization.h5."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tpsfm import __version__
from tpsfm.errors import TpsfmError
from tpsfm.features import Features
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import Model
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import Workspace
from tpsfm.localization.result import Localization, from_record, model_of, pose_numbers, to_record
from tpsfm.reconstruction.opening import map_digest

if TYPE_CHECKING:
    from tpsfm.localization.map import Map

POSES, RECORD, PAGE, STORE = "poses.txt", "localization.json", "localization.html", "localization.h5"


class LocalizationStore(FeatureStore):
    """Results by the photo's name, by which an interrupted session continues, and features where they are needed.

    A group holds `localization` uint8, the JSON text of the result's record, and the arrays `matches` and `lines` as in
    `Localization`.
    """

    kind = "localizations"
    command = "tpsfm localize"

    def keep(self, result: Localization, features: Features | None, key: str) -> None:
        """Store a result, in place of any of that name.

        Raises:
            TpsfmError: the file can't be written.
        """
        self.discard(result.name)
        if features is not None:
            self.write(result.name, features, key)
        text = np.frombuffer(json.dumps(to_record(result)).encode(), np.uint8)
        arrays = {"localization": text, "matches": result.matches, "lines": result.lines}
        self._put(result.name, "localization_record", arrays, key)

    def find(self, name: str, key: str, with_features: bool) -> Localization | None:
        """The result stored under that key; None where there is none, or a localized one lacks wanted features.

        Raises:
            TpsfmError: the file is damaged.
        """
        if self._keys.get((name, "localization_record")) != key:
            return None
        text, matches, lines = self._get(name, "localization_record", ["localization", "matches", "lines"])
        result = replace(from_record(json.loads(text.tobytes())), matches=matches, lines=lines)
        lacking = with_features and result.pose is not None and self.key(name) != key
        return None if lacking else result


def make_folder(out: Path) -> None:
    """Make the folder of the results where it is missing.

    Raises:
        TpsfmError: the results can't be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise TpsfmError(f"can't write to '{out}': {error.strerror}; name another folder with --out") from error
    for name in (POSES, RECORD, PAGE):
        if (out / name).is_dir():
            raise TpsfmError(f"can't write '{out / name}': it is a folder; name another folder with --out")


def write_results(out: Path, map: Map, queries: Path, results: Sequence[Localization]) -> None:
    """Write `out`/poses.txt and `out`/localization.json, each whole or not at all.

    poses.txt has a row `name qw qx qy qz tx ty tz` (world to camera) for each localized photo, the format of the Aachen
    benchmark; a photo that failed is only in localization.json, with its reason.

    Args:
        queries: the photos' folder.

    Raises:
        TpsfmError: a file can't be written.
    """
    poses = {result.name: result.pose for result in results if result.pose is not None}
    rows = [" ".join([name, *(repr(number) for number in pose_numbers(pose))]) for name, pose in poses.items()]
    content = {
        "tpsfm": __version__,
        "map": str(map.workspace.root.resolve()),
        "map_digest": map.digest,
        "queries": str(queries.resolve()),
        "localized": len(poses),
        "failed": len(results) - len(poses),
        "results": [to_record(result) for result in results],
    }
    write_atomic(out / POSES, "".join(f"{row}\n" for row in rows))
    write_atomic(out / RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_queries(results: str | Path, workspace: Workspace) -> tuple[Model, Path]:
    """The localized photos in a results folder as a model without points, in the workspace's map, and their folder.

    Raises:
        TpsfmError: there are no results, they are damaged, or of another map.
    """
    path = Path(results) / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [from_record(record) for record in content["results"]]
        folder, root, made = Path(content["queries"]), content["map"], content["map_digest"]
    except OSError as error:
        raise TpsfmError(f"no results in {results}: {path.name}: {error.strerror}; run 'tpsfm localize'") from error
    except (ValueError, KeyError, TypeError, TpsfmError):
        raise TpsfmError(f"{path} is damaged; run 'tpsfm localize' again") from None
    if made != map_digest(workspace):
        other = "as it was before" if root == str(workspace.root.resolve()) else f"in {root}"
        raise TpsfmError(
            f"the poses in {results} are of another map ({other}) than that in {workspace.root}; run 'tpsfm localize'"
            f" with this one"
        )
    return model_of(found), folder
