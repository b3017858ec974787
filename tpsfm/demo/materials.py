"""Procedural materials of the demo scene: stone, cobbles, plaster, wood, foliage, posters.

Each material is a function `(rng, height, width, scale)` with the size in texels and `scale` in texels per metre.
It returns a linear albedo, float32 [height, width, 3] in 0..1 (RGB), and a relief, float32 [height, width] in
metres, which the renderer turns into shading. No texture repeats, so that every spot can be recognized.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

Material = tuple[np.ndarray, np.ndarray]
Colour = tuple[int, int, int]  # sRGB


def noise(
    rng: Generator,
    height: int,
    width: int,
    cell: float,
    octaves: int = 4,
    falloff: float = 0.5,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Fractal value noise, float32 [height, width] of zero mean and about unit deviation.

    `cell` is the coarsest octave's cell in texels; `stretch` (y, x) makes it anisotropic.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        rows, columns = (int(np.ceil(n / (size * s))) + 3 for n, s in zip((height, width), stretch, strict=True))
        grid = rng.standard_normal((min(rows, height + 3), min(columns, width + 3)), dtype=np.float32)
        total += falloff**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return (total - total.mean()) / (total.std() + 1e-6)


def _paint(colour: Colour, *layers: np.ndarray | tuple[np.ndarray, tuple[float, float, float]]) -> np.ndarray:
    """An albedo of one colour (sRGB 0..255) times exp of the layers, each [h, w] or (layer, tint rgb)."""
    log = np.log((np.asarray(colour, np.float32) / 255) ** 2.2)[None, None]
    for layer in layers:
        values, tint = layer if isinstance(layer, tuple) else (layer, (1.0, 1.0, 1.0))
        log = log + values[..., None] * np.asarray(tint, np.float32)
    return np.clip(np.exp(log), 0.005, 0.95).astype(np.float32)


def _ragged(rng: Generator, labels: np.ndarray, amount: float, cell: float) -> np.ndarray:
    """Label edges displaced by noise, `amount` texels strong."""
    height, width = labels.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x += amount * noise(rng, height, width, cell, 3)
    y += amount * noise(rng, height, width, cell, 3)
    return cv2.remap(labels, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _blocks(
    rng: Generator,
    labels: np.ndarray,
    scale: float,
    colour: Colour,
    joint: Colour,
    spread: float,
    bulge: float,
) -> Material:
    """Stones from a map of labels (0 = joint): each with a tone of its own, rounded edges, pits and stains."""
    height, width = labels.shape
    count = int(labels.max()) + 1
    inside = np.minimum(cv2.distanceTransform((labels > 0).astype(np.uint8), cv2.DIST_L2, 3) / (0.03 * scale), 1)
    tone = rng.normal(0, spread, count).astype(np.float32)
    warm = rng.normal(0, spread / 3, count).astype(np.float32)
    fine = noise(rng, height, width, 0.05 * scale, 4, 0.75)
    coarse = noise(rng, height, width, 0.9 * scale, 5, 0.6)
    pits = np.minimum(noise(rng, height, width, 0.035 * scale, 2) + 1.4, 0)
    albedo = _paint(colour, tone[labels], (warm[labels], (1.0, 0.0, -1.0)), 0.13 * fine, 0.18 * coarse, 0.35 * pits)
    grout = _paint(joint, 0.2 * fine, 0.15 * coarse)
    albedo = grout + (albedo - grout) * np.sqrt(inside)[..., None]
    tilt = rng.normal(0, 0.006, count).astype(np.float32)
    relief = bulge * np.sqrt(inside) + (tilt[labels] + 0.0012 * fine + 0.003 * coarse + 0.003 * pits) * inside
    return albedo, relief.astype(np.float32)


def masonry(
    rng: Generator,
    height: int,
    width: int,
    scale: float,
    colour: Colour = (190, 170, 138),
    course: float = 0.34,
    joint: Colour = (120, 112, 100),
) -> Material:
    """Courses of hewn stone (or bricks, with a small `course` in metres) of varying size."""
    labels = np.zeros((height, width), np.int32)
    gap, top, stone = max(1, round(0.012 * scale)), 0, 0
    while top < height:
        rise = max(4, round(course * scale * rng.uniform(0.75, 1.25)))
        left = -round(course * scale * rng.uniform(0, 2))
        while left < width:
            run = max(6, round(course * scale * rng.uniform(1.1, 3.0)))
            stone += 1
            labels[top + gap : top + rise - gap, max(left + gap, 0) : max(left + run - gap, 0)] = stone
            left += run
        top += rise
    labels = _ragged(rng, labels.astype(np.float32), 0.004 * scale, 0.12 * scale).astype(np.int32)
    return _blocks(rng, labels, scale, colour, joint, spread=0.2, bulge=0.022)


def cobbles(
    rng: Generator, height: int, width: int, scale: float, colour: Colour = (128, 122, 116), pitch: float = 0.16
) -> Material:
    """Cobblestones: the cells of jittered seeds, `pitch` metres apart."""
    step = pitch * scale
    y, x = np.mgrid[0 : int(height / step) + 2, 0 : int(width / step) + 2]
    seeds = np.stack([x + 0.5 * (y % 2), y], -1) + rng.uniform(-0.28, 0.28, (*x.shape, 2)) - 0.5
    column, row = (seeds.reshape(-1, 2) * step).astype(int).T
    keep = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    plane = np.ones((height, width), np.uint8)
    plane[row[keep], column[keep]] = 0
    _, labels = cv2.distanceTransformWithLabels(plane, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    edge = cv2.dilate(labels.astype(np.float32), np.ones((3, 3))) != labels
    edge = cv2.dilate(edge.astype(np.uint8), np.ones((max(1, round(0.012 * scale)),) * 2))
    labels[edge > 0] = 0
    return _blocks(rng, labels, scale, colour, (78, 70, 58), spread=0.28, bulge=0.03)


def plaster(rng: Generator, height: int, width: int, scale: float, colour: Colour = (206, 186, 150)) -> Material:
    """Old plaster: stains, streaks of rain and patches where the bricks show."""
    fine, coarse = (
        noise(rng, height, width, 0.05 * scale, 4, 0.8),
        noise(rng, height, width, 1.2 * scale, 7, 0.65),
    )
    streaks = noise(rng, height, width, 0.12 * scale, 3, 0.6, stretch=(9, 1))
    albedo = _paint(colour, 0.07 * fine, (0.16 * coarse, (0.8, 1.0, 1.3)), 0.07 * streaks)
    relief = 0.0012 * fine + 0.002 * coarse
    patches = noise(rng, height, width, 1.0 * scale, 6, 0.55)
    bare = np.clip((patches - 1.0) * 12, 0, 1)
    bricks, joints = masonry(rng, height, width, scale, (158, 92, 70), 0.085, (150, 142, 128))
    albedo += (bricks - albedo) * bare[..., None]
    cracks = np.exp(-((noise(rng, height, width, 1.5 * scale, 6, 0.6) / 0.02) ** 2))
    albedo *= 1 - 0.45 * (cracks * (1 - bare))[..., None]
    return albedo, (relief + (joints - 0.035 - relief) * bare - 0.004 * cracks).astype(np.float32)


def planks(
    rng: Generator,
    height: int,
    width: int,
    scale: float,
    colour: Colour = (140, 98, 62),
    board: float = 0.14,
    paint_left: float = 0.0,
) -> Material:
    """Upright boards with grain and knots; `paint_left` in 0..1 leaves that much flaking paint of `colour`."""
    edges = np.arange(0, width + board * scale, board * scale) + rng.uniform(-0.1, 0.1) * board * scale
    index = np.searchsorted(edges, np.arange(width))
    tone = rng.normal(0, 0.16, index.max() + 1).astype(np.float32)[index][None].repeat(height, 0)
    gap = np.abs(np.arange(width)[:, None] - edges[None]).min(1) / (0.006 * scale)
    gap = np.clip(gap, 0, 1).astype(np.float32)[None].repeat(height, 0)
    grain = noise(rng, height, width, 0.03 * scale, 4, 0.8, stretch=(14, 1))
    rings = np.sin(3 * noise(rng, height, width, 0.3 * scale, 3, 0.5, stretch=(4, 1)) * np.pi)
    worn = noise(rng, height, width, 0.4 * scale, 6, 0.65)
    wood = _paint((150, 122, 92), tone, 0.2 * grain, 0.12 * rings, 0.15 * worn)
    painted = _paint(colour, 0.5 * tone, 0.05 * grain, (0.12 * worn, (1, 0.9, 0.8)))
    cover = np.clip((worn + 3 * paint_left - 1.2) * 8, 0, 1) if paint_left else np.zeros_like(worn)
    albedo = (wood + (painted - wood) * cover[..., None]) * (0.15 + 0.85 * gap)[..., None]
    return albedo, (0.008 * gap + 0.0012 * grain + 0.001 * cover).astype(np.float32)


def foliage(
    rng: Generator, height: int, width: int, scale: float, leaf: float = 0.09
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaves of many greens, and where they are: albedo, relief and alpha (bool [height, width])."""
    albedo = np.zeros((height, width, 3), np.float32)
    relief, alpha = np.zeros((height, width), np.float32), np.zeros((height, width), np.uint8)
    dense = noise(rng, height, width, 0.5 * scale, 3)
    for depth in range(int(1.6 * height * width / (leaf * scale) ** 2)):
        x, y = rng.integers(0, width), rng.integers(0, height)
        around = 2 * np.hypot(x / width - 0.5, y / height - 0.5)
        if dense[y, x] < 2.6 * around - 2.4:
            continue
        size = leaf * scale * rng.uniform(0.35, 0.7)
        green = np.array([0.10, 0.20, 0.035]) * rng.uniform(0.35, 1.7) * rng.uniform(0.85, 1.2, 3)
        shape = ((float(x), float(y)), (float(size), float(0.5 * size)), float(rng.uniform(0, 180)))
        for plane, value in ((albedo, green.tolist()), (relief, depth % 40 * 0.002), (alpha, 1)):
            cv2.ellipse(plane, shape, value, -1)
    albedo *= np.exp(0.15 * noise(rng, height, width, 0.03 * scale, 3))[..., None]
    return albedo, cv2.GaussianBlur(relief, (0, 0), 0.01 * scale), alpha > 0


