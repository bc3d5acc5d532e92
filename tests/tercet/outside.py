"""A folder outside the checkout with the components and the recipe of docs/plugins.md, and with data for them."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / "docs" / "plugins.md"
SPEEDS, AXES, HEIGHTS = {"slow": 1, "brisk": 3, "fast": 7}, ("first", "second", "third"), {"faint": 0.3, "strong": 1.5}
PLUGINS = ("series.py", "my_loss.py")


def written(folder: Path) -> None:
    """Every block of the page whose first line names its file, as it stands there."""
    for block in re.findall(r"```(?:python|yaml)\n(.+?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        name = re.match(r"# ([\w.]+)", block)
        assert name is not None, block
        (folder / name[1]).write_text(block, encoding="utf-8")


def swing(draw: np.random.Generator) -> dict[str, bytes]:
    """A noisy wave about one axis, its caption and its metadata."""
    speed, height, axis = draw.choice(list(SPEEDS)), draw.choice(list(HEIGHTS)), draw.integers(3)
    time = np.arange(draw.integers(40, 80))
    series = draw.normal(0, 0.1, (len(time), 3))
    series[:, axis] += HEIGHTS[height] * np.sin(2 * np.pi * SPEEDS[speed] * time / 40 + draw.uniform(0, 6))
    caption = f"a {height} {speed} swing about the {AXES[axis]} axis"
    meta = {"group": caption, "steps": len(time)}
    return {"f32": series.astype("<f4").tobytes(), "txt": caption.encode(), "json": json.dumps(meta).encode()}


def shard(path: Path, samples: Iterator[dict[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, files in enumerate(samples):
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{number:05d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def filled(folder: Path) -> Path:
    """The page's files and recipe, and shards in which one series of each split is cut short."""
    written(folder)
    for seed, (split, count) in enumerate({"train": 400, "val": 90}.items()):
        draw = np.random.default_rng(seed)
        samples = [swing(draw) for _ in range(count)]
        samples[7]["f32"] += b"\0\0"
        shard(folder / "shards" / split / "000.tar", iter(samples))
    return folder


def command(folder: Path, *words: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    whole = [sys.executable, "-m", "tercet", *words]
    return subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True)


def loading(*plugins: str) -> list[str]:
    return [word for plugin in plugins for word in ("--plugin", plugin)]
