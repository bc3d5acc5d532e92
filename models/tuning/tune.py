"""Applies the tuning settings of a recipe: which parts of the towers train, and which small parts are added."""

from collections.abc import Mapping

from tercet.models.config import ModelConfig
from tercet.models.encoders.encoder import Encoder
from tercet.models.head import Head
from tercet.models.tuning.adapters import Adapter
from tercet.models.tuning.locking import lock
from tercet.models.tuning.lora import add_lora
from tercet.models.tuning.plain import accept_plain
from tercet.models.tuning.projection import mlp


def tune(towers: Mapping[str, Encoder], head: Head, config: ModelConfig) -> None:
    """Locks towers, adds updates, adapters and MLPs. Runs last, so other initial weights do not depend on it."""
    for modality, tower in config.towers.items():
        lock(towers[modality], tower.unlocked)
        if tower.lora:
            add_lora(towers[modality], tower.lora)
        if tower.adapter:
            head.adapters[modality] = Adapter(towers[modality].width, tower.adapter)
        if tower.projection:
            head.projections[modality] = mlp(towers[modality].width, head.dim, tower.projection)
    accept_plain(head)
