"""Pictures of red boats and blue cars, their captions, tables about them, and a small model of three modalities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOWER = {"width": 32, "heads": 2}


SPACE = {
    "model": {
        "dim": 16,
        "image": {"encoder": "small:image", "size": 32, "options": TOWER},
        "audio": {"encoder": "small:audio", "features": "small16k64", "seconds": 0.5, "options": TOWER},
        "text": {"encoder": "small:text", "options": TOWER},
    },
    "pairs": {"image-text": 1.0, "audio-text": 1.0},
}


def pixels(number: int) -> NDArray[np.uint8]:
    """Boats are red, cars are blue."""
    picture = np.random.default_rng(number).integers(0, 60, (40, 48, 3), dtype=np.uint8)
    picture[..., 2 * (number % 2)] += 150
    return picture


def captioned(number: int) -> str:
    return f"{('a red boat', 'a blue car')[number % 2]}, number {number}"


def write_table(path: Path, numbers: Sequence[int], sound: str | None = None) -> None:
    """With a sound in every eighth row, if there is one."""
    heard = {number: f",{sound if number % 8 == 0 else ''}" if sound else "" for number in numbers}
    rows = [f'photos/{number}.png,"{captioned(number)}"{heard[number]}' for number in numbers]
    path.write_text("\n".join(["path,caption" + (",audio" if sound else ""), *rows]) + "\n", encoding="utf-8")
