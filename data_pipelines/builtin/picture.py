"""The picture of a scene: antialiased objects before a soft background with clutter.

Everything has a place on a nominal 64 × 64 canvas, is drawn SUPERSAMPLE times larger and then reduced. Because of
confetti in the colours of objects and uneven backgrounds, the colours of a picture alone do not reveal its objects.
"""

from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from tercet.data_pipelines.builtin.figure import PALETTE, figure
from tercet.data_pipelines.builtin.scene import Scene

NOMINAL = 64
SUPERSAMPLE = 3
RADIUS = {  # by the number of objects: what fits beside each other
    1: {"small": (12.0, 14.0), "large": (20.0, 23.5)},
    2: {"small": (9.5, 10.5), "large": (14.5, 15.5)},
    3: {"small": (8.0, 9.0), "large": (12.5, 13.5)},
}
REACH = {"small": 13.0, "large": 6.0}  # how far a single object may be from the middle
STEP = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
CONFETTI = [(*colour, 200) for colour in PALETTE.values()]
SHADOW = [level // 4 for level in range(256)]


def picture(scene: Scene, size: int = NOMINAL) -> Image.Image:
    return picture_and_masks(scene, size)[0]


def picture_and_masks(scene: Scene, size: int = NOMINAL) -> tuple[Image.Image, list[Image.Image]]:
    """The picture, and a mask of the visible part of each object."""
    dice = scene.stream("picture")
    zoom = size * SUPERSAMPLE / NOMINAL
    canvas, masks = _background(scene, size * SUPERSAMPLE, dice), list[Image.Image]()
    _clutter(canvas, zoom, dice)
    for thing, (x, y) in zip(scene.objects, places(scene, dice), strict=True):
        radius = dice.uniform(*RADIUS[len(scene.objects)][thing.size]) * zoom
        tile, mask = figure(thing, radius, dice)
        left, top, shift = round(x * zoom - tile.width / 2), round(y * zoom - tile.height / 2), round(radius * 0.1)
        canvas.paste((20, 20, 30), (left + shift, top + shift), mask.point(SHADOW))
        canvas.paste(tile, (left, top), mask)
        for behind in masks:
            behind.paste(0, (left, top), mask)
        masks.append(Image.new("L", canvas.size))
        masks[-1].paste(mask, (left, top))
    return _develop(canvas.reduce(SUPERSAMPLE), dice), [mask.reduce(SUPERSAMPLE) for mask in masks]


def places(scene: Scene, dice: np.random.Generator) -> list[tuple[float, float]]:
    """Centres on the nominal canvas: a single object near the middle, the first two along their relation."""
    if scene.relation is None:
        reach = REACH[scene.objects[0].size]
        spots = [dice.uniform(-reach, reach, 2)]
    else:
        along = np.array(STEP[scene.relation])
        across = np.abs(along[::-1])
        apart, slip = dice.uniform((14.5, -3), (15.5, 3))
        aside = dice.uniform(-6, 6) if len(scene.objects) == 2 else dice.choice((-12.5, 12.5))
        spots = [along * apart + across * aside, -along * apart + across * aside, along * slip - across * aside]
    return [(NOMINAL / 2 + float(x), NOMINAL / 2 + float(y)) for x, y in spots[: len(scene.objects)]]


def _background(scene: Scene, side: int, dice: np.random.Generator) -> Image.Image:
    """Four corners of one muted tone, blended."""
    tone = dice.uniform(70, 215) + dice.uniform(-14, 14, 3)
    if scene.source:
        tone = 0.4 * tone + 0.6 * np.array(scene.source.tint)
    corners = tone + dice.uniform(-22, 22, (2, 2, 1)) + dice.uniform(-6, 6, (2, 2, 3))
    return Image.fromarray(corners.clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)


def _clutter(canvas: Image.Image, zoom: float, dice: np.random.Generator) -> None:
    """Faint discs far larger than any object, and confetti far smaller, in the colours of objects."""
    draw = ImageDraw.Draw(canvas, "RGBA")
    discs = dice.uniform((0, 0, 24, 8, 0), (NOMINAL, NOMINAL, 44, 22, 2), (dice.integers(1, 4), 5)).tolist()
    for x, y, radius, strength, light in discs:
        shade = 255 * int(light)
        box = [(x - radius) * zoom, (y - radius) * zoom, (x + radius) * zoom, (y + radius) * zoom]
        draw.ellipse(box, fill=(shade, shade, shade, int(strength)))
    low, high = (0, 0, 0.7, 0, 0.9, 0), (NOMINAL, NOMINAL, 2.2, pi, 1.7, len(CONFETTI))
    for x, y, length, angle, width, colour in dice.uniform(low, high, (dice.integers(6, 15), 6)).tolist():
        dx, dy = length * cos(angle), length * sin(angle)
        line = [((x - dx) * zoom, (y - dy) * zoom), ((x + dx) * zoom, (y + dy) * zoom)]
        draw.line(line, fill=CONFETTI[int(colour)], width=round(width * zoom))


def _develop(image: Image.Image, dice: np.random.Generator) -> Image.Image:
    """Brightness and grain."""
    brightness, grain = dice.uniform((0.88, 0.5), (1.08, 3.5))
    pixels = np.asarray(image, np.float32) * np.float32(brightness)
    noise = dice.standard_normal((*pixels.shape[:2], 1), dtype=np.float32) * np.float32(grain)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
