"""The cases of the benchmark: small towers from open_clip and timm, and a batch that often makes gradients wrong.

Neither the tile nor the micro-batch divides the batch, some items share a group, and several layouts lack rows.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tercet.data_pipelines.sample import AudioIntake, Batch, Field
from tercet.distributed import World
from tercet.models.multimodal import Multimodal
from tercet.training.config import RunConfig

ITEMS, MICRO_BATCH, TILE = 24, 5, 7
SIDE, LENGTH = 32, 12
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

    def config(self) -> RunConfig:
        setting = SETTINGS[self.setting]
        raw = {
            "name": "gradients",
            "data": {"train": "none"},
            "model": {"dim": 512, **setting.towers},
            "pairs": setting.pairs,
            "objective": self.objective,
            "precision": "fp32",
            "batch_size": ITEMS,
            "zero": self.zero,
            "clip": self.clip,
            "tile": TILE,
        }
        return RunConfig.model_validate(raw)


def make_batch(model: Multimodal, case: Case, layout: str, world: World) -> Batch:
    """This rank's items of a synthetic batch. One process has the whole batch."""
    random = torch.Generator().manual_seed(0)
    intake = model.intakes.get("audio")
    window = intake.window if isinstance(intake, AudioIntake) else 1
    values = {
        "image": torch.randint(0, 256, (ITEMS, 3, SIDE, SIDE), generator=random).to(torch.uint8),
        "audio": torch.randn(ITEMS, window, generator=random) * 0.1,
        "text": torch.randint(1, 49000, (ITEMS, LENGTH), generator=random),
    }
    values["text"][:, -1] = 49407  # the end token, where CLIP reads the vector of a text
    own = world.share(torch.arange(ITEMS).tolist())
    fields = {}
    for name in model.fields:
        item = torch.nonzero(exists(name, layout, case.world)[own]).flatten()
        lengths = torch.full((len(item),), window) if name == "audio" else None
        fields[name] = Field(name, values[name][own][item], item, lengths)
    ids = torch.tensor(own)
    return Batch(ids, ids % SETTINGS[case.setting].groups, fields).to(world.device)


def exists(name: str, layout: str, ranks: int) -> Tensor:
    """Which items have the field. In `one absent` the last rank has no sounds; one process uses the items of four."""
    index = torch.arange(ITEMS)
    if layout == "rows missing":
        return (index * 7 + ("image", "audio", "text").index(name)) % 5 != 0
    if layout == "one absent" and name == "audio":
        return index < ITEMS - ITEMS // (ranks if ranks > 1 else 4)
    return torch.ones(ITEMS, dtype=torch.bool)
