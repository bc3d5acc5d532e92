"""A folder with graphs as a model, so that it can be evaluated and compared like any other. onnxruntime runs it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tercet.errors import UserError
from tercet.models.encoders.encoder import Encoder
from tercet.models.export.onnx.feeding import FILE, intake_of
from tercet.models.export.onnx.needed import needs_onnx
from tercet.models.head import Head
from tercet.models.multimodal import Multimodal


class OnnxTower(Encoder):
    """A graph as a tower. It cannot be trained."""

    projects = True

    def __init__(self, modality: str, facts: dict[str, Any], folder: Path) -> None:
        super().__init__()
        path = folder / facts["file"]
        self.modality, self.width, self.intake = modality, facts["dim"], intake_of(modality, facts, folder)
        self.session, self.names = session_of(path), tuple(facts["inputs"])
        self.digest = sha256(path.read_bytes()).hexdigest()  # so that stores of embeddings know the weights
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # a model is on the device of its parameters

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        given = (values,) if lengths is None else (values, lengths)
        arrays = [one.detach().cpu().contiguous().numpy() for one in given]
        (vectors,) = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return torch.from_numpy(vectors).to(values.device)


def load_onnx(folder: Path) -> Multimodal:
    """The model of a folder that `tercet export --format onnx` wrote, in evaluation mode."""
    needs_onnx(str(folder))
    facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
    towers = {modality: OnnxTower(modality, {**facts, **one}, folder) for modality, one in facts["towers"].items()}
    head = Head(dict.fromkeys(towers), facts["dim"], {})
    return Multimodal(towers, head, [], list(towers)).eval()


def is_onnx(folder: Path) -> bool:
    return (folder / FILE).is_file()


def session_of(path: Path) -> Any:
    """A session of onnxruntime, with as many threads as torch has."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    except Exception as error:  # its errors share no base but this
        cause = str(error).splitlines()[0]
        raise UserError(f"{path}: onnxruntime cannot run this graph ({cause}); export the model again") from error
