"""The cases of the benchmark: small towers from open_clip and timm, and a batch that often makes gradients wrong.

Neither the tile nor the micro-batch divides the batch, some items share a group, and several layouts lack rows.

Sounds are short tones, each with its own pitch and place. An untrained tower maps sounds of one kind, such as white
noise, to almost equal vectors. Then the gradients of rows nearly cancel in a tower, and the rounding of its own
backward pass in fp32 exceeds the limit, however exact the gradients of its vectors are.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import AudioIntake, Batch, Field
from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.modality import field_behind, modality_of, of_memory, tokens_of
from tercet.models.multimodal import Multimodal
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing.examples import Beside, Example, build_example, example_of
from tercet.training.config import RunConfig

ITEMS, MICRO_BATCH, TILE, DIM = 24, 5, 7, 512
SIDE, PATCHES, LENGTH = 32, 4, 12
END = 49407  # the end token, where CLIP reads the vector of a text
FIELDS = ("image", "audio", "text", "text.synthetic", "text.negative")
LAYOUTS = ("all rows", "rows missing", "one absent")


def clip(**vision: object) -> dict[str, Any]:
    """An open_clip ViT and text tower of two layers each."""
    small = {"image_size": SIDE, "patch_size": 16, "width": 48, "layers": 2, "head_width": 16}
    text = {"context_length": LENGTH, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return {"encoder": "open_clip:ViT-B-32", "options": {"vision_cfg": {**small, **vision}, "text_cfg": text}}


def audio_vit(**options: object) -> dict[str, Any]:
    shape = {"depth": 2, "embed_dim": 48, "num_heads": 3}
    return {"encoder": "timm:vit_tiny_patch16_224", "seconds": 0.25, "options": {**shape, **options}}


@dataclass(frozen=True)
class Setting:
    """The towers, the weights of the pairs of modalities, and the number of groups of items."""

    towers: dict[str, Any]
    pairs: dict[str, float] = field(default_factory=lambda: {"image-text": 1.0, "audio-text": 0.7, "image-audio": 0.5})
    groups: int = 20


BATCHNORM = {"encoder": "timm:mobilenetv4_conv_small", "size": SIDE, "frozen_batchnorm": True}
SETTINGS = {
    "plain": Setting({"image": clip(), "text": clip(), "audio": audio_vit()}),
    "dropout": Setting({"image": clip(patch_dropout=0.5), "text": clip(), "audio": audio_vit(proj_drop_rate=0.2)}),
    "frozen BatchNorm": Setting({"image": BATCHNORM, "text": clip(), "audio": audio_vit()}),
    "image-text": Setting({"image": clip(), "text": clip()}, {"image-text": 1.0}, groups=ITEMS),
}


@dataclass(frozen=True)
class Case:
    """The configuration of one engine."""

    world: int
    zero: int
    objective: str = "infonce"
    clip: float = 0.0
    setting: str = "plain"

    @property
    def example(self) -> Example:
        return example_of(self.objective)

    @property
    def terms(self) -> tuple[TermConfig, ...]:
        """A term over the fields of the example. An objective of two fields has one for each pair of the setting."""
        kind = self.example.objective or self.objective
        objective = ObjectiveConfig.model_validate({"name": kind, **self.example.options})
        beside = self.beside
        more = {
            "references": {name: name for name in beside.references},
            "prototypes": "prototypes" if beside.objective.prototypes else "",
            "against": dict(self.example.against),
            "directions": dict(self.example.directions),
            "projector": dict(self.example.projector) or None,
        }
        pairs = {tuple(pair.split("-")): weight for pair, weight in SETTINGS[self.setting].pairs.items()}
        chosen = {pair: weight for pair, weight in pairs.items() if {*self.example.numbered} <= {*pair}}
        if len(self.example.between) > 2 or self.example.against or any(map(of_memory, self.example.between)):
            chosen = {self.example.between: 1.0}
        return tuple(
            TermConfig(between=between, objective=objective, weight=weight, **more)
            for between, weight in chosen.items()
        )

    @property
    def beside(self) -> Beside:
        """What the objective reads beside the rows."""
        return Beside(build_example(self.objective), self.example, ITEMS)

    @property
    def compares_tokens(self) -> bool:
        """Then texts have different lengths."""
        return any(self.beside.objective.tokens(term.between) for term in self.terms)

    def config(self) -> RunConfig:
        used = {modality_of(name) for term in self.terms for name in term.fields}
        towers = {name: tower for name, tower in SETTINGS[self.setting].towers.items() if name in used}
        raw = {
            "name": "gradients",
            "data": {"train": "none"},
            "model": {"dim": DIM, **towers},
            "terms": [{"between": ["image", "image.more"]}],
            "fields": {"image.more": {"from": "image"}},
            "precision": "fp32",
            "batch_size": ITEMS,
            "zero": self.zero,
            "clip": self.clip,
            "tile": TILE,
        }
        # A recipe would have to say where references and further fields come from. Here, the example has them.
        return RunConfig.model_validate(raw).model_copy(update={"terms": self.terms})

    def items(self, name: str, layout: str) -> Tensor:
        """The item of each row of a field, in the whole batch."""
        index = torch.arange(ITEMS)[exists(field_behind(name), layout, self.world, self.absent)]
        return torch.repeat_interleave(index, 1 + index % self.example.rows.get(name, 1))

    def kept(self, layout: str) -> dict[str, tuple[Tensor, Tensor]]:
        """The vectors and tokens of fields that a memory offers, in the whole batch, and the item of each row."""
        names = {name for term in self.terms for name in term.between if of_memory(name)}
        width = self.terms[0].projector.width(DIM) if self.terms[0].projector else DIM
        items = {name: self.items(name, layout) for name in names}
        found = {name: (self.beside.reference(name, "", width)[item_N], item_N) for name, item_N in items.items()}
        for term in self.terms:
            for name in names.intersection(self.beside.objective.tokens(term.between)):
                drawn = keyed(f"tokens of {name}", 0).standard_normal((ITEMS, PATCHES, width))
                found[tokens_of(name)] = normalize(torch.from_numpy(drawn), dim=2)[items[name]], items[name]
        return found

    @property
    def absent(self) -> str:
        """The field that a rank lacks in the layout `one absent`."""
        fields = [name for term in self.terms for name in term.between if not of_memory(name)]
        return "audio" if "audio" in fields else fields[-1]


def make_batch(model: Multimodal, case: Case, layout: str, world: World) -> Batch:
    """This rank's items of a synthetic batch. One process has the whole batch."""
    intake = model.intakes.get("audio")
    window = intake.window if isinstance(intake, AudioIntake) else 1
    own = torch.tensor(world.share(torch.arange(ITEMS).tolist()))
    beside, fields = case.beside, {}
    for name in model.fields:
        item_N = case.items(name, layout)
        here = torch.isin(item_N, own)
        item = item_N[here] - own[0]
        lengths = torch.full((len(item),), window) if modality_of(name) == "audio" else None
        number = None
        if name in case.example.numbered:
            row_N = torch.arange(len(item_N)) - torch.searchsorted(item_N, item_N)  # among those of the item
            number = beside.numbers(name)[item_N, row_N][here]
        rows = contents(name, len(item_N), window)
        if case.compares_tokens and modality_of(name) == "text":
            end_N1 = 1 + item_N[:, None] % (LENGTH - 1)
            rows[torch.arange(LENGTH) >= end_N1] = 0
            rows.scatter_(1, end_N1, END)
        rows = rows[here]
        fields[name] = Field(modality_of(name), rows, item, lengths, number=number)
    values = {name: beside.value(name)[own] for name in beside.objective.values}
    return Batch(own, own % SETTINGS[case.setting].groups, fields, values=values).to(world.device)


