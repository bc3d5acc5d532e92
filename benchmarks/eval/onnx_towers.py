"""How far the ONNX graphs of small random towers are from the towers, for each precision."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tercet.benchmarks.table import BenchRow
from tercet.models.export.onnx.precision import Precision
from tercet.models.export.onnx.write import export_onnx
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig

SMALL = {
    "model": {
        "image": {"encoder": "small:image"},
        "audio": {"encoder": "small:audio", "features": "small16k64", "seconds": 1.0},
        "text": {"encoder": "small:text"},
    },
    "pairs": {"image-text": 1.0, "audio-text": 1.0},
}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class OnnxTower:
    """One graph beside its tower in fp32: the largest difference of a component, and the lowest cosine of a vector."""

    precision: Precision
    modality: str
    largest_difference: float
    lowest_cosine: float


def rows(options: Namespace) -> list[BenchRow]:
    return [
        BenchRow(
            f"{one.precision} graph of {one.modality}",
            one.largest_difference,
            beyond={"lowest cosine": one.lowest_cosine},
        )
        for one in onnx_towers()
    ]


def onnx_towers(precisions: Sequence[Precision] = PRECISIONS) -> list[OnnxTower]:
    config = SpaceConfig.model_validate(SMALL)
    model = build_model(config.model, config.terms, seed=1).eval()
    found = []
    for precision in precisions:
        with TemporaryDirectory() as folder:
            done = export_onnx(model, config, Path(folder), precision)
        rows = ((modality, one.largest_difference, one.lowest_cosine) for modality, one in done.towers.items())
        found += [OnnxTower(precision, *row) for row in rows]
    return found
