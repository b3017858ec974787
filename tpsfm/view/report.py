"""The report of a reconstruction: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import Model, summary
from tpsfm.view.charts import histogram
from tpsfm.view.html import document, inline, jpeg

_MAX_THUMBNAILS = 300


@dataclass(frozen=True)
class Facts:
    """What a report tells beside the map itself; all plain data.

    Attributes:
        title: of the page.
        total: how many photos there were.
        left_out: the reason by name for each photo that is not in the map.
        seconds: wall time by stage, in the order they ran.
        options, versions: shown as they are.
        other_models: how many photos are in each further model, by name.
        thumbnails: small JPEGs by photo name; may lack any.
        picture: a JPEG of the map, or None.
    """

    title: str
    total: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    other_models: Mapping[str, int] = field(default_factory=dict)
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    picture: bytes | None = None


def write_report(workspace, model: Model) -> None:
    """Write a workspace's `report`: its map, why each missing photo is missing, cameras, times and options.

    Raises:
        TpsfmError: it can't be written.
    """
    manifest = workspace.manifest
    left_out = manifest.get("left_out", {})
    facts = Facts(
        title=f"Map of {Path(manifest['images']).name or manifest['images']}",
        total=len(set(model.images) | set(left_out)),
        left_out=left_out,
        seconds={name: stage["seconds"] for name, stage in manifest["stages"].items()},
        options=manifest["options"],
        versions=manifest["versions"],
        other_models=manifest.get("result", {}).get("other_models", {}),
        thumbnails=_thumbnails(Path(manifest["images"]), [*model.images, *left_out]),
        picture=_picture(model),
    )
    try:
        workspace.report.write_text(page(model, facts), encoding="utf-8", errors="replace")
    except OSError as error:
        raise TpsfmError(f"can't write '{workspace.report}': {error.strerror}") from error


def page(model: Model | None, facts: Facts) -> str:
    """The report as HTML; `model` is None where there is no map."""
    sections = [_heading(model, facts)]
    if facts.picture:
        alt = "The map's points and the photos' frustums"
        sections.append(f'<img class="map" alt="{alt}" src="{inline(facts.picture)}">')
    sections.append(_left_out(facts))
    if model is not None:
        sections += [_charts(model), _cameras(model), _photos(model, facts)]
    sections += [_times(facts), _table("Options", facts.options), _table("Versions", facts.versions)]
    return document(facts.title, sections)


def _heading(model, facts) -> str:
    registered = 0 if model is None else len(model.images)
    numbers = [("photos registered", f"{registered} <small class='soft'>of {facts.total}</small>")]
    if model is not None and len(model.points):
        figures = summary(model)
        numbers += [
            ("points", f"{figures['points']:,}"),
            ("mean track length", f"{figures['mean_track_length']:.2f}"),
            ("reprojection error", f"{figures['reprojection_error']:.2f} px"),
        ]
    numbers.append(("computing time", f"{sum(facts.seconds.values()):.1f} s"))
    cells = "".join(f"<div><b>{value}</b><span class='soft'>{name}</span></div>" for name, value in numbers)
    others = "".join(
        f"<p class='soft'>{count} photos that don't connect to these are in model {escape(str(name))}.</p>"
        for name, count in facts.other_models.items()
    )
    return f"<h1>{escape(facts.title)}</h1><div class='facts'>{cells}</div>{others}"


def _left_out(facts) -> str:
    if not facts.left_out:
        return ""
    rows = "".join(
        f"<tr>{_picture_cell(facts, name)}<td>{escape(name)}</td><td class='bad'>{escape(reason)}</td></tr>"
        for name, reason in sorted(facts.left_out.items())
    )
    head = "<tr><th></th><th>photo</th><th>why</th></tr>"
    return f"<h2>Left out ({len(facts.left_out)})</h2><div class='card'><table>{head}{rows}</table></div>"


def _charts(model) -> str:
    if not len(model.points):
        return ""
    longest = int(np.clip(model.track_lengths.max(), 8, 30))
    widest = max(float(np.percentile(model.errors, 99)), 0.5)
    charts = [
        histogram(model.errors, np.round(np.linspace(0, np.ceil(2 * widest) / 2, 25), 3), "Reprojection error", "px"),
        histogram(model.track_lengths, np.arange(2, longest + 2), "Track length", "photos"),
    ]
    cards = "".join(f"<div class='card'>{chart}</div>" for chart in charts)
    return f"<h2>Quality of the points</h2><div class='charts'>{cards}</div>"


def _cameras(model) -> str:
    used = [pose.camera_id for pose in model.images.values()]
    rows = "".join(
        f"<tr><td>{key}</td><td>{escape(camera.model)}</td><td class='n'>{camera.width} × {camera.height}</td>"
        f"<td class='n'>{camera.matrix[0, 0]:.1f}</td><td class='n'>{used.count(key)}</td>"
        f"<td>{', '.join(f'{value:.5g}' for value in camera.params)}</td></tr>"
        for key, camera in sorted(model.cameras.items())
    )
    head = (
        "<tr><th>camera</th><th>model</th><th class='n'>pixels</th><th class='n'>focal length, px</th>"
        "<th class='n'>photos</th><th>parameters</th></tr>"
    )
    return f"<h2>Cameras</h2><div class='card'><table>{head}{rows}</table></div>"


def _photos(model, facts) -> str:
    rows = "".join(
        f"<tr>{_picture_cell(facts, name)}<td>{escape(name)}</td><td class='n'>{pose.camera_id}</td>"
        f"<td class='n'>{pose.observations:,}</td></tr>"
        for name, pose in sorted(model.images.items())
    )
    head = "<tr><th></th><th>photo</th><th class='n'>camera</th><th class='n'>points seen</th></tr>"
    return f"<h2>Registered ({len(model.images)})</h2><div class='card'><table>{head}{rows}</table></div>"


def _times(facts) -> str:
    if not facts.seconds:
        return ""
    longest = max([*facts.seconds.values(), 1e-9])
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='n'>{seconds:.1f} s</td>"
        f"<td class='bar'><i style='width:{100 * seconds / longest:.1f}%'></i></td></tr>"
        for name, seconds in facts.seconds.items()
    )
    return f"<h2>Time</h2><div class='card'><table>{rows}</table></div>"


def _table(title, values) -> str:
    if not values:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{'' if value is None else escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<h2>{title}</h2><div class='card'><table>{rows}</table></div>"


def _picture_cell(facts, name) -> str:
    photo = facts.thumbnails.get(name)
    return f'<td class="pic"><img alt="" loading="lazy" src="{inline(photo)}"></td>' if photo else "<td></td>"


def _picture(model) -> bytes | None:
    from tpsfm.view.scene import scene_of
    from tpsfm.view.splatting import splat

    if not len(model.points):
        return None
    return jpeg(splat(scene_of(model, max_points=300_000), (1600, 1000)), 85)


def _thumbnails(folder: Path, names: list[str]) -> dict[str, bytes]:
    """JPEGs by name, none at all for very many photos: the page must stay light."""
    from tpsfm.view.thumbnails import thumbnail

    if len(names) > _MAX_THUMBNAILS:
        return {}
    small = {name: thumbnail(folder / name, 112) for name in names}
    return {name: jpeg(image, 72) for name, image in small.items() if image is not None}
