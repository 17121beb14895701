"""Generic shapes filled with generic textures: what nano is pretrained on. Nothing here imitates tissue."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

Field = Float[np.ndarray, "h w"]
Labels = Int[np.ndarray, "h w"]


def draw_bumps(rng: np.random.Generator, side: int, cell_px: float, octaves: int = 1) -> Field:
    """Returns band-limited noise in [0, 1], about one bump every ``cell_px`` pixels; each octave halves that."""
    field = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        cells = max(2, int(round(side * 2**octave / cell_px)) + 1)
        grid = rng.random((min(cells, side), min(cells, side)), np.float32)
        field += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    low, high = float(field.min()), float(field.max())
    scaled: Field = (field - low) / max(high - low, 1e-6)
    return scaled


def _texture_cloud(rng: np.random.Generator, side: int) -> Field:
    return draw_bumps(rng, side, rng.uniform(3, 40), octaves=int(rng.integers(1, 4)))


def _texture_stripes(rng: np.random.Generator, side: int) -> Field:
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 20)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    warp = draw_bumps(rng, side, rng.uniform(15, 60)) * rng.uniform(0, 3)
    wave = np.sin(2 * np.pi * ((x * np.cos(angle) + y * np.sin(angle)) / period + warp))
    stripes: Field = (0.5 + 0.5 * np.clip(wave * rng.uniform(1, 3), -1, 1)).astype(np.float32)
    return stripes


def _texture_spots(rng: np.random.Generator, side: int) -> Field:
    canvas = np.zeros((side, side), np.float32)
    radius, spread = rng.uniform(1.5, 9), rng.uniform(0.0, 0.5)
    number = int(rng.uniform(0.15, 0.7) * side**2 / (np.pi * radius**2))
    centers = rng.uniform(0, side, (number, 2))
    radii = radius * (1 + spread * rng.standard_normal((number, 2)))
    shades = rng.uniform(0.6, 1.0, number)
    for center, axes, shade, angle in zip(centers, radii, shades, rng.uniform(0, 180, number), strict=True):
        axes_px = (max(1, int(axes[0])), max(1, int(axes[1])))
        cv2.ellipse(canvas, (int(center[0]), int(center[1])), axes_px, angle, 0, 360, float(shade), -1)
    return cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.2))


def _texture_islands(rng: np.random.Generator, side: int) -> Field:
    field = draw_bumps(rng, side, rng.uniform(4, 20), octaves=2)
    return np.clip((field - rng.uniform(0.35, 0.65)) * rng.uniform(4, 20) + 0.5, 0, 1).astype(np.float32)


def _texture_network(rng: np.random.Generator, side: int) -> Field:
    field = draw_bumps(rng, side, rng.uniform(8, 30), octaves=2)
    return np.clip(1 - np.abs(field - 0.5) * rng.uniform(8, 25), 0, 1).astype(np.float32)


def _texture_grain(rng: np.random.Generator, side: int) -> Field:
    return draw_bumps(rng, side, rng.uniform(1.5, 4))


TEXTURES: tuple[Callable[[np.random.Generator, int], Field], ...] = (
    _texture_cloud,
    _texture_stripes,
    _texture_spots,
    _texture_spots,
    _texture_islands,
    _texture_network,
    _texture_grain,
)


def _draw_palette(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Returns ground, ink and speck color of a scene (3 x 3), and how far the colors of areas depart from them.

    The less they depart, the more texture alone distinguishes areas.
    """
    ground = rng.uniform(0.15, 0.95, 3)
    inks = ground + rng.normal(0, 0.35, (2, 3))
    return np.clip(np.vstack([ground, inks]), 0, 1), float(rng.choice([0.03, 0.08, 0.2]))


def _paint(rng: np.random.Generator, side: int, palette: np.ndarray, departure: float) -> Float[np.ndarray, "h w 3"]:
    """Returns a texture in two colors near the scene's palette; half of the time with specks of a third."""
    ground, ink, speck = np.clip(palette + rng.normal(0, departure, (3, 3)), 0, 1)
    field = TEXTURES[rng.integers(len(TEXTURES))](rng, side)[..., None] * rng.uniform(0.3, 1.0)
    painted = ground * (1 - field) + ink * field
    if rng.random() < 0.5:
        specks = _texture_spots(rng, side)[..., None]
        painted = painted * (1 - specks) + speck * specks
    layered: Float[np.ndarray, "h w 3"] = painted.astype(np.float32)
    return layered


def _draw_ragged_partition(rng: np.random.Generator, side: int, number: int) -> Labels:
    """Draws concave, branching areas with islands of one another: noise fields compete for each pixel."""
    cell = rng.uniform(side / 6, side / 1.5)
    fields = [draw_bumps(rng, side, cell, octaves=int(rng.integers(1, 4))) for _ in range(number)]
    labels: Labels = np.argmax(np.stack(fields) + rng.uniform(-0.08, 0.08, (number, 1, 1)), axis=0)
    return labels


