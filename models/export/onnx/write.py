"""Exports each tower as a graph, and checks it in onnxruntime against the model itself.

Shape letters: n rows, d dimensions of the joint space.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.export.onnx.feeding import FILE, described
from tercet.models.export.onnx.graphs import VECTORS, Graph, graph_of
from tercet.models.export.onnx.load import session_of
from tercet.models.export.onnx.needed import needs_onnx
from tercet.models.export.onnx.precision import Precision, make_smaller
from tercet.models.export.onnx.usage import USAGE, usage
from tercet.models.multimodal import Multimodal
from tercet.models.quiet import without_logged_warnings
from tercet.models.space import SpaceConfig

TOLERANCE = 1e-5  # of every number of a unit vector, in fp32
LARGEST = 1_900_000_000  # bytes of weights in one file; the format ends at 2 GiB


@dataclass(frozen=True)
class Measured:
    """A graph beside the model in fp32, on the same rows: the largest difference of a number, and the lowest and the
    mean cosine of two vectors."""

    largest_difference: float
    lowest_cosine: float
    mean_cosine: float


@dataclass(frozen=True)
class Exported:
    """How exact each graph is, by modality, and why the other towers have none."""

    towers: Mapping[str, Measured]
    failed: Mapping[str, str]


def export_onnx(model: Multimodal, config: SpaceConfig, folder: Path, precision: Precision = "fp32") -> Exported:
    """Writes `MODALITY.onnx` for each tower, `preprocess.json` and `USAGE.md` into an empty folder.

    The model is in evaluation mode. A tower that torch cannot trace, or whose graph gives other vectors, is left out.
    """
    needs_onnx("format onnx")
    towers: dict[str, Measured] = {}
    failed: dict[str, str] = {}
    facts: dict[str, Any] = {}
    for modality in model.towers:
        path = folder / f"{modality}.onnx"
        try:
            graph = graph_of(model, modality)
            _write(graph, path, precision)
            towers[modality] = measured(graph, path)
            _check(towers[modality], precision)
        except (UserError, torch.onnx.errors.OnnxExporterError) as error:
            failed[modality] = _reason(error)
            towers.pop(modality, None)
            for left in folder.glob(f"{path.name}*"):
                left.unlink()
            continue
        encoder = config.model.towers[modality].encoder
        facts[modality] = _facts(graph, path) | described(model.intakes[modality], encoder, folder)
        facts[modality]["measured"] = asdict(towers[modality])
    if not towers:
        raise UserError("; ".join(f"the {modality} tower: {why}" for modality, why in failed.items()))
    about = {"dim": model.head.dim, "precision": precision, "temperatures": _temperatures(model), "towers": facts}
    (folder / FILE).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / USAGE).write_text(usage(about), encoding="utf-8")
    return Exported(towers, failed)


def _write(graph: Graph, path: Path, precision: Precision) -> None:
    with _quiet():
        program = torch.onnx.export(
            graph.module.eval(), graph.probes[0], dynamo=True, dynamic_shapes=graph.axes, input_names=graph.inputs,
            output_names=[VECTORS], verbose=False,
        )  # fmt: skip
        assert program is not None
        external = sum(one.numel() * one.element_size() for one in graph.module.state_dict().values()) > LARGEST
        program.save(path, external_data=external)
        if precision != "fp32":
            make_smaller(path, precision, external)
    import onnx

    onnx.checker.check_model(path, full_check=True)


@torch.no_grad()
def measured(graph: Graph, path: Path) -> Measured:
    """Runs the graph on all probes, and compares its vectors with those of the model."""
    session = session_of(path)
    ours, theirs = [], []
    for probe in graph.probes:
        ours.append(graph.expected(*probe))
        inputs = {name: one.numpy() for name, one in zip(graph.inputs, probe, strict=True)}
        theirs.append(torch.from_numpy(session.run(None, inputs)[0]))
    return compared(torch.cat(ours), torch.cat(theirs))


def compared(ours_nd: Tensor, theirs_nd: Tensor) -> Measured:
    cosines_n = torch.nn.functional.cosine_similarity(ours_nd.double(), theirs_nd.double())
    difference = float((ours_nd - theirs_nd).abs().max())
    return Measured(difference, float(cosines_n.min()), float(cosines_n.mean()))


def _check(found: Measured, precision: Precision) -> None:
    limit = TOLERANCE if precision == "fp32" else 2.0
    if not found.largest_difference <= limit:  # also if it is NaN
        raise UserError(f"its graph gives other vectors: they differ by {found.largest_difference:.2g}")


def _facts(graph: Graph, path: Path) -> dict[str, Any]:
    inputs = {}
    for name, axes, tensor in zip(graph.inputs, graph.axes, graph.probes[0], strict=True):
        shape = [axes.get(axis, size) for axis, size in enumerate(tensor.shape)]
        inputs[name] = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": shape}
    return {"file": path.name, "inputs": inputs, "output": VECTORS}


@torch.no_grad()
def _temperatures(model: Multimodal) -> dict[str, dict[str, float]]:
    """The scale of the logits of each term, and its bias if it has one: logits are scale × cosine + bias."""
    found = {}
    for term in model.terms:
        scale, bias = model.head.temperature(term)
        found[term] = {"scale": float(scale)} | ({} if bias is None else {"bias": float(bias)})
    return found


def _reason(error: Exception) -> str:
    """The first line, or what torch says is the cause."""
    if isinstance(error, UserError):
        return str(error)
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    return f"torch cannot export it ({lines[0] if lines else type(error).__name__})"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings about the inside of exporters, which say nothing about the model."""
    with without_logged_warnings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
