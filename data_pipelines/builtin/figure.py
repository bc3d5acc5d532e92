"""Draws one object: outline, colour, texture and rim on a tile, and the mask that cuts it out.

Outlines lie within the unit circle, y downwards; a second outline is a hole.
"""

from functools import cache
from math import ceil, cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from tercet.data_pipelines.builtin.scene import Thing

RGB = tuple[int, int, int]
Outline = list[tuple[float, float]]

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


def figure(thing: Thing, radius: float, dice: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Tile and mask with the object in the middle. A darker rim separates it from any background."""
    middle = ceil(radius * 1.1)
    side, colour = (2 * middle, 2 * middle), PALETTE[thing.colour]
    tile, mask = Image.new("RGB", side, colour), Image.new("L", side)
    _TEXTURES[thing.texture](ImageDraw.Draw(tile), middle, radius, contrast(colour), dice)
    turn = dice.uniform(-TILT, TILT) * pi / 180
    rim = max(1, round(radius * 0.09))
    for outline, inside in zip(outlines()[thing.shape], (255, 0), strict=False):
        points = _placed(outline, middle, radius, turn)
        ImageDraw.Draw(mask).polygon(points, fill=inside)
        ImageDraw.Draw(tile).polygon(points, outline=shaded(colour, 0.45), width=rim)
    return tile, mask


def contrast(colour: RGB) -> RGB:
    """The ink of textures: dark on light colours, light on dark ones."""
    luminance = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    return shaded(colour, 0.4) if luminance > 140 else shaded(colour, 0.3, towards=255)


def shaded(colour: RGB, keep: float, towards: int = 0) -> RGB:
    red, green, blue = (round(keep * channel + (1 - keep) * towards) for channel in colour)
    return red, green, blue


def _plain(draw: ImageDraw.ImageDraw, middle: int, radius: float, ink: RGB, dice: np.random.Generator) -> None:
    """A single colour."""


def _striped(draw: ImageDraw.ImageDraw, middle: int, radius: float, ink: RGB, dice: np.random.Generator) -> None:
    """At any angle; the period grows with the object."""
    period, reach = radius * 0.52, 2 * middle
    offset, angle = dice.uniform((-0.5, 0), (0.5, pi)).tolist()
    dx, dy = cos(angle), sin(angle)
    for step in range(-4, 5):
        x, y = middle - dy * (step + offset) * period, middle + dx * (step + offset) * period
        ends = [(x - dx * reach, y - dy * reach), (x + dx * reach, y + dy * reach)]
        draw.line(ends, fill=ink, width=round(period * 0.46))


def _dotted(draw: ImageDraw.ImageDraw, middle: int, radius: float, ink: RGB, dice: np.random.Generator) -> None:
    """On a hexagonal grid, which grows with the object."""
    period, dot = radius * 0.56, radius * 0.165
    right, down = dice.uniform(-0.5, 0.5, 2).tolist()
    for row in range(-3, 4):
        for column in range(-3, 4):
            x = middle + (column + right + 0.5 * (row % 2)) * period
            y = middle + (row + down) * period * 0.87
            draw.ellipse([x - dot, y - dot, x + dot, y + dot], fill=ink)


_TEXTURES = {"plain": _plain, "striped": _striped, "dotted": _dotted}


def _placed(outline: Outline, middle: float, radius: float, turn: float) -> Outline:
    c, s = radius * cos(turn), radius * sin(turn)
    return [(middle + c * x - s * y, middle + s * x + c * y) for x, y in outline]


@cache
def outlines() -> dict[str, list[Outline]]:
    arm = 0.34
    half_cross = [(arm, -arm), (arm, -0.94), (-arm, -0.94), (-arm, -arm), (-0.94, -arm), (-0.94, arm)]
    return {
        "circle": [_round(0.92)],
        "square": [[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]],
        "triangle": [[(0, -0.95), (0.98, 0.75), (-0.98, 0.75)]],
        "star": [[_polar(0.47 if step % 2 else 1.0, step / 10 - 0.25) for step in range(10)]],
        "cross": [half_cross + [(-x, -y) for x, y in half_cross]],
        "heart": [_heart()],
        "ring": [_round(0.95), _round(0.48)],
        "diamond": [[(0, -1.0), (0.66, 0), (0, 1.0), (-0.66, 0)]],
    }


def _polar(radius: float, turns: float) -> tuple[float, float]:
    return radius * cos(2 * pi * turns), radius * sin(2 * pi * turns)


def _round(radius: float) -> Outline:
    return [_polar(radius, step / 64) for step in range(64)]


def _heart() -> Outline:
    turns = [2 * pi * step / 64 for step in range(64)]
    curve = [(16 * sin(t) ** 3, 13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) for t in turns]
    return [(x / 17, -(y + 2.5) / 16) for x, y in curve]
