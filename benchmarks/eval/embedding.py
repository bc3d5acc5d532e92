"""Embedding pictures and captions of a folder: samples per second of `tercet eval`, beside a plain loop.

The plain loop is what one would write: a `DataLoader` with as many workers, which opens each JPEG with Pillow and
resizes it with torchvision, and the same towers. The sides take turns, and each starts its workers anew.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from tercet.api.clip_benchmark import clip_benchmark_model
from tercet.api.data import read_plainly
from tercet.api.model import Model
from tercet.benchmarks.eval.colours import SPACE
from tercet.benchmarks.loader.pace import ratio
from tercet.benchmarks.table import BenchRow
from tercet.distributed import World
from tercet.eval.config import EvalConfig
from tercet.eval.evaluator import Evaluator
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig

SIDE, WORKERS, BATCH = 384, 2, 64


def rows(options: Namespace) -> list[BenchRow]:
    with TemporaryDirectory() as folder:
        write(Path(folder), options.pictures)
        config = SpaceConfig.model_validate(SPACE)
        model = Model(build_model(config.model, config.terms, seed=0), "random")
        sides: dict[str, Callable[[], Tensor]] = {
            "ours": lambda: ours(model, folder),
            "peer": lambda: plain_loop(model, Path(folder)),
        }
        paces: dict[str, list[float]] = {name: [] for name in sides}
        vectors = {}
        for _ in range(options.rounds + 1):  # the first is not counted
            for name, embed in sides.items():
                start = time.perf_counter()
                vectors[name] = embed()
                paces[name].append(options.pictures / (time.perf_counter() - start))
    counted = {name: values[1:] for name, values in paces.items()}
    near = float((vectors["ours"] * vectors["peer"]).sum(dim=1).mean())
    sizes = {"pictures": options.pictures, "pixels": SIDE, "workers": WORKERS, "batch": BATCH}
    return [
        BenchRow(
            "embedding", median(counted["ours"]), median(counted["peer"]), "a plain loop",
            ratio(counted["ours"], counted["peer"]), unit="samples/s",
            sizes=sizes | {"rounds": options.rounds, "threads": torch.get_num_threads()},
            beyond={"samples per second": counted, "mean cosine of the vectors of a picture": near},
        )
    ]  # fmt: skip


def write(folder: Path, count: int) -> None:
    """Smooth pictures as JPEG, which are about as large as photos, and a caption each."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)
        (folder / f"{number:05}.txt").write_text(f"picture {number} of a pattern", encoding="utf-8")


def ours(model: Model, folder: str) -> Tensor:
    data = read_plainly({"source": folder, "workers": WORKERS})
    (split,) = data.val
    return (
        Evaluator(data, EvalConfig(batch_size=BATCH), World())
        .table(model.towers, split, data.val[split])
        .vectors["image"]
    )


class Folder(Dataset[tuple[Tensor, str]]):
    def __init__(self, folder: Path, size: int) -> None:
        self.paths = sorted(folder.glob("*.jpg"))
        self.transform = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size), PILToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> tuple[Tensor, str]:
        path = self.paths[at]
        pixels: Tensor = self.transform(Image.open(path).convert("RGB"))
        return pixels, path.with_suffix(".txt").read_text(encoding="utf-8")


@torch.no_grad()
def plain_loop(model: Model, folder: Path) -> Tensor:
    towers, _, tokens = clip_benchmark_model(model)
    found = []
    for pixels, texts in DataLoader(Folder(folder, 32), batch_size=BATCH, num_workers=WORKERS):
        towers.encode_text(tokens(texts))
        found.append(towers.encode_image(pixels))
    return torch.cat(found)
