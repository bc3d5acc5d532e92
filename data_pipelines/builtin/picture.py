"""The picture of a scene: antialiased objects before a soft background with clutter.

Everything is laid out on a nominal 64 × 64 canvas, drawn SUPERSAMPLE times larger and reduced. Confetti in the colours
of objects and uneven backgrounds keep the colours of a picture from telling what stands in it.
"""

from functools import lru_cache
from math import ceil, cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from tercet.data_pipelines.builtin.scene import Scene, Thing
from tercet.data_pipelines.captions.templates import choose

RGB = tuple[int, int, int]
Point = tuple[float, float]

NOMINAL = 64
SUPERSAMPLE = 3
TILT = 11.0  # degrees to either side; more would turn squares into diamonds
PALETTE: dict[str, RGB] = {
    "red": (222, 48, 48),
    "orange": (250, 146, 30),
    "yellow": (252, 221, 56),
    "green": (60, 170, 72),
    "cyan": (56, 202, 214),
    "blue": (46, 84, 214),
    "purple": (132, 62, 186),
    "pink": (246, 130, 190),
    "brown": (122, 74, 40),
    "white": (246, 246, 242),
}
RADIUS = {  # by the number of objects: what fits beside each other
    1: {"small": (9.5, 11.5), "large": (17.0, 20.5)},
    2: {"small": (8.5, 10.0), "large": (14.0, 15.5)},
    3: {"small": (7.5, 8.5), "large": (12.0, 13.5)},
}
STEP = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}


def picture(scene: Scene, size: int = NOMINAL) -> Image.Image:
    dice = scene.stream("picture")
    side = size * SUPERSAMPLE
    zoom = side / NOMINAL
    canvas = _background(scene, side, dice)
    _clutter(canvas, zoom, dice)
    for thing, (x, y) in zip(scene.objects, places(scene, dice), strict=True):
        radius = dice.uniform(*RADIUS[len(scene.objects)][thing.size])
        _stamp(canvas, thing, x * zoom, y * zoom, radius * zoom, dice)
    return _develop(canvas.reduce(SUPERSAMPLE), dice)


def places(scene: Scene, dice: np.random.Generator) -> list[Point]:
    """Centres on the nominal canvas: a single object anywhere near the middle, the first two along their relation."""
    middle = NOMINAL / 2
    if scene.relation is None:
        reach = 9.0 if scene.objects[0].size == "large" else 15.0
        return [(middle + dice.uniform(-reach, reach), middle + dice.uniform(-reach, reach))]
    along = np.array(STEP[scene.relation])
    across = np.abs(along[::-1])
    aside = dice.uniform(-6, 6) if len(scene.objects) == 2 else choose((-12.5, 12.5), dice)
    apart, slip = dice.uniform(14.5, 15.5), dice.uniform(-3, 3)
    spots = (along * apart + across * aside, -along * apart + across * aside, along * slip - across * aside)
    return [(middle + float(x), middle + float(y)) for x, y in spots[: len(scene.objects)]]


def _background(scene: Scene, side: int, dice: np.random.Generator) -> Image.Image:
    """Four corners of one muted tone, blended."""
    tone = np.full(3, dice.uniform(70, 215)) + dice.uniform(-14, 14, 3)
    if scene.source:
        tone = 0.4 * tone + 0.6 * np.array(scene.source.tint)
    corners = tone + dice.uniform(-22, 22, (2, 2, 1)) + dice.uniform(-6, 6, (2, 2, 3))
    return Image.fromarray(corners.clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)


def _clutter(canvas: Image.Image, zoom: float, dice: np.random.Generator) -> None:
    """Faint rings far larger than any object, and confetti far smaller, in the colours of objects."""
    draw = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(dice.integers(1, 4)):
        x, y, radius = dice.uniform((0, 0, 24), (NOMINAL, NOMINAL, 44)).tolist()
        shade = choose((0, 255), dice)
        box = [(x - radius) * zoom, (y - radius) * zoom, (x + radius) * zoom, (y + radius) * zoom]
        draw.ellipse(box, fill=(shade, shade, shade, int(dice.integers(8, 22))))
    for _ in range(dice.integers(6, 15)):
        x, y, length, angle = dice.uniform((0, 0, 1.5, 0), (NOMINAL, NOMINAL, 4.5, pi)).tolist()
        dx, dy = length * cos(angle) / 2, length * sin(angle) / 2
        line = [((x - dx) * zoom, (y - dy) * zoom), ((x + dx) * zoom, (y + dy) * zoom)]
        draw.line(line, fill=(*choose(list(PALETTE.values()), dice), 200), width=round(zoom * dice.uniform(0.9, 1.7)))