def contents(name: str, rows: int, window: int) -> Tensor:
    """The rows of a field in the whole batch."""
    random = keyed(f"contents of {name}", 0)
    if modality_of(name) == "image":
        return torch.from_numpy(random.integers(256, size=(rows, 3, SIDE, SIDE), dtype=np.uint8))
    if modality_of(name) == "audio":
        pitch_R1, start_R1 = 0.006 * 64 ** random.random((rows, 1)), 0.75 * window * random.random((rows, 1))
        place = np.arange(window)
        heard = (place >= start_R1) & (place < start_R1 + window / 4)
        return torch.from_numpy(0.3 * np.sin(2 * np.pi * pitch_R1 * place) * heard).float()
    tokens = torch.from_numpy(random.integers(1, 49000, size=(rows, LENGTH)))
    tokens[:, -1] = END
    return tokens


def exists(name: str, layout: str, ranks: int, absent: str = "audio") -> Tensor:
    """Which items have the field. In `one absent` the last rank has no sounds; one process uses the items of four."""
    index = torch.arange(ITEMS)
    if layout == "rows missing":
        return (index * 7 + FIELDS.index(name)) % 5 != 0
    if layout == "one absent" and name == absent:
        return index < ITEMS - ITEMS // (ranks if ranks > 1 else 4)
    return torch.ones(ITEMS, dtype=torch.bool)
