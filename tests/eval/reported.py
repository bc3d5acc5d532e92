"""An example of a run and its results, with hostile text in every name."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.report.selection import SelectedStep, selected_steps
from tercet.eval.result import Result
from tests.tercet.parsed import HOSTILE

RATE = 16000


def sample(number: int) -> Sample:
    tone = np.sin(2 * math.pi * (300 + 40 * number) * np.arange(RATE, dtype=np.float32) / RATE)
    image = np.full((64, 64, 3), 5 * number, np.uint8)
    return Sample(f"s{number}", number, number, {"image": image, "audio": tone}, (f"number {number} {HOSTILE}",))


def table(items: int = 12) -> EmbeddingTable:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(items, 8, generator=generator)
    vectors = {
        m: F.normalize(base + 0.7 * torch.randn(items, 8, generator=generator), dim=1)
        for m in ("image", "audio", "text")
    }
    samples = tuple(Sample(f"s{n}", n, n, text=sample(n).text) for n in range(items))
    return EmbeddingTable(vectors, {m: torch.arange(items) for m in vectors}, samples)


def results() -> list[Result]:
    common = {"task": "retrieval", "title": "Retrieval", "dataset": HOSTILE}
    return [
        Result("image→text", "R@1", 0.913, 0.871, 0.952, 0.0039, 256, shortcuts={HOSTILE: 0.123}, **common),
        Result("image→text", "median rank", 1, 1, 2, 128, 256, **common),
        Result("text→image", "R@1", 0.5, 0.4, 0.6, 0.0039, 256, **common),
    ]


def measures(step: int) -> dict[str, float]:
    """Those of a step at which they are due. The term may have any name."""
    alignment = {"image-text": 20 / step, f"{HOSTILE}/alignment": 1 + 20 / step}
    return {f"analysis/{term}/alignment": value for term, value in alignment.items()} | {
        "analysis/image/uniformity": -step / 10,
        "analysis/image-text/masked": 0.0,
    }


def selection() -> list[SelectedStep]:
    """Of step 7: three samples that were chosen, one of which is known to be bad, and one that was left."""
    chosen = [{"id": 1, "score": 2.5, "bad": False}, {"id": 2, "score": 1.5, "bad": True}]
    line = {"step": 7, "scored": "learnability", "chosen": [*chosen, {"id": 99, "score": 1.0, "bad": False}]}
    left = [{"id": 3, "score": -0.5, "bad": None}]
    return selected_steps([{**line, "left": left}], lambda id: sample(id) if id < 99 else None, RATE)


def metrics(path: Path) -> None:
    lines = [
        {
            "step": step,
            "samples": 8 * step,
            "drawn": 40 * step,
            "stage": "",
            "time": 100.0 + step,
            "loss": 6 / step,
            "loss/image-text": None if step == 3 else 2 / step,
        }
        | (measures(step) if step % 10 == 0 else {})
        | {
            "selection/learnability_chosen": 3.0 / step,
            "selection/learnability_left": -1.0,
            "selection/bad_drawn": 0.5,
            "selection/bad_chosen": 0.5 / step,
            "selection/near_ties": 0.0,
        }
        for step in range(1, 41)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 41, "lo')
