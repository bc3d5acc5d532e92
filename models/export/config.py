"""The formats that a model can be exported in, each with its options. Imports no torch.

To add one, register the config of its options here, with a `write` that calls the module of the format.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from tercet.configs.base import Config, build
from tercet.configs.registry import Registry
from tercet.errors import UserError

if TYPE_CHECKING:
    from tercet.models.export.reading import Reading, Samples
    from tercet.models.multimodal import Multimodal
    from tercet.models.space import SpaceConfig

Kind = TypeVar("Kind", bound="type[ExportConfig]")
FORMATS: Registry[type["ExportConfig"]] = Registry("format")
USUAL = "safetensors"


class ExportConfig(Config, ABC):
    """The options of a format."""

    @abstractmethod
    def write(self, model: "Multimodal", config: "SpaceConfig", folder: Path) -> list[str]:
        """Writes the model into an empty folder. Returns a line for each thing that the format cannot hold.

        The model is in evaluation mode, without low-rank updates. `UserError` says which tower the format cannot
        express, and what to do.
        """

    def read(self, folder: Path, given: "Samples") -> "Reading | None":
        """What the library that the format is for makes of these samples from the folder, by its own preprocessing.

        None if tercet itself reads the format.
        """
        return None


def export_format(name: str) -> Callable[[Kind], Kind]:
    """Registers the config of a format."""
    return FORMATS.register(name)


def format_of(name: str, options: Mapping[str, Any]) -> ExportConfig:
    """The format of this name, with its options."""
    return build(FORMATS.get(name), options, lambda key: f"format {name}")


@export_format(USUAL)
class SafetensorsConfig(ExportConfig):
    """tercet's own format: `config.yaml` and `model.safetensors`. It holds every model whole."""

    def write(self, model: "Multimodal", config: "SpaceConfig", folder: Path) -> list[str]:
        from tercet.models.interop.folder import export_folder

        export_folder(model, config, folder)
        return []


@export_format("open_clip")
class OpenClipConfig(ExportConfig):
    """open_clip's folder, for an image and a text tower that open_clip can build."""

    def write(self, model: "Multimodal", config: "SpaceConfig", folder: Path) -> list[str]:
        from tercet.models.export.open_clip import write

        return write(model, config, folder)

    def read(self, folder: Path, given: "Samples") -> "Reading | None":
        from tercet.models.export.open_clip import read

        return read(folder, given)


@export_format("transformers")
class TransformersConfig(ExportConfig):
    """A folder of transformers: CLIPModel, SiglipModel or ClapModel, with its processor."""

    def write(self, model: "Multimodal", config: "SpaceConfig", folder: Path) -> list[str]:
        if find_spec("transformers") is None:
            raise UserError("format transformers needs transformers; pip install 'tercet[huggingface]'")
        from tercet.models.export.transformers import write

        return write(model, config, folder)

    def read(self, folder: Path, given: "Samples") -> "Reading | None":
        from tercet.models.export.transformers import read

        return read(folder, given)


@export_format("onnx")
class OnnxConfig(ExportConfig):
    """One graph for each tower, for onnxruntime, with a `USAGE.md` and a `preprocess.json` that say how to feed it."""

    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32",
        description="fp16: weights and products of matrices in 16 bits; int8: in 8 bits, quantized as the graph runs",
    )

    def write(self, model: "Multimodal", config: "SpaceConfig", folder: Path) -> list[str]:
        from tercet.models.export.onnx.write import export_onnx

        done = export_onnx(model, config, folder, self.precision)
        return [f"the {modality} tower: {why}" for modality, why in done.failed.items()]
