"""The report of a reconstruction: one HTML file that needs no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpsfm.geometry import Model, summary
from tpsfm.io.atomic import write_atomic
from tpsfm.view.pages import jpeg_uri, render, thumbnail
from tpsfm.view.plan import plan
from tpsfm.view.scene import scene_of
from tpsfm.view.snapshot import splat

if TYPE_CHECKING:
    from markupsafe import Markup

    from tpsfm.io.workspace import Workspace

_MAX_NOTES = 20  # on pairs of photos
_MAX_THUMBNAILS = 300  # photos; the page of a larger map has no thumbnails, so that it stays light


@dataclass(frozen=True)
class Facts:
    """What a report shows beside the map itself.

    Attributes:
        title: of the page.
        total: number of photos, registered or not.
        left_out: by name, the reason why each photo that is not in the map was left out.
        seconds: wall time by stage, in the order the stages ran.
        options, versions: shown as they are.
        other_models: by model name, the number of photos in each further model.
        in_other_models: by name, the model of each photo that is in a further one only.
        aligned: what alignment gave, as its stage counts it ("error_before", "error_after", "observations", "kept");
            empty where the map isn't aligned.
        notes: sentences on how the map was made.
        images: folder of the photos, for their thumbnails; None for a report without.
        world: the content of georeference.json; None for a map in its own frame.
    """

    title: str
    total: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    other_models: Mapping[str, int] = field(default_factory=dict)
    in_other_models: Mapping[str, str] = field(default_factory=dict)
    aligned: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    images: Path | None = None
    world: Mapping[str, Any] | None = None


def write_report(workspace: Workspace, model: Model | None, world: Mapping[str, Any] | None = None) -> None:
    """Write a workspace's `report`: its map, why each missing photo is missing, cameras, times and options.

    Args:
        model: its map; None where there is none.
        world: the content of its georeference.json, if any.

    Raises:
        TpsfmError: it can't be written.
    """
    manifest = workspace.manifest
    left_out = manifest.get("left_out", {})
    images = workspace.images
    source = Path(manifest["video"]["path"]) if "video" in manifest else images
    elsewhere = manifest.get("result", {}).get("in_other_models", {})
    facts = Facts(
        title=f"Map of {source.name or source}" if model else f"No map of {images.name or images}",
        total=len({*(model.images if model else ()), *elsewhere, *left_out}),
        left_out=left_out,
        seconds={name: stage["seconds"] for name, stage in manifest["stages"].items()},
        options=manifest["options"],
        versions=manifest["versions"],
        other_models=manifest.get("result", {}).get("other_models", {}),
        in_other_models=elsewhere,
        aligned=manifest["stages"].get("align", {}).get("counts", {}),
        notes=_notes(manifest),
        images=images,
        world=world,
    )
    write_atomic(workspace.report, page(model, facts))


def _notes(manifest: dict[str, Any]) -> list[str]:
    notes = []
    if panoramas := manifest.get("result", {}).get("panoramas"):
        notes.append("{} of {} panoramas; their poses are in panoramas.csv.".format(*panoramas))
    if manifest.get("turns"):
        notes.append(f"{len(manifest['turns'])} photos are turned against the others.")
    lookalikes = manifest["stages"].get("lookalikes", {}).get("counts", {})
    if lookalikes.get("dropped"):
        notes.append(f"{lookalikes['dropped']} pairs of photos of places that look alike are left out.")
    conflicts = lookalikes.get("conflicts", [])
    for one, other, tried, there in conflicts[:_MAX_NOTES]:
        notes.append(
            f"{one} and {other} may show two places that look alike, taken for one:"
            f" {there} of {tried} points that both should see are there."
        )
    if len(conflicts) > _MAX_NOTES:
        notes.append(f"{len(conflicts) - _MAX_NOTES} more such pairs are in run.json.")
    overlay = manifest["stages"].get("verify", {}).get("counts", {}).get("overlay")
    if overlay:
        notes.append(
            f"Something lies over {overlay['photos']} photos in the same place (a banner, a watermark, a bonnet?):"
            f" {overlay['keypoints']:,} keypoints are left out."
        )
    mapper = manifest["stages"].get("map", {}).get("counts", {}).get("mapper")
    if (manifest["options"].get("mapper"), mapper) == ("auto", "global"):
        notes.append("Incremental mapping left parts: this map is the global mapper's.")
    for group in manifest.get("result", {}).get("from_one_point", []):
        notes.append(f"Taken from one point, so that they give each other no depth: {', '.join(group)}.")
    return notes


def page(model: Model | None, facts: Facts) -> str:
    """The report as HTML; `model` is None where there is no map."""
    has_points = model is not None and len(model.points) > 0
    figures, charts, picture = {}, [], ""
    if model is not None and has_points:
        values = summary(model)
        figures = {
            "points": f"{values['points']:,}",
            "mean track length": f"{values['mean_track_length']:.2f}",
            "reprojection error": f"{values['reprojection_error']:.2f} px",
        }
        charts = _charts(model)
        picture = jpeg_uri(splat(scene_of(model, max_points=300_000, level=facts.world is not None), (1600, 1000)), 85)
    registered = [] if model is None else list(model.images)
    thumbnails = _thumbnails(facts.images, [*registered, *facts.in_other_models, *facts.left_out])
    return render(
        "report.html",
        title=facts.title,
        run=facts,
        model=model,
        registered=len(registered),
        photos_of=Counter() if model is None else Counter(pose.camera_id for pose in model.images.values()),
        figures={**figures, "computing time": f"{sum(facts.seconds.values()):.1f} s"},
        picture=picture,
        plan=plan(model) if model is not None and facts.world else "",
        charts=charts,
        thumbnails=thumbnails,
        elsewhere=[(thumbnails.get(name), name, f"in model {n}") for name, n in sorted(facts.in_other_models.items())],
        left_out=[(thumbnails.get(name), name, reason) for name, reason in sorted(facts.left_out.items())],
    )


def histogram(values: np.ndarray, edges: np.ndarray, title: str, unit: str) -> Markup:
    """An SVG bar chart of the number of `values` between `edges`; values beyond the last edge join the last bar.

    The bars have their exact counts as tooltips.
    """
    width, height, left, base = 420, 170, 34, 150
    edges = np.asarray(edges, float)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    top = max(int(counts.max()), 1)
    step = (width - left - 12) / len(counts)
    last = len(counts) - 1
    bars = [
        {
            "x": left + i * step + 0.5,
            "width": max(step - 1, 0.5),
            "height": (base - 24) * count / top,
            "bounds": f"{edges[i]:g} – {edges[i + 1]:g}" if i < last else f"{edges[i]:g} and more",
            "count": int(count),
        }
        for i, count in enumerate(counts)
    ]
    marked = np.unique(np.linspace(0, len(counts), min(len(counts), 6) + 1).astype(int))
    ticks = [(left + i * step, f"{edges[i]:g}") for i in marked]
    return render(
        "histogram.svg",
        **{"width": width, "height": height, "left": left, "right": width - 12, "base": base},
        **{"bars": bars, "ticks": ticks, "title": title, "unit": unit},
        top=f"{top:,}" if top < 10_000 else f"{top / 1000:,.0f}k",
    )


def _charts(model: Model) -> list[Markup]:
    longest = int(np.clip(model.track_lengths.max(), 8, 30))
    widest = max(float(np.percentile(model.errors, 99)), 0.5)
    return [
        histogram(model.errors, np.round(np.linspace(0, np.ceil(2 * widest) / 2, 25), 3), "Reprojection error", "px"),
        histogram(model.track_lengths, np.arange(2, longest + 2), "Track length", "photos"),
    ]


def _thumbnails(folder: Path | None, names: list[str]) -> dict[str, str]:
    """`data:` addresses by name, of the photos that can be read."""
    if folder is None or len(names) > _MAX_THUMBNAILS:
        return {}
    found = {name: jpeg_uri(thumbnail(folder / name, 112), 72) for name in names}
    return {name: uri for name, uri in found.items() if uri}