def _draw_shapes(rng: np.random.Generator, side: int, number: int) -> Labels:
    """Draws ellipses and polygons on a ground, their rims frayed by noise."""
    labels = np.zeros((side, side), np.int64)
    for label in range(1, number):
        shape = np.zeros((side, side), np.uint8)
        center, radius = rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.1, 0.4) * side
        if rng.random() < 0.4:
            axes = (int(radius), max(2, int(radius * rng.uniform(0.3, 1))))
            place = (int(center[0]), int(center[1]))
            cv2.ellipse(shape, place, axes, rng.uniform(0, 180), 0, 360, 1, -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
            reach = radius * rng.uniform(0.3, 1.2, len(angles))
            corners = center + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
            cv2.fillPoly(shape, [corners.astype(np.int32)], 1)
        rim = draw_bumps(rng, side, rng.uniform(5, 25), octaves=2)
        keep = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), side * rng.uniform(0.005, 0.05))
        labels[keep + (rim - 0.5) * rng.uniform(0, 0.9) > 0.5] = label
    return labels


def _draw_branches(rng: np.random.Generator, side: int, number: int) -> Labels:
    """Draws winding bands along the level lines of noise: objects that fill little of their box."""
    labels = np.zeros((side, side), np.int64)
    for label in range(1, number):
        course = draw_bumps(rng, side, rng.uniform(side / 4, side), octaves=int(rng.integers(1, 4)))
        width = draw_bumps(rng, side, rng.uniform(side / 10, side / 3)) * rng.uniform(0.05, 0.25)
        labels[np.abs(course - rng.uniform(0.35, 0.65)) < width] = label
    return labels


def _draw_blobs(rng: np.random.Generator, side: int, number: int) -> Labels:
    """Draws many small, slightly bent ellipses, which may touch: objects below the stride of the lowest features."""
    labels = np.zeros((side, side), np.uint8)
    bend = rng.uniform(0, 3)
    for label in range(1, number):
        radius = float(np.exp(rng.uniform(np.log(2.5), np.log(18))))
        room = rng.uniform(0.03, 0.4) / (number - 1)
        for center in rng.uniform(0, side, (max(1, int(room * side**2 / (np.pi * radius**2))), 2)):
            axes = radius * rng.uniform(0.6, 1.3) * np.array([1.0, rng.uniform(0.5, 1.0)])
            place, size = np.round(16 * center).astype(int), np.round(16 * axes).astype(int)
            cv2.ellipse(labels, place.tolist(), size.tolist(), rng.uniform(0, 180), 0, 360, label, -1, shift=4)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    dx, dy = (bend * (draw_bumps(rng, side, 8) - 0.5) for _ in range(2))
    return cv2.remap(labels, x + dx, y + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT).astype(np.int64)


def _shade_objects(rng: np.random.Generator, labels: Labels) -> Field:
    """Returns one factor an object, near 1: objects of one area differ in shade."""
    factors = np.ones(labels.shape, np.float32)
    spread = rng.uniform(0, 0.15)
    for label in range(1, int(labels.max()) + 1):
        count, parts = cv2.connectedComponents((labels == label).astype(np.uint8))
        shades = np.clip(1 + spread * rng.standard_normal(count), 0.5, 1.5).astype(np.float32)
        shades[0] = 1
        factors *= shades[parts]
    return factors


def _draw_rims(rng: np.random.Generator, labels: Labels) -> Field:
    """Returns where the borders of areas are, in [0, 1]: some scenes have them drawn as lines."""
    kernel = np.ones((int(rng.integers(2, 4)),) * 2, np.uint8)
    return (cv2.morphologyEx(labels.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0).astype(np.float32)


SCENES = (_draw_ragged_partition, _draw_shapes, _draw_branches, _draw_blobs)
SCENE_SHARES = (0.45, 0.2, 0.2, 0.15)


def draw_scene(rng: np.random.Generator, side: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Draws one square scene of 2 to 5 textured areas: RGB, and each pixel's area (0 is no background)."""
    number = int(rng.integers(2, 6))
    draw = SCENES[rng.choice(len(SCENES), p=SCENE_SHARES)]
    labels = draw(rng, side, number)
    palette, departure = _draw_palette(rng)
    if draw is _draw_blobs:
        departure = max(departure, 0.15)  # too small for a texture to show
    image: np.ndarray = np.zeros((side, side, 3), np.float32)
    for label in range(number):
        area = labels == label
        if area.any():
            image[area] = _paint(rng, side, palette, departure)[area]
    image *= _shade_objects(rng, labels)[..., None]
    if rng.random() < 0.25:
        rims = rng.uniform(0.3, 1.0) * _draw_rims(rng, labels)[..., None]
        image = image * (1 - rims) + rng.uniform(0, 1, 3).astype(np.float32) * rims
    image *= 1 + (draw_bumps(rng, side, float(side))[..., None] - 0.5) * rng.uniform(0, 0.3)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2))
    image += rng.normal(0, rng.uniform(0, 0.04), image.shape).astype(np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), labels.astype(np.uint8)