def poster(rng: Generator, height: int, width: int, scale: float, words: Sequence[str]) -> Material:
    """A printed bill: shapes in few inks, rules and lines of text, wrinkled and worn."""
    inks = rng.permutation([(206, 60, 46), (32, 84, 140), (240, 190, 60), (36, 120, 92), (60, 46, 60)])
    paper = np.full((height, width, 3), rng.choice([(236, 228, 208), (228, 214, 170)]), np.uint8)
    for ink in inks[:4]:
        corners = rng.uniform(0, 1, (rng.integers(3, 6), 2)) * (width, 0.62 * height)
        cv2.fillPoly(paper, [cv2.convexHull(corners.astype(np.float32)).astype(np.int32)], ink.tolist(), cv2.LINE_AA)
        centre = tuple(int(v) for v in rng.uniform(0.1, 0.9, 2) * (width, 0.6 * height))
        cv2.circle(
            paper,
            centre,
            int(rng.uniform(0.05, 0.2) * width),
            inks[4].tolist(),
            2 + height // 90,
            cv2.LINE_AA,
        )
    baseline = 0.64 * height
    for row, word in enumerate(words):
        size, font = (0.19 if row == 0 else 0.09) * height, cv2.FONT_HERSHEY_DUPLEX
        (wide, tall), _ = cv2.getTextSize(word, font, 1.0, 2)
        factor = min(0.7 * size / tall, 0.9 * width / wide)
        baseline += 1.05 * factor * tall + 0.025 * height
        at = (int(0.05 * width), int(min(baseline, 0.97 * height)))
        cv2.putText(paper, word, at, font, factor, inks[row % 3].tolist(), max(1, round(1.6 * factor)), cv2.LINE_AA)
    worn, folds = (
        noise(rng, height, width, 0.4 * scale, 6, 0.65),
        noise(rng, height, width, 0.25 * scale, 3, 0.4),
    )
    albedo = (paper.astype(np.float32) / 255) ** 2.2 * np.exp(0.1 * worn)[..., None]
    torn = np.clip((worn - 1.9) * 10, 0, 1)[..., None]
    return np.clip(albedo + (0.45 - albedo) * torn, 0.01, 0.95).astype(np.float32), 0.003 * folds


