"""A small renderer of textured parallelograms: z-buffer, cut-outs, mip-maps, sun shadows and ambient light.

World axes: x right, y away from the viewer, z up, in metres. Camera axes: OpenCV's (x right, y down, z forward).
Everything is linear in homogeneous pixels: the inverse H of a plane's homography takes a pixel p to
(a, b, c) with texel (a / c, b / c) and c = 1 / depth, so texture lookup and z-buffer share one product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np

_NEAR = 0.05  # metres


@dataclass(eq=False)
class Quad:
    """A textured parallelogram, seen from the side where the texture reads upright.

    Attributes:
        origin: float64 [3], the texture's top-left corner.
        across, down: float64 [3], the edges along the texture's x and y.
        albedo: float32 [h, w, 3], linear RGB in 0..1.
        relief: float32 [h, w], metres above the plane; it shades but doesn't move the surface.
        alpha: bool [h, w], False where it is cut out; None for a full one.
        two_sided: also seen from behind.
    """

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    albedo: np.ndarray
    relief: np.ndarray
    alpha: np.ndarray | None = None
    two_sided: bool = False

    @cached_property
    def normal(self) -> np.ndarray:
        """float64 [3], unit, towards the side it is seen from."""
        normal = np.cross(self.down, self.across)
        return normal / np.linalg.norm(normal)

    @property
    def middle(self) -> np.ndarray:
        """float64 [3], the centre."""
        return self.origin + (self.across + self.down) / 2

    def tiles(self, rows: int, columns: int) -> list[Quad]:
        """The same surface in rows x columns pieces, each with mip-maps of its own."""
        pieces = []
        height, width = self.relief.shape
        y, x = np.linspace(0, height, rows + 1).astype(int), np.linspace(0, width, columns + 1).astype(int)
        for top, bottom in pairwise(y):
            for left, right in pairwise(x):
                at = (slice(top, bottom), slice(left, right))
                origin = self.origin + self.across * left / width + self.down * top / height
                across, down = self.across * (right - left) / width, self.down * (bottom - top) / height
                alpha = None if self.alpha is None else self.alpha[at]
                piece = Quad(origin, across, down, self.albedo[at], self.relief[at], alpha, self.two_sided)
                pieces.append(piece)
        return pieces


@dataclass(frozen=True)
class View:
    """A pinhole camera: K [3, 3] (centre of the top-left pixel is (0, 0)), R [3, 3] world to camera, C [3]."""

    K: np.ndarray
    R: np.ndarray
    C: np.ndarray
    size: tuple[int, int]

    @property
    def projection(self) -> np.ndarray:
        """float64 [3, 4], world to pixels."""
        return self.K @ np.column_stack([self.R, -self.R @ self.C])

    def project(self, points: np.ndarray) -> np.ndarray:
        """float64 [..., 3]: x and y in pixels and depth, of points [..., 3]."""
        x = (np.asarray(points) - self.C) @ (self.K @ self.R).T
        return np.concatenate([x[..., :2] / x[..., 2:], x[..., 2:]], -1)


def look_at(centre: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """float64 [3, 3], the rotation (world to camera) that looks from `centre` at `target`, rolled by radians."""
    forward = np.asarray(target, float) - centre
    forward /= np.linalg.norm(forward)
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.999 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(forward, right), forward])
    cos, sin = np.cos(roll), np.sin(roll)
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ upright


@dataclass(eq=False)
class Surface:
    """A lit quad, ready to be drawn."""

    quad: Quad
    pyramid: list[np.ndarray]  # uint8 [h, w, 3], each half of the one before
    alpha: np.ndarray | None  # uint8, 0 or 255


def draw(surfaces: list[Surface], view: View, colour: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Rasterize the surfaces: uint8 [H, W, 3] sRGB (black without `colour`), inverse depth float32 [H, W] (0: sky)."""
    width, height = view.size
    image = np.zeros((height, width, 3), np.uint8)
    nearest = np.zeros((height, width), np.float32)
    for surface in sorted(surfaces, key=lambda s: np.linalg.norm(s.quad.middle - view.C)):
        quad = surface.quad
        if not quad.two_sided and np.dot(view.C - quad.origin, quad.normal) <= 0:
            continue
        box = _bounds(quad, view)
        if box is None:
            continue
        left, top, right, bottom = box
        rows, columns = quad.relief.shape
        plane = np.column_stack([quad.across / columns, quad.down / rows, quad.origin - view.C])
        inverse = np.linalg.inv(view.K @ view.R @ plane)
        x = np.arange(left, right, dtype=np.float64)[None]
        y = np.arange(top, bottom, dtype=np.float64)[:, None]
        window = nearest[top:bottom, left:right]
        c = (inverse[2, 0] * x + (inverse[2, 1] * y + inverse[2, 2])).astype(np.float32)
        hit = (c > window) & (c < 1 / _NEAR)
        if not hit.any():
            continue
        a, b = ((h[0] * x + (h[1] * y + h[2])).astype(np.float32) for h in inverse[:2])
        with np.errstate(divide="ignore", invalid="ignore"):
            s, t = a / c, b / c
        hit &= (s >= 0) & (t >= 0) & (s < columns) & (t < rows)
        s, t = np.where(hit, s - 0.5, 0), np.where(hit, t - 0.5, 0)
        if surface.alpha is not None:
            hit &= cv2.remap(surface.alpha, s, t, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) > 127
        if not hit.any():
            continue
        window[hit] = c[hit]
        if colour:
            level = _level(inverse, s, t, hit, len(surface.pyramid))
            scale = 0.5**level
            texture = surface.pyramid[level]
            s, t = (s + 0.5) * scale - 0.5, (t + 0.5) * scale - 0.5
            texels = cv2.remap(texture, s, t, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            image[top:bottom, left:right][hit] = texels[hit]
    return image, nearest


def _bounds(quad: Quad, view: View) -> tuple[int, int, int, int] | None:
    """The quad's (left, top, right, bottom) in the image, clipped; None where it is out of sight."""
    width, height = view.size
    corners = quad.origin + np.array([np.zeros(3), quad.across, quad.down, quad.across + quad.down])
    x, y, depth = view.project(corners).T
    if (depth < _NEAR).all():
        return None
    if (depth < _NEAR).any():
        return 0, 0, width, height
    left, top = max(int(x.min()), 0), max(int(y.min()), 0)
    right, bottom = min(int(x.max()) + 2, width), min(int(y.max()) + 2, height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _level(inverse: np.ndarray, s: np.ndarray, t: np.ndarray, hit: np.ndarray, levels: int) -> int:
    """The mip-map level at the visible part's middle: log2 of texels per pixel, towards the sharper one."""
    middle = np.array([s[hit].mean(), t[hit].mean(), 1.0])
    homography = np.linalg.inv(inverse)
    depth = homography[2] @ middle
    pixels_per_texel = np.sqrt(abs(np.linalg.det(homography)) / abs(depth) ** 3)
    return int(np.clip(np.floor(np.log2(1 / pixels_per_texel) + 0.25), 0, levels - 1))


def light(quads: list[Quad], sun: np.ndarray, radius: float, centre: np.ndarray) -> list[Surface]:
    """Bake sunlight with cast shadows and ambient light with occlusion into textures ready to draw.

    Args:
        sun: float64 [3], unit, towards the sun.
        radius, centre: the sphere, in metres, whose objects cast shadows.
    """
    bare = [Surface(q, [], None if q.alpha is None else q.alpha.astype(np.uint8) * 255) for q in quads]
    sun_map = _shadow_map(bare, sun, radius, centre, 1600)
    sky = _sky_directions(20)
    sky_maps = [_shadow_map(bare, direction, radius, centre, 320) for direction in sky]
    for surface in bare:
        quad = surface.quad
        sunlit = _visible(quad, sun_map, 0.03, 0.06)
        ambient = np.full(quad.relief.shape, 0.16, np.float32)
        for direction, shadow_map in zip(sky, sky_maps, strict=True):
            facing = quad.normal @ direction
            facing = abs(facing) if quad.two_sided else facing
            if facing > 0:
                ambient += 2.4 / len(sky) * facing * _visible(quad, shadow_map, 0.14, 0.2)
        surface.pyramid = _mipmaps(_shade(quad, sun, sunlit, ambient))
    return bare


def _shade(quad: Quad, sun: np.ndarray, sunlit: np.ndarray, ambient: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] sRGB: the albedo under the light, with the relief's own shading."""
    rows, columns = quad.relief.shape
    across, down = (edge / np.linalg.norm(edge) for edge in (quad.across, quad.down))
    slope_x = cv2.Sobel(quad.relief, cv2.CV_32F, 1, 0, scale=columns / np.linalg.norm(quad.across) / 8)
    slope_y = cv2.Sobel(quad.relief, cv2.CV_32F, 0, 1, scale=rows / np.linalg.norm(quad.down) / 8)
    normal_light = quad.normal @ sun
    if quad.two_sided:
        normal_light = 0.35 + 0.5 * abs(normal_light)
    slope_light = slope_x * (across @ sun) + slope_y * (down @ sun)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    direct = np.maximum((normal_light - slope_light) / length, 0) * sunlit
    ambient = ambient * np.clip(1 + 0.35 * slope_y, 0.4, 1.4)
    radiance = quad.albedo * (direct[..., None] * (2.1, 1.9, 1.6) + ambient[..., None] * (0.62, 0.72, 0.88))
    radiance = 1.25 * radiance
    toned = radiance * (1 + radiance / 5) / (1 + 0.75 * radiance)
    return (255 * np.clip(toned, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _mipmaps(texture: np.ndarray) -> list[np.ndarray]:
    pyramid = [texture]
    while min(pyramid[-1].shape[:2]) >= 8 and len(pyramid) < 6:
        height, width = pyramid[-1].shape[:2]
        size = (max(width // 2, 1), max(height // 2, 1))
        pyramid.append(cv2.resize(pyramid[-1], size, interpolation=cv2.INTER_AREA))
    return pyramid


def _shadow_map(
    surfaces: list[Surface], direction: np.ndarray, radius: float, centre: np.ndarray, resolution: int
) -> tuple[View, np.ndarray]:
    """The view from a light so distant that its rays are almost parallel, and the depth there in metres."""
    distance = 40 * radius
    eye = centre + distance * direction
    focal = resolution / 2 * distance / radius
    middle = (resolution - 1) / 2
    K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    view = View(K, look_at(eye, centre), eye, (resolution, resolution))
    _, inverse_depth = draw(surfaces, view, colour=False)
    return view, np.where(inverse_depth > 0, 1 / np.maximum(inverse_depth, 1e-9), np.inf).astype(np.float32)


def _visible(quad: Quad, shadow_map: tuple[View, np.ndarray], step: float, bias: float) -> np.ndarray:
    """float32 [h, w], the lit share of each texel, sampled every `step` metres."""
    view, depth = shadow_map
    rows, columns = quad.relief.shape
    grid = [max(2, round(np.linalg.norm(edge) / step)) for edge in (quad.down, quad.across)]
    y, x = np.mgrid[0 : grid[0], 0 : grid[1]] + 0.5
    world = quad.origin + x[..., None] / grid[1] * quad.across + y[..., None] / grid[0] * quad.down
    side = quad.normal if not quad.two_sided else 0 * quad.normal
    projected = view.project(world + 0.5 * bias * side)
    s, t = projected[..., 0].astype(np.float32), projected[..., 1].astype(np.float32)
    first = cv2.remap(depth, s, t, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=np.inf)
    lit = (projected[..., 2] < first + bias).astype(np.float32)
    soft = cv2.GaussianBlur(lit, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(soft, (columns, rows), interpolation=cv2.INTER_LINEAR))


def _sky_directions(count: int) -> list[np.ndarray]:
    """`count` unit vectors spread evenly over the upper half-sphere."""
    height = (np.arange(count) + 0.5) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    flat = np.sqrt(1 - height**2)
    return list(np.stack([flat * np.cos(angle), flat * np.sin(angle), height], -1))
