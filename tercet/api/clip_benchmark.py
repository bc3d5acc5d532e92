"""A model as CLIP_benchmark loads it, and CLIP_benchmark's command with the models of tercet.

    python -m tercet.api.clip_benchmark eval --model_type tercet --model runs/mine --pretrained none --dataset cifar10

CLIP_benchmark has a fixed list of model types, which is why its own command does not know `tercet`.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from tercet.api.media import files_of
from tercet.api.model import Loadable, Model, load
from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.text import cleaned
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.sample import Field, Intake, TextIntake
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.errors import UserError

TYPE = "tercet"
USUAL_SCALE = 100.0


class Encoders(nn.Module):
    """`encode_image` and `encode_text`, as those of open_clip. The vectors have length 1."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.towers = model.towers
        self.register_buffer("logit_scale", torch.tensor(math.log(scale_of(model)), device=model.device))

    def encode_image(self, pixels_nCHW: Tensor) -> Tensor:
        return self._encoded("image", pixels_nCHW)

    def encode_text(self, tokens_nL: Tensor) -> Tensor:
        return self._encoded("text", tokens_nL)

    def _encoded(self, modality: str, values: Tensor) -> Tensor:
        return self.towers.embed_field(Field(modality, values, torch.arange(len(values), device=values.device)))


@dataclass(frozen=True)
class Pixels:
    """Decodes, resizes and crops a picture as the model's tower wants it: uint8 `[C, H, W]`."""

    intake: Intake

    def __call__(self, picture: Image.Image) -> Tensor:
        decode = FileDecoder({"image": self.intake}, SplitConfig(source="given"))
        found = decode.sample("0", 0, files_of("image", picture), CentreView())
        if isinstance(found, BadSample):
            raise UserError(f"a picture cannot be embedded ({found.reason}); leave it out")
        return torch.from_numpy(found.media["image"]).permute(2, 0, 1)


@dataclass(frozen=True)
class Tokens:
    """Cleans texts and cuts them into tokens."""

    intake: TextIntake

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self.intake.tokenize([cleaned(text) for text in texts])


class Loaded(NamedTuple):
    """The three things that CLIP_benchmark works with."""

    model: Encoders
    transform: Pixels
    tokenizer: Tokens


def clip_benchmark_model(model: Loadable, device: str | torch.device | None = None, dims: int | None = None) -> Loaded:
    """`model, transform, tokenizer = tercet.clip_benchmark_model("runs/mine")`, for the functions of CLIP_benchmark."""
    found = load(model, device, dims)
    missing = [name for name in ("image", "text") if name not in found.modalities]
    if missing:
        raise UserError(f"{found.name} has no {missing[0]} tower; CLIP_benchmark compares pictures with texts")
    text = found.towers.intakes["text"]
    assert isinstance(text, TextIntake)
    return Loaded(Encoders(found).eval(), Pixels(found.towers.intakes["image"]), Tokens(text))


def scale_of(model: Model) -> float:
    """The inverse temperature of the term that compares pictures with captions, or the usual one."""
    return model.towers.scales.get("image", USUAL_SCALE)


def register() -> None:
    """Adds `tercet` to the model types that CLIP_benchmark knows in this process."""
    try:
        models = import_module("clip_benchmark.models")
    except ImportError as error:
        raise UserError(f"CLIP_benchmark cannot be imported ({error}); pip install clip-benchmark") from None
    models.TYPE2FUNC[TYPE] = _load
    if TYPE not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(TYPE)


def _load(model_name: str, device: str | torch.device = "cpu", **unused: Any) -> Loaded:
    """The signature that CLIP_benchmark calls. A model of tercet brings its weights, so `pretrained` is not used."""
    return clip_benchmark_model(model_name, device)


def complete() -> None:
    """Lets the command of CLIP_benchmark 1.6 run without the package of its metrics of captions, which it imports for
    every task and which needs Java, and with NumPy from 2.4, which refuses its top-k accuracy."""
    metrics = "clip_benchmark.metrics"
    if find_spec("pycocoevalcap") is None:
        sys.modules.setdefault(f"{metrics}.captioning", Captioning(f"{metrics}.captioning"))
    vars(import_module(f"{metrics}.zeroshot_classification"))["accuracy"] = accuracy


class Captioning(ModuleType):
    """In place of the metrics of captions."""

    def evaluate(self, *_: Any, **__: Any) -> None:
        raise UserError("the task captioning of CLIP_benchmark needs pycocoevalcap; install it, or name another task")


def accuracy(logits_nK: Tensor, label_n: Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """The share of rows whose label is among the first k, for each k."""
    right_nk = logits_nK.topk(max(topk), 1).indices == label_n[:, None]
    return [int(right_nk[:, :k].sum()) / len(label_n) for k in topk]


def main() -> int:
    """CLIP_benchmark's command, which reads its own arguments."""
    try:
        register()
        complete()
        import_module("clip_benchmark.cli").main()
    except (ImportError, UserError) as error:
        print(f"tercet: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