def window(rng: Generator, height: int, width: int, scale: float) -> Material:
    """A closed casement: a painted frame, dark panes with curtains and the sky's sheen."""
    frame, relief = planks(rng, height, width, scale, tuple(rng.integers(60, 200) + rng.integers(-18, 18, 3)), 0.5, 0.9)
    glass = _paint((52, 60, 66), 0.25 * noise(rng, height, width, 0.6 * scale, 5, 0.6))
    folds = 0.5 + 0.5 * np.sin(noise(rng, height, width, 0.25 * scale, 3, 0.5, stretch=(8, 1)) * 6)
    drawn = rng.uniform(0.15, 0.4)
    across = np.abs(np.linspace(-1, 1, width, dtype=np.float32))[None]
    lace = noise(rng, height, width, 0.06 * scale, 2) > 0.3
    curtain = (0.16 + 0.3 * folds) * np.where(lace, 1.0, 0.75) * (across > 1 - drawn - 0.1 * folds)
    glass = np.where(curtain[..., None] > 0, curtain[..., None] * np.array([0.9, 0.85, 0.75]), glass)
    bar = 0.045 * scale
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    rows = np.abs(y[..., None] - np.linspace(0, height, 4)).min(-1) < bar * 0.6
    columns = np.abs(x[..., None] - np.linspace(0, width, 3)).min(-1) < bar
    wood = rows | columns
    return np.where(wood[..., None], frame, glass).astype(np.float32), np.where(wood, relief + 0.03, 0.0).astype(
        np.float32
    )
