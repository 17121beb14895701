"""How the synthetic tissue looks: stain concentrations, class by class, and the slide scanner.

Everything is painted as concentrations of hematoxylin (nuclei, blue) and eosin (the rest, pink) and turned
into light by Beer-Lambert's law: intensity = white * 10 ** -(concentrations @ stain vectors). The stain
vectors lie between those of Ruifrok and Johnston 2001 and of Macenko et al. 2009. One pixel: about 1 um.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from trainables.demo.layout import LYMPHOCYTE, NECROSIS, OTHER, STROMA, TUMOR, VESSEL
from trainables.demo.noise import draw_noise, warp
from trainables.demo.nuclei import NucleusLayer, draw_fibers, place_points

RUIFROK = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
MACENKO = np.array([[0.563, 0.720, 0.406], [0.216, 0.801, 0.558]])


@dataclass(frozen=True)
class Stain:
    """How a laboratory stains and scans; one for each patient.

    Attributes:
        vectors: Optical density of hematoxylin and of eosin in R, G, B; unit length.
        strengths: Factors on the concentrations of hematoxylin and of eosin, about 1.
        white: R, G, B of the empty slide, 0 to 255.
        blur_px: Standard deviation of the optics' blur.
    """

    vectors: Float32[np.ndarray, "2 3"]
    strengths: tuple[float, float]
    white: Float32[np.ndarray, " 3"]
    blur_px: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draws the stain of one patient; about one in six is weakly stained."""
    mix = rng.uniform(0, 0.6)
    vectors = mix * RUIFROK + (1 - mix) * MACENKO + rng.normal(0, 0.02, (2, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weakness = 0.65 if rng.uniform() < 1 / 6 else 1.0
    strengths = (weakness * float(rng.uniform(0.8, 1.2)), weakness * float(rng.uniform(0.75, 1.25)))
    white = 243 + rng.normal(0, 3) + rng.normal(0, 1.5, 3)
    blur_px = float(rng.uniform(0.4, 0.8))
    return Stain(vectors.astype(np.float32), strengths, white.astype(np.float32), blur_px)


def paint(rng: np.random.Generator, mask: UInt8[np.ndarray, "h w"], stain: Stain) -> UInt8[np.ndarray, "h w 3"]:
    """Paints the H&E image of a mask of BCSS class ids, as the patient's slide is stained and scanned."""
    side = mask.shape[0]
    bends = 0.9 * draw_noise(rng, side, 0.35 * side) + 0.12 * draw_noise(rng, side, 20.0)
    angle = bends + float(rng.uniform(0, np.pi))
    hematoxylin, eosin = paint_ground(rng, mask, angle)
    nuclei = paint_nuclei(rng, mask, angle)
    dx, dy = 0.55 * draw_noise(rng, side, 4.0), 0.55 * draw_noise(rng, side, 4.0)  # no nucleus is an ellipse
    tissue = 1 - paint_lumina(rng, mask == TUMOR)
    nuclei = warp(nuclei, dx, dy) * tissue
    hematoxylin, eosin = hematoxylin * tissue, eosin * tissue
    hematoxylin += nuclei * np.clip(1 + 0.16 * draw_noise(rng, side, 2.0), 0.5, 1.5)  # chromatin
    eosin *= 1 - 0.35 * np.clip(nuclei, 0, 1)
    return scan(rng, np.clip(hematoxylin, 0, None), np.clip(eosin, 0, None), stain)


def paint_ground(
    rng: np.random.Generator, mask: UInt8[np.ndarray, "h w"], angle: Float32[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Returns the concentrations of hematoxylin and eosin of everything but nuclei and debris."""
    side = mask.shape[0]
    coarse, fine = draw_noise(rng, side, 20.0), draw_noise(rng, side, 2.5)
    fibers = draw_fibers(rng, angle)
    bundles = np.tanh(0.8 * fibers + 0.5 * draw_noise(rng, side, 30.0))
    grain = draw_noise(rng, side, 1.6)
    smudge = draw_noise(rng, side, 11.0) + 0.6 * draw_noise(rng, side, 5.0)
    gaps = np.clip(1.3 - np.exp(2.0 * (-fibers - 1.6)), 0, 1)  # white slits between collagen bundles
    tissue = {
        STROMA: (0.06 + 0.02 * bundles, (0.42 + 0.12 * bundles + 0.07 * coarse + 0.03 * grain) * gaps),
        TUMOR: (0.17 + 0.04 * coarse + 0.04 * fine, 0.30 + 0.04 * coarse + 0.08 * fine),
        LYMPHOCYTE: (0.10 + 0.03 * fine, 0.15 + 0.05 * fibers + 0.04 * fine),
        NECROSIS: (
            0.03 + 0.03 * np.clip(smudge, 0, 2) + 0.02 * grain,
            0.30 + 0.08 * smudge + 0.06 * grain + 0.04 * fine,
        ),
        VESSEL: paint_vessel(rng, mask == VESSEL),
        OTHER: paint_fat(rng, mask == OTHER, fibers, coarse),
    }
    hematoxylin, eosin = np.zeros((2, side, side), np.float32)
    for class_id, (h, e) in tissue.items():
        blur_px = 0.7 if class_id == VESSEL else 1.6  # classes blend, but a vessel's wall is sharp
        weight = cv2.GaussianBlur((mask == class_id).astype(np.float32), (0, 0), blur_px)
        hematoxylin += weight * h
        eosin += weight * e
    return hematoxylin, eosin


def paint_lumina(rng: np.random.Generator, tumor: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Returns 0.95 in the few small lumina that tumor cells form, else 0; they count as tumor."""
    depth = cv2.distanceTransform(tumor.astype(np.uint8), cv2.DIST_L2, 5)
    lumina = NucleusLayer(tumor.shape[0])
    for x, y in place_points(rng, depth > 10, 28.0, 0.35):
        radius = float(rng.uniform(2.5, 6))
        lumina.draw(x, y, (radius, radius * float(rng.uniform(0.5, 0.9))), float(rng.uniform(0, np.pi)), 1.0)
    shift = 1.2 * draw_noise(rng, tumor.shape[0], 5.0)
    return 0.95 * cv2.GaussianBlur(warp(lumina.amounts(), shift, shift), (0, 0), 0.8)


def paint_vessel(
    rng: np.random.Generator, vessel: Bool[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Paints a pink wall around a pale lumen with red blood cells."""
    depth = cv2.distanceTransform(np.pad(vessel, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    wall = np.clip((3.0 - depth) / 1.0, 0, 1)
    cells = np.zeros(vessel.shape, np.uint8)
    for x, y in place_points(rng, vessel & (depth > 4.5), 5.5, 0.45):
        cv2.circle(cells, (round(8 * x), round(8 * y)), 17, int(rng.integers(170, 250)), -1, cv2.LINE_AA, 3)
    red = cells.astype(np.float32) / 255
    eosin = wall * (0.6 + 0.1 * draw_noise(rng, vessel.shape[0], 3.0)) + (1 - wall) * (0.04 + 0.8 * red)
    return np.asarray(0.10 * wall + 0.02, np.float32), np.asarray(eosin, np.float32)


def paint_fat(
    rng: np.random.Generator,
    other: Bool[np.ndarray, "h w"],
    fibers: Float32[np.ndarray, "h w"],
    coarse: Float32[np.ndarray, "h w"],
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Paints empty fat cells with thin membranes where there is room, and loose, watery tissue elsewhere."""
    side = other.shape[0]
    points = place_points(rng, np.ones(other.shape, bool), 30.0, 1.0)
    seeds = np.ones(other.shape, np.uint8)
    columns, rows = np.round(points).astype(int).clip(0, side - 1).T
    seeds[rows, columns] = 0
    _, cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    cells = cells.astype(np.float32)
    dx, dy = 4 * draw_noise(rng, side, 24.0), 4 * draw_noise(rng, side, 24.0)
    ys, xs = np.indices(cells.shape, dtype=np.float32)
    cells = cv2.remap(cells, xs + dx, ys + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    edges = cv2.morphologyEx(cells, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    membrane = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), 0.7)
    room = cv2.GaussianBlur(cv2.distanceTransform(other.astype(np.uint8), cv2.DIST_L2, 5), (0, 0), 6)
    fat = np.clip((room - 9) / 3, 0, 1)
    loose = np.clip(0.13 + 0.07 * fibers + 0.05 * coarse, 0, None)
    eosin = fat * (0.02 + 0.3 * membrane) + (1 - fat) * loose
    return np.asarray(0.10 * (1 - fat) + 0.04 * membrane, np.float32), np.asarray(eosin, np.float32)


def paint_nuclei(
    rng: np.random.Generator, mask: UInt8[np.ndarray, "h w"], angle: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Returns the hematoxylin of all nuclei and debris."""
    side = mask.shape[0]

    def near(class_id: int, spill_px: float) -> Bool[np.ndarray, "h w"]:
        """Returns the class with a frayed edge: the wider the spill, the more cells stray into the neighbors."""
        weight = cv2.GaussianBlur((mask == class_id).astype(np.float32), (0, 0), spill_px)
        return np.asarray(weight > rng.uniform(0.15, 0.85, weight.shape))

    layer = NucleusLayer(side)
    layer.draw_ghosts(rng, place_points(rng, mask == NECROSIS, 11.0, 0.6))
    layer.smudge(1.2)
    layer.draw_debris(rng, place_points(rng, near(NECROSIS, 2.0) & (draw_noise(rng, side, 14.0) > 0.1), 8.0, 0.5))
    layer.draw_spindles(rng, place_points(rng, near(STROMA, 1.0), 15.0, 0.6), angle)
    depth = cv2.distanceTransform((mask == OTHER).astype(np.uint8), cv2.DIST_L2, 3)
    layer.draw_spindles(rng, place_points(rng, (depth > 0) & (depth < 7), 15.0, 0.35), angle)  # no nucleus in fat
    size = float(rng.uniform(4.2, 5.8))
    layer.draw_tumor(rng, place_points(rng, near(TUMOR, 1.2), 2.45 * size, 0.9), size)
    layer.draw_lymphocytes(rng, place_points(rng, near(LYMPHOCYTE, 5.0), 7.0, 0.92))
    layer.draw_lymphocytes(rng, place_points(rng, (mask == STROMA) | (mask == TUMOR), 16.0, 0.06))
    inside = cv2.GaussianBlur((mask == VESSEL).astype(np.float32), (0, 0), 3)
    wall_angle = np.arctan2(cv2.Sobel(inside, -1, 0, 1), cv2.Sobel(inside, -1, 1, 0)) + np.float32(np.pi / 2)
    depth = cv2.distanceTransform((mask == VESSEL).astype(np.uint8), cv2.DIST_L2, 3)
    layer.draw_spindles(rng, place_points(rng, (depth > 1) & (depth < 3.5), 5.0, 0.35), wall_angle)  # endothelium
    return layer.amounts()


def scan(
    rng: np.random.Generator, hematoxylin: Float32[np.ndarray, "h w"], eosin: Float32[np.ndarray, "h w"], stain: Stain
) -> UInt8[np.ndarray, "h w 3"]:
    """Turns concentrations into RGB, with the scanner's blur, uneven light and noise."""
    side = hematoxylin.shape[0]
    thickness = 1 + 0.06 * draw_noise(rng, side, 0.4 * side)  # of the section
    amounts = np.stack([stain.strengths[0] * hematoxylin, stain.strengths[1] * eosin], -1)
    light = stain.white * np.float32(10) ** -(thickness[..., None] * amounts @ stain.vectors)
    light = cv2.GaussianBlur(light, (0, 0), stain.blur_px)
    light *= 1 + 0.012 * draw_noise(rng, side, 0.6 * side)[..., None]
    light += 1.5 * draw_noise(rng, side, 1.0)[..., None] + rng.normal(0, 1.5, light.shape)
    return np.asarray(np.clip(np.round(light), 0, 255), np.uint8)
