"""A folder with pictures, tables, a sound and an exported model; the tests of the Python API run in it."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import soundfile
import torch
from PIL import Image

import tercet
from tercet.api.model import Model
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tests.models.test_encoders_open_clip import MODELS
from tests.tercet.api.boats import SPACE, pixels, write_table


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, tables about them, a sound, and an exported model."""
    home = tmp_path_factory.mktemp("home")
    (home / "photos").mkdir()
    for number in range(60):
        Image.fromarray(pixels(number)).save(home / "photos" / f"{number}.png")
    Image.fromarray(pixels(0)).save(home / "boat.jpg")
    soundfile.write(home / "horn.wav", np.sin(np.arange(11025) / 9).astype(np.float32), 11025, subtype="FLOAT")
    write_table(home / "photos.csv", range(48))
    write_table(home / "val.csv", range(48, 60))
    config = SpaceConfig.model_validate(SPACE)
    export_folder(build_model(config.model, config.terms, seed=3), config, home / "exported")
    return home


@pytest.fixture(scope="module")
def weights(home: Path) -> str:
    """The file of a small random model of open_clip, whose name there is tiny-clip."""
    (home / "configs").mkdir()
    (home / "configs" / "tiny-clip.json").write_text(json.dumps(MODELS["tiny-clip"]))
    open_clip.add_model_config(home / "configs")
    torch.manual_seed(4)
    torch.save(open_clip.create_model("tiny-clip").state_dict(), home / "tiny.pt")
    return "tiny.pt"


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("TERCET_CACHE", str(home / "cache"))


@pytest.fixture
def model() -> Model:
    return tercet.load("exported")
