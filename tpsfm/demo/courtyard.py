"""The demo's scene: an old courtyard with a stone front, a plastered wing, a well, crates, barrels and bushes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from tpsfm.demo import materials
from tpsfm.demo.rendering import Quad

RADIUS, CENTRE = 13.0, np.array([0.0, -2.0, 2.5])
X, Y, Z = np.eye(3)
MakeMaterial = Callable[..., materials.Material]


class Courtyard:
    """Builds the scene piece by piece; `quads` is the result.

    Args:
        rng: draws all textures and placements.
        scale: texels per metre.
    """

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self.rng, self.scale = rng, scale
        self.quads: list[Quad] = []
        self._front()
        self._wing()
        self._ground()
        self._well(np.array([2.9, -3.4, 0.0]))
        for x, y, z, size, turn in (
            (-2.9, -1.5, 0, 0.95, 0.3),
            (-3.9, -1.1, 0, 0.8, -0.2),
            (-2.95, -1.45, 0.95, 0.65, 0.75),
            (5.9, -1.6, 0, 0.9, -0.5),
        ):
            self._crate(np.array([x, y, z]), size, turn)
        for x, y in ((4.5, -0.8), (5.2, -0.75), (-5.9, -3.3)):
            self._barrel(np.array([x, y, 0.0]))
        for x, y, size in ((-1.75, -1.55, 1.2), (1.75, -1.55, 1.25), (-5.6, -1.0, 1.5), (7.0, -4.2, 1.7)):
            self._bush(np.array([x, y, 0.0]), size)

    def _texture(
        self,
        material: MakeMaterial,
        across: np.ndarray,
        down: np.ndarray,
        scale: float = 1.0,
        **options: Any,
    ) -> materials.Material:
        scale = scale * self.scale
        size = (max(8, round(float(np.linalg.norm(edge)) * scale)) for edge in (down, across))
        return material(self.rng, *size, scale, **options)

    def _quad(
        self,
        material: MakeMaterial,
        origin: np.ndarray | tuple[float, float, float],
        across: np.ndarray,
        down: np.ndarray,
        scale: float = 1.0,
        **options: Any,
    ) -> Quad:
        albedo, relief = self._texture(material, across, down, scale, **options)
        quad = Quad(np.asarray(origin, float), across, down, albedo, relief)
        self.quads.append(quad)
        return quad

    def _box(
        self,
        material: MakeMaterial,
        corner: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        z: np.ndarray,
        scale: float = 1.0,
        **options: Any,
    ) -> None:
        """A box from its lowest left front corner and its edges to the right, to the back and up; no bottom."""
        faces = (
            (corner + z, x, -z),
            (corner + x + y + z, -x, -z),
            (corner + y + z, -y, -z),
            (corner + x + z, y, -z),
            (corner + y + z, x, -y),
        )
        for face in faces:
            self._quad(material, *face, scale, **options)

    def _opening(
        self,
        wall: Quad,
        left: float,
        bottom: float,
        width: float,
        height: float,
        depth: float = 0.4,
        door: bool = False,
    ) -> None:
        """A window or a door in a wall, whose coordinates (metres) start at its lower left corner."""
        right_way, up = (e / np.linalg.norm(e) for e in (wall.across, -wall.down))
        corner = wall.origin + wall.down + left * right_way + bottom * up
        rows, columns = wall.relief.shape
        per_metre = columns / np.linalg.norm(wall.across)
        wall.alpha = np.ones((rows, columns), bool) if wall.alpha is None else wall.alpha
        x0, x1 = round(left * per_metre), round((left + width) * per_metre)
        y0, y1 = rows - round((bottom + height) * per_metre), rows - round(bottom * per_metre)
        wall.alpha[y0:y1, x0:x1] = False
        inward, x, z = -depth * wall.normal, width * right_way, height * up
        for reveal in (
            (corner + z, inward, -z),
            (corner + x + z + inward, -inward, -z),
            (corner + inward, x, -inward),
            (corner + z, x, inward),
        ):
            self._quad(materials.masonry, *reveal, course=0.4, colour=(182, 170, 150))
        if door:
            colour = (70, 96, 84)
            self._quad(materials.planks, corner + z + inward, x, -z, 1.2, colour=colour, paint_left=0.7)
            return
        self._quad(materials.window, corner + z + inward, x, -z, 1.2)
        sill = corner - 0.12 * right_way - 0.12 * up + 0.14 * wall.normal
        self._box(materials.masonry, sill, x + 0.24 * right_way, -0.2 * wall.normal, 0.12 * up, course=0.5)
        colour = tuple(self.rng.integers((40, 60, 50), (120, 130, 140)))
        for side in (corner + z - 0.52 * x, corner + z + 1.02 * x):
            shutter = side + 0.05 * wall.normal
            self._quad(materials.planks, shutter, 0.5 * x, -z, 1.2, colour=colour, paint_left=0.6, board=0.1)

    def _front(self) -> None:
        wall = self._quad(materials.masonry, (-7, 0, 8), 14 * X, -8 * Z, 1.0)
        self._opening(wall, 6.1, 0.45, 1.8, 2.75, 0.5, door=True)
        for left in (1.9, 10.8):
            self._opening(wall, left, 1.3, 1.3, 1.9)
        for left in (1.6, 4.4, 8.3, 11.1):
            self._opening(wall, left, 5.0, 1.2, 1.8)
        pale: dict[str, Any] = {"colour": (204, 192, 168), "course": 0.3}
        self._box(materials.masonry, np.array([-7.1, -0.22, 4.15]), 14.2 * X, 0.3 * Y, 0.28 * Z, **pale)
        self._box(materials.masonry, np.array([-7.2, -0.5, 7.7]), 14.4 * X, 0.6 * Y, 0.45 * Z, **pale)
        self._box(materials.masonry, np.array([-1.75, -0.75, 3.35]), 3.5 * X, 0.8 * Y, 0.35 * Z, **pale)
        for x in (-1.4, 1.4):
            self._box(materials.masonry, np.array([x - 0.3, -0.75, 0.45]), 0.6 * X, 0.6 * Y, 0.25 * Z, **pale)
            self._cylinder(materials.masonry, np.array([x, -0.45, 0.7]), 0.21, 2.45, course=0.45)
            self._box(materials.masonry, np.array([x - 0.3, -0.75, 3.15]), 0.6 * X, 0.6 * Y, 0.2 * Z, **pale)
        for step in range(3):
            corner = np.array([-2.0 - 0.3 * step, -1.1 - 0.35 * step, 0.0])
            wide, deep = (4.0 + 0.6 * step) * X, (1.1 + 0.35 * step) * Y
            self._box(materials.masonry, corner, wide, deep, (0.45 - 0.15 * step) * Z, **pale)
        gable = self._quad(materials.plaster, (-1.75, -0.7, 4.6), 3.5 * X, -0.9 * Z, colour=(196, 176, 140))
        rows, columns = gable.relief.shape
        gable.alpha = np.abs(np.linspace(-1, 1, columns))[None] < np.linspace(0, 1, rows)[:, None]
        self._bills(wall, ((0.5, 1.1), (3.95, 1.5), (4.8, 1.25), (9.0, 1.3), (9.75, 1.7), (12.75, 1.2)))

    def _wing(self) -> None:
        bottom = np.array([-7.0, -4.2, 0.0])
        wall = self._quad(materials.plaster, bottom + 6.2 * Z, 4.2 * Y, -6.2 * Z)
        self._opening(wall, 1.6, 3.6, 1.1, 1.6, 0.3)
        self._quad(materials.masonry, (-9, -4.2, 6.2), 2 * X, -6.2 * Z, colour=(150, 100, 80), course=0.09)
        self._bills(wall, ((0.3, 1.3), (1.2, 0.9), (2.1, 1.4), (3.2, 1.1)))
        brick: dict[str, Any] = {"colour": (152, 94, 74), "course": 0.085, "joint": (160, 152, 140)}
        self._box(materials.masonry, np.array([7.0, -5.0, 0.0]), 0.35 * X, 5 * Y, 1.7 * Z, **brick)
        self._box(materials.masonry, np.array([6.9, -5.1, 1.7]), 0.55 * X, 5.1 * Y, 0.12 * Z, course=0.4)

    def _bills(self, wall: Quad, places: tuple[tuple[float, float], ...]) -> None:
        """Posters at (left, bottom) metres of a wall."""
        right_way, up = (e / np.linalg.norm(e) for e in (wall.across, -wall.down))
        lines = [
            "GRAND CIRCUS",
            "THEATRE",
            "MARKET DAY",
            "CONCERT",
            "BICYCLE RACE",
            "HARVEST FAIR",
            "7 OCTOBER",
            "AT NOON",
            "ALL WELCOME",
        ]
        for left, bottom in places:
            width = self.rng.uniform(0.55, 0.7)
            height = width * self.rng.uniform(1.25, 1.5)
            corner = wall.origin + wall.down + left * right_way + (bottom + height) * up + 0.02 * wall.normal
            words = [lines[i] for i in self.rng.permutation(len(lines))[:3]]
            tilt = self.rng.normal(0, 0.04)
            across, down = right_way + tilt * up, -up + tilt * right_way
            self._quad(materials.poster, corner, width * across, height * down, 1.8, words=words)

    def _ground(self) -> None:
        yard = self._quad(materials.cobbles, (-10, 0.2, 0), 20 * X, -13 * Y, 0.8)
        self.quads.remove(yard)
        self.quads += yard.tiles(6, 9)
        field = self._quad(materials.cobbles, (-60, 45, -0.03), 120 * X, -60 * Y, 0.1, pitch=1.2)
        self.quads.remove(field)
        self.quads += field.tiles(4, 8)
        for x, y, wide, high in ((-34, 26, 30, 7.5), (-6, 33, 34, 9), (24, 24, 28, 7)):
            trees = materials.foliage(self.rng, int(high * 26), int(wide * 26), 26, 0.55)
            hedge = Quad(np.array([x, y, high]), wide * X, -high * Z, *trees, two_sided=True)
            self.quads.append(hedge)

    def _cylinder(
        self,
        material: MakeMaterial,
        bottom: np.ndarray,
        radius: float,
        height: float,
        sides: int = 18,
        top: bool = False,
        scale: float = 1.0,
        **options: Any,
    ) -> None:
        """A column of flat strips that share one texture."""
        albedo, relief = self._texture(material, 2 * np.pi * radius * X, height * Z, scale, **options)
        cuts = np.linspace(0, relief.shape[1], sides + 1).astype(int)
        angles = np.linspace(0, 2 * np.pi, sides + 1)
        rim = bottom + height * Z + radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
        for i in range(sides):
            strip = np.s_[:, cuts[i] : cuts[i + 1]]
            self.quads.append(Quad(rim[i], rim[i + 1] - rim[i], -height * Z, albedo[strip], relief[strip]))
        if top:
            corner = bottom + (height - 0.06) * Z + radius * (Y - X)
            lid = self._quad(material, corner, 2 * radius * X, -2 * radius * Y, scale, **options)
            disc = np.zeros(lid.relief.shape, np.uint8)
            centre = (lid.relief.shape[1] // 2, lid.relief.shape[0] // 2)
            cv2.circle(disc, centre, int(0.97 * centre[0]), 1, -1)
            lid.alpha = disc > 0

    def _well(self, at: np.ndarray) -> None:
        self._cylinder(materials.masonry, at, 1.15, 0.75, 24, True, colour=(168, 160, 146), course=0.25)
        self._cylinder(materials.masonry, at + 0.69 * Z, 0.32, 1.2, 16, course=0.3, scale=1.2)
        corner = at + np.array([-0.45, -0.45, 1.89])
        self._box(materials.masonry, corner, 0.9 * X, 0.9 * Y, 0.22 * Z, colour=(206, 196, 176), course=0.22)

    def _crate(self, at: np.ndarray, size: float, turn: float) -> None:
        x, y = size * np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0]])
        colour = tuple(self.rng.integers((120, 80, 50), (180, 130, 90)))
        corner = at - (x + y) / 2
        self._box(materials.planks, corner, x, y, size * Z, 1.5, colour=colour, paint_left=0.5)
        stamp = corner + 0.2 * x + 0.75 * size * Z - 0.01 * y
        words = self.rng.permutation(["FRAGILE", "No 47", "THIS SIDE UP", "TEA", "GLASS"])[:3]
        self._quad(materials.poster, stamp, 0.6 * x, -0.5 * size * Z, 2, words=[str(w) for w in words])

    def _barrel(self, at: np.ndarray) -> None:
        colour = (120, 84, 56)
        self._cylinder(materials.planks, at, 0.33, 0.95, 18, True, 1.4, colour=colour, paint_left=0.3, board=0.09)
        for height in (0.12, 0.75):
            self._cylinder(materials.plaster, at + height * Z, 0.345, 0.06, 18, colour=(96, 92, 92))

    def _bush(self, at: np.ndarray, size: float) -> None:
        for turn in np.linspace(0, np.pi, 6, endpoint=False):
            across = size * np.array([np.cos(turn), np.sin(turn), 0.0])
            texels = max(16, int(size * self.scale))
            leaves = materials.foliage(self.rng, texels, texels, self.scale)
            self.quads.append(Quad(at - across / 2 + 0.95 * size * Z, across, -size * Z, *leaves, two_sided=True))
