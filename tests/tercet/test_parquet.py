"""A table of embeddings is made again for the same request, and never replaced by that of another."""

from pathlib import Path

import pytest
from PIL import Image

from tercet.api.parquet import FILE, embed_parquet
from tercet.errors import UserError
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tests.tercet.test_queries import SPACE

pytest.importorskip("pyarrow.parquet")


def exported(folder: Path, seed: int) -> str:
    config = SpaceConfig.model_validate(SPACE)
    return str(export_folder(build_model(config.model, config.terms, seed), config, folder))


def test_a_file_from_other_weights_is_not_overwritten(tmp_path: Path) -> None:
    data = tmp_path / "boats.csv"
    Image.new("RGB", (32, 32), "red").save(tmp_path / "boat.png")
    data.write_text("image,caption\nboat.png,a boat\n", encoding="utf-8")
    first, second = (exported(tmp_path / str(seed), seed) for seed in (0, 1))
    embed_parquet(first, str(data), tmp_path)
    written = (tmp_path / FILE).read_bytes()
    embed_parquet(first, str(data), tmp_path)
    with pytest.raises(UserError, match=r"holds other embeddings \(weights changed\); name another folder"):
        embed_parquet(second, str(data), tmp_path)
    assert (tmp_path / FILE).read_bytes() == written
