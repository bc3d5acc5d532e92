"""What a recipe changes of given towers: which part of them trains, and what small parts are added to train."""

from collections.abc import Mapping

from tercet.models.config import ModelConfig
from tercet.models.encoders.encoder import Encoder
from tercet.models.head import Head
from tercet.models.tuning.adapters import Adapter
from tercet.models.tuning.locking import lock
from tercet.models.tuning.lora import add_lora
from tercet.models.tuning.plain import accept_plain


def tune(towers: Mapping[str, Encoder], head: Head, config: ModelConfig) -> None:
    """Locks, low-rank updates and adapters. Called when all else is built: what is drawn here moves no other draw."""
    for modality, asked in config.towers.items():
        lock(towers[modality], asked.unlocked)
        if asked.lora:
            add_lora(towers[modality], asked.lora)
        if asked.adapter:
            head.adapters[modality] = Adapter(towers[modality].width, asked.adapter)
    accept_plain(head)