def _stamp(canvas: Image.Image, thing: Thing, x: float, y: float, radius: float, dice: np.random.Generator) -> None:
    """One object with its texture, a rim that sets it off from the background, and a soft shadow."""
    outline = _turned(thing.shape, radius, float(dice.uniform(-TILT, TILT)))
    side = 2 * ceil(radius * 1.1)
    colour = PALETTE[thing.colour]
    tile = Image.new("RGB", (side, side), colour)
    _texture(tile, thing.texture, contrast(colour), radius, dice)
    mask = Image.new("L", (side, side))
    rim = max(1, round(radius * 0.09))
    for points, inside in zip(outline, (255, 0), strict=False):
        ImageDraw.Draw(mask).polygon(points, fill=inside)
        ImageDraw.Draw(tile).polygon(points, outline=shaded(colour, 0.45), width=rim)
    corner = (round(x - side / 2), round(y - side / 2))
    shift = round(radius * 0.1)
    canvas.paste((20, 20, 30), (corner[0] + shift, corner[1] + shift), mask.point(_SHADOW))
    canvas.paste(tile, corner, mask)


_SHADOW = [level // 4 for level in range(256)]


def _texture(tile: Image.Image, texture: str, ink: RGB, radius: float, dice: np.random.Generator) -> None:
    """Stripes at any angle, or dots on a hexagonal grid; the period grows with the object."""
    if texture == "plain":
        return
    draw, side, offset = ImageDraw.Draw(tile), tile.width, dice.uniform(0, 1)
    if texture == "striped":
        period, angle = radius * 0.52, dice.uniform(0, pi)
        dx, dy = cos(angle), sin(angle)
        for step in range(-4, 5):
            away = (step + offset - 0.5) * period
            x, y = side / 2 - dy * away, side / 2 + dx * away
            ends = [(x - dx * side, y - dy * side), (x + dx * side, y + dy * side)]
            draw.line(ends, fill=ink, width=round(period * 0.46))
        return
    period, dot = radius * 0.56, radius * 0.165
    for row in range(-3, 4):
        for column in range(-3, 4):
            x = side / 2 + (column + 0.5 * (row % 2) + offset - 0.5) * period
            y = side / 2 + (row + offset - 0.5) * period * 0.87
            draw.ellipse([x - dot, y - dot, x + dot, y + dot], fill=ink)


def contrast(colour: RGB) -> RGB:
    """The ink of textures: dark on light colours, light on dark ones."""
    luminance = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    return shaded(colour, 0.4) if luminance > 140 else shaded(colour, 0.3, towards=255)


def shaded(colour: RGB, keep: float, towards: int = 0) -> RGB:
    red, green, blue = (round(keep * channel + (1 - keep) * towards) for channel in colour)
    return red, green, blue


def _turned(shape: str, radius: float, degrees: float) -> list[list[Point]]:
    """The shape's outlines in its own tile, turned; a second outline is a hole."""
    turn, middle = degrees * pi / 180, ceil(radius * 1.1)
    c, s = radius * cos(turn), radius * sin(turn)
    return [[(middle + c * x - s * y, middle + s * x + c * y) for x, y in outline] for outline in outlines()[shape]]


@lru_cache
def outlines() -> dict[str, list[list[Point]]]:
    """Outlines within the unit circle, y downwards."""
    arm = 0.34
    quarter = [(arm, -arm), (arm, -0.94), (-arm, -0.94), (-arm, -arm), (-0.94, -arm), (-0.94, arm)]
    return {
        "circle": [_ellipse(0.92)],
        "square": [[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]],
        "triangle": [[(0, -0.95), (0.98, 0.75), (-0.98, 0.75)]],
        "star": [[_polar(0.47 if step % 2 else 1.0, step / 10 - 0.25) for step in range(10)]],
        "cross": [quarter + [(-x, -y) for x, y in quarter]],
        "heart": [_heart()],
        "ring": [_ellipse(0.95), _ellipse(0.48)],
        "diamond": [[(0, -1.0), (0.66, 0), (0, 1.0), (-0.66, 0)]],
    }


def _polar(radius: float, turns: float) -> Point:
    return radius * cos(2 * pi * turns), radius * sin(2 * pi * turns)


def _ellipse(radius: float) -> list[Point]:
    return [_polar(radius, step / 64) for step in range(64)]


def _heart() -> list[Point]:
    turns = [2 * pi * step / 64 for step in range(64)]
    curve = [(16 * sin(t) ** 3, 13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) for t in turns]
    return [(x / 17, -(y + 2.5) / 16) for x, y in curve]


def _develop(image: Image.Image, dice: np.random.Generator) -> Image.Image:
    """Brightness and grain."""
    pixels = np.asarray(image, np.float32) * dice.uniform(0.88, 1.08)
    grain = dice.normal(0, dice.uniform(0.5, 3.5), pixels.shape[:2])[..., None]
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))
