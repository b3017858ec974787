"""Points from the verified matches of images whose poses are known."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator

from tpsfm.colmap.loading import pycolmap

MIN_MATCHES = 15  # of a pair that takes part, COLMAP's


def load_cache(db: pycolmap.Database) -> pycolmap.DatabaseCache:
    """What a mapper reads of a database, with the images that have no pair: a model that has such a one needs them."""
    return pycolmap.DatabaseCache.create(
        db, pycolmap.DatabaseCacheOptions({"min_num_matches": MIN_MATCHES, "load_all_images": True})
    )


def triangulation_options(
    seed: int, max_error: float, two_views: bool = False
) -> pycolmap.IncrementalTriangulatorOptions:
    """COLMAP's options, by which an observation may be off by that many pixels.

    Args:
        two_views: whether a point of two views alone stays.
    """
    limits = {f"{step}_max_reproj_error": max_error for step in ("complete", "merge")}
    return pycolmap.IncrementalTriangulatorOptions(
        {"random_seed": seed, "ignore_two_view_tracks": not two_views, **limits}
    )


def triangulate_tracks(
    mapper: pycolmap.IncrementalMapper,
    graph: pycolmap.CorrespondenceGraph,
    options: pycolmap.IncrementalTriangulatorOptions,
    keep: Callable[[int], None] | None = None,
    begin: int = 0,
    steps: int = 1,
) -> None:
    """Triangulate the matches between the registered images of COLMAP's mapper, each track as one point.

    COLMAP begins tracks image by image, of its own matches alone, and merges them afterwards, which takes ten times as
    long as all the rest where many images see a point. Here a point takes all of its track as soon as it is there, and
    few are left to merge.

    Args:
        mapper: of a reconstruction that has begun, with points or without.
        graph: of the mapper's database.
        options: of the triangulation.
        keep: called with the number of steps done after each but the last.
        begin: how many were done before.
        steps: parts of the images.
    """
    mapper.triangulator.complete_all_tracks(options)
    image_ids = mapper.reconstruction.reg_image_ids()
    ends = [len(image_ids) * step // steps for step in range(steps)]
    for count, image_id in enumerate(_walk(image_ids, graph)):
        if count < ends[begin]:
            continue
        if keep is not None and count in ends[begin + 1 :]:
            keep(ends.index(count))
        mapper.clear_modified_points3D()
        mapper.triangulate_image(options, image_id)
        mapper.triangulator.complete_tracks(options, mapper.get_modified_points3D())
    mapper.complete_and_merge_tracks(options)


def keep_one_a_photo(mapper: pycolmap.IncrementalMapper) -> None:
    """Leave each track of COLMAP's mapper one observation a photo, that which is least off.

    COLMAP lets a track take all keypoints of a photo that its matches lead to.
    """
    model = mapper.reconstruction
    for point in list(model.points3D.values()):
        rows: dict[int, list[int]] = {}
        elements = point.track.elements
        for one in elements:
            rows.setdefault(one.image_id, []).append(one.point2D_idx)
        if len(rows) == len(elements):
            continue
        xyz = point.xyz.copy()
        for image_id, several in rows.items():
            if len(several) > 1:
                image = model.image(image_id)
                seen = image.project_point(xyz)
                error = {row: math.inf if seen is None else math.dist(image.point2D(row).xy, seen) for row in several}
                for row in sorted(several, key=error.__getitem__)[1:]:
                    mapper.observation_manager.delete_observation(image_id, row)


def _walk(image_ids: Iterable[int], graph: pycolmap.CorrespondenceGraph) -> Iterator[int]:
    """The images, each after one that it shares many matches with: a track then grows, where it would begin anew."""
    shared: dict[int, list[tuple[int, int]]] = {image_id: [] for image_id in sorted(image_ids)}
    for pair_id, count in graph.num_matches_between_all_images().items():
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        if first in shared and second in shared:
            shared[first].append((-count, second))
            shared[second].append((-count, first))
    left = dict.fromkeys(shared)
    while left:
        near = [(0, next(iter(left)))]
        while near:
            _, image_id = heapq.heappop(near)
            if image_id in left:
                del left[image_id]
                yield image_id
                for edge in shared[image_id]:
                    heapq.heappush(near, edge)
