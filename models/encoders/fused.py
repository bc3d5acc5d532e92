"""An audio tower of several towers that hear the same clip, as CLASP's (Abootorabi & Asgari 2024).

CLASP's reads speech twice: a picture tower its spectrogram, and a self-supervised speech model its waveform. Their
vectors become one, by a small network over all of them (`fused:concat`), or by a gate between their projections
(`fused:gate`).

Shape letters: n rows, P parts, D the tower's width, S the widths of all parts together.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import AudioIntake
from tercet.errors import UserError, did_you_mean
from tercet.models.config import TowerConfig
from tercet.models.encoders.audio import embed_windows
from tercet.models.encoders.encoder import Encoder, build_encoder

WIDTH = 768  # of the vectors, unless the recipe sets `width`
OF_PART = ("encoder", "features", "options")


class Concat(nn.Module):
    """Two layers over the vectors of all parts."""

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(sum(widths), width), nn.GELU(), nn.Linear(width, width))

    def forward(self, vectors: list[Tensor]) -> Tensor:
        fused: Tensor = self.layers(torch.cat(vectors, 1))
        return fused


class Gate(nn.Module):
    """The sum of the projected parts. For each dimension, weights that add up to 1 follow from all parts."""

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(one, width) for one in widths)
        self.gate = nn.Linear(sum(widths), len(widths) * width)

    def forward(self, vectors: list[Tensor]) -> Tensor:
        pairs = zip(self.projections, vectors, strict=True)
        projected_nPD = torch.stack([projection(vector) for projection, vector in pairs], 1)
        weight_nPD = self.gate(torch.cat(vectors, 1)).view_as(projected_nPD).softmax(1)
        fused_nD: Tensor = (weight_nPD * projected_nPD).sum(1)
        return fused_nD


FUSIONS: dict[str, Callable[[list[int], int], nn.Module]] = {"concat": Concat, "gate": Gate}


class FusedAudio(Encoder):
    """Options: `parts`, two or more towers with `encoder`, `features` and `options`; and `width`.

    Its blocks are the parts, one each, and the fusion. So `unlocked: 1` trains the fusion alone.
    """

    modality = "audio"
    intake: AudioIntake

    def __init__(self, name: str, config: TowerConfig) -> None:
        super().__init__()
        if name not in FUSIONS:
            raise UserError(f"model.audio.encoder: no fusion is named `{name}`; {did_you_mean(name, FUSIONS)}")
        self.parts = nn.ModuleList(build_encoder("audio", part) for part in _parts(config))
        self.width = _width(config)
        self.fusion = FUSIONS[name]([part.width for part in self._towers], self.width)
        self.intake = _common_intake(config, self._towers)

    @property
    def _towers(self) -> list[Any]:
        return list(self.parts)

    def forward(self, values: Tensor, lengths: Tensor | None = None, masks: Tensor | None = None) -> Tensor:
        vectors: Tensor = self.fusion([part(values, lengths, masks) for part in self.parts])
        return vectors

    def embed(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        return embed_windows(self, self.intake.window, values, lengths)

    def blocks(self) -> list[list[nn.Parameter]]:
        return [list(part.parameters()) for part in (*self.parts, self.fusion)]

    def checkpoint_gradients(self) -> None:
        for part in self._towers:
            part.checkpoint_gradients()


def _parts(config: TowerConfig) -> list[TowerConfig]:
    for option in config.options:
        if option not in ("parts", "width"):
            raise UserError(
                f"model.audio.options: unknown option `{option}`; {did_you_mean(option, ('parts', 'width'))}"
            )
    listed = config.options.get("parts")
    if not isinstance(listed, list | tuple) or len(listed) < 2:
        raise UserError(
            "model.audio.options.parts: is not a list of two or more towers; write such as [{encoder: "
            "timm:efficientnet_b0}, {encoder: hf:facebook/hubert-base-ls960}]"
        )
    return [_part(place, part, config) for place, part in enumerate(listed)]


def _part(place: int, part: object, config: TowerConfig) -> TowerConfig:
    where = f"model.audio.options.parts.{place}"
    if not isinstance(part, Mapping) or not part.get("encoder"):
        raise UserError(f"{where}: has no `encoder`; write such as {{encoder: timm:efficientnet_b0}}")
    for key in part:
        if key not in OF_PART:
            raise UserError(f"{where}: unknown key `{key}`; {did_you_mean(str(key), OF_PART)}")
    return TowerConfig.model_validate({**part, "seconds": config.seconds})


def _width(config: TowerConfig) -> int:
    width = config.options.get("width", WIDTH)
    if not isinstance(width, int) or width < 1:
        raise UserError(f"model.audio.options.width: {width!r} is not a number of dimensions; give 1 or more")
    return width


def _common_intake(config: TowerConfig, towers: list[Any]) -> AudioIntake:
    """What all parts read."""
    rates = [tower.intake.rate for tower in towers]
    if len({*rates}) > 1:
        raise UserError(
            f"model.audio.options.parts: they read {' and '.join(f'{rate:,}' for rate in rates)} samples a second; "
            "choose parts of one rate, such as `features: ast16k128` beside HuBERT"
        )
    return AudioIntake(rates[0], config.seconds)
