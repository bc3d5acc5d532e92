"""A tiny model and the embeddings that it makes of a tiny data set, in pieces of sixteen."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

from tercet.data_pipelines.config import DataConfig
from tercet.distributed import World
from tercet.eval.embedding import embed_data as room
from tercet.eval.embedding.store import Store
from tercet.models.config import ModelConfig
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.term_config import TermConfig

TOWER = {"width": 32, "heads": 2}
MODEL = {
    "dim": 16,
    "image": {"encoder": "small:image", "size": 32, "options": TOWER},
    "audio": {"encoder": "small:audio", "features": "small16k64", "seconds": 0.5, "options": TOWER},
    "text": {"encoder": "small:text", "options": TOWER},
}


def tiny(seed: int = 0, **changes: Any) -> Multimodal:
    terms = [TermConfig(between=("image", "text")), TermConfig(between=("audio", "text"))]
    return build_model(ModelConfig.model_validate(MODEL | changes), terms, seed)


def data(shards: Path) -> DataConfig:
    return DataConfig.model_validate({"train": str(shards), "val": str(shards), "workers": 1})


def stored(folder: Path, shards: Path, model: Multimodal | None = None, world: World | None = None) -> Store:
    given = data(shards)
    with patch.object(room, "BATCH", 8), patch.object(room, "PIECE", 16):
        return room.embed_data(model or tiny(), given, given.val["val"], world or World(), folder)
