"""Towers as ONNX graphs: onnxruntime returns the vectors of the model, and tercet evaluates the graphs."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from torch.onnx.errors import OnnxExporterError

import tercet
from tercet.api.model import Model
from tercet.configs.base import build
from tercet.errors import UserError
from tercet.models.export.onnx.graphs import Graph, graph_of
from tercet.models.export.onnx.precision import make_smaller
from tercet.models.export.onnx.write import measured
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tests.training.tiny import MODEL

TEXTS = ["a red circle", "two green squares, and a blue one", ""]
DRAWS = np.random.default_rng(0)


def written(folder: Path, towers: dict[str, Any]) -> Path:
    """A folder with a new model of these towers."""
    pairs = {f"{modality}-text": 1.0 for modality in ("image", "audio") if modality in towers}
    config = build(SpaceConfig, {"model": towers, "pairs": pairs}, lambda key: key)
    return export_folder(build_model(config.model, config.terms, seed=3), config, folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of three small towers, and its graphs."""
    parent = tmp_path_factory.mktemp("onnx")
    written(parent / "model", MODEL)
    assert tercet.export(parent / "model", parent / "graphs", "onnx").left_out == ()
    return parent / "model", parent / "graphs"


@pytest.fixture(scope="module")
def model(folders: tuple[Path, Path]) -> Model:
    return tercet.load(folders[0], "cpu")


@pytest.fixture(scope="module")
def graphs(folders: tuple[Path, Path]) -> Path:
    return folders[1]


def ran(path: Path, **inputs: Any) -> torch.Tensor:
    return torch.from_numpy(onnxruntime.InferenceSession(path).run(["vectors"], inputs)[0])


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [1, 3])
def test_onnxruntime_returns_the_vectors_of_the_model(model: Model, graphs: Path, rows: int) -> None:
    pictures = [DRAWS.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(rows)]
    pixels = np.stack(pictures).transpose(0, 3, 1, 2)
    assert_equal(model.embed(image=pictures).image, ran(graphs / "image.onnx", pixels=pixels))
    for longest in (3_000, 21_000):  # a part of a window of 8,000 samples, and several windows
        waves = [DRAWS.standard_normal(longest // (row + 1)).astype(np.float32) * 0.1 for row in range(rows)]
        waves[-1] = 0.3 * np.sin(0.2 * np.arange(len(waves[-1]), dtype=np.float32))  # of its bands, most are silent
        lengths = np.array([len(wave) for wave in waves])
        padded = np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves])
        ours = model.embed(audio=[(wave, 16_000) for wave in waves]).audio
        assert_equal(ours, ran(graphs / "audio.onnx", wave=padded, lengths=lengths))


def test_the_page_tells_how_to_make_tokens(model: Model, graphs: Path) -> None:
    words = (graphs / "USAGE.md").read_text(encoding="utf-8")
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", words, re.DOTALL) if "crc32" in one)
    rows = []
    for text in TEXTS:
        known: dict[str, Any] = {"text": text}
        exec(code, known)
        rows += known["tokens"]
    assert_equal(model.embed(text=TEXTS).text, ran(graphs / "text.onnx", tokens=np.array(rows)))
    facts = json.loads((graphs / "preprocess.json").read_text(encoding="utf-8"))
    assert facts["towers"]["image"]["inputs"] == {"pixels": {"dtype": "uint8", "shape": ["n", 3, 32, 32]}}
    assert facts["towers"]["audio"]["rate"] == 16_000
    scale, _ = model.towers.head.temperature("image-text")
    assert facts["temperatures"]["image-text"]["scale"] == pytest.approx(float(scale.detach()))
    assert all(one["measured"]["largest_difference"] < 1e-5 for one in facts["towers"].values())


def test_graphs_are_evaluated_like_any_model(folders: tuple[Path, Path], world_folder: Path) -> None:
    names, data = [str(folder) for folder in folders], str(world_folder / "val")
    ours, theirs = tercet.evaluate(names, "retrieval", data).values()
    assert [repr(one) for one in ours] == [repr(one) for one in theirs]
    (rows,) = tercet.compare(*names, data=data, tasks="retrieval").values()
    assert all(row.baseline == row.other for row in rows)
    with pytest.raises(
        UserError, match="holds ONNX graphs, which can only be evaluated; name data to evaluate, or the model"
    ):
        tercet.export(names[1], folders[0] / "again")


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
@pytest.mark.parametrize(("precision", "lowest"), [("fp16", 0.999999), ("int8", 0.999)])
def test_smaller_graphs_lose_little(
    model: Model, graphs: Path, tmp_path: Path, modality: str, precision: Any, lowest: float
) -> None:
    path = Path(shutil.copy(graphs / f"{modality}.onnx", tmp_path))
    whole = path.stat().st_size
    make_smaller(path, precision, external=False)
    found = measured(graph_of(model.towers, modality), path)
    assert path.stat().st_size < whole  # most of a small tower's file is not weights
    assert lowest < found.lowest_cosine <= found.mean_cosine <= 1 + 1e-9
    assert found.largest_difference > 1e-6  # it is not the graph in fp32


def test_a_tower_without_a_graph_is_left_out_with_the_reason(folders: tuple[Path, Path], tmp_path: Path) -> None:
    left_out = {"image"}

    def copied(graph: Graph, path: Path, precision: str) -> None:
        path.write_bytes((folders[1] / path.name).read_bytes())
        if path.stem in left_out:
            raise OnnxExporterError("no graph of it") from ValueError("its path depends on a value\nin line 7")

    with patch("tercet.models.export.onnx.write._write", copied):
        done = tercet.export(folders[0], tmp_path / "two", "onnx")
        assert done.left_out == ("the image tower: torch cannot export it (its path depends on a value)",)
        assert set(done.files) == {"README.md", "USAGE.md", "audio.onnx", "preprocess.json", "text.onnx"}
        assert tercet.load(tmp_path / "two", "cpu").modalities == ("audio", "text")
        left_out |= {"audio", "text"}
        with pytest.raises(UserError, match=r"the image tower: torch cannot export it .*; the audio tower: torch"):
            tercet.export(folders[0], tmp_path / "none", "onnx")


def test_mistakes_are_one_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="format onnx: `precision`"):
        tercet.export(folders[0], tmp_path / "out", "onnx", precision="fp17")
    with (
        patch("tercet.models.export.onnx.needed.find_spec", lambda name: None),
        pytest.raises(UserError, match=r"needs onnx, onnxscript, onnxruntime; pip install 'tercet\[onnx\]'"),
    ):
        tercet.export(folders[0], tmp_path / "out", "onnx")
    (tmp_path / "broken").mkdir()
    shutil.copy(folders[1] / "preprocess.json", tmp_path / "broken")
    (tmp_path / "broken" / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"image\.onnx: onnxruntime cannot run this graph"):
        tercet.load(tmp_path / "broken")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["open_clip", "timm", "bert", "t5", "laion_clap", "fused 10 s", "fused 12 s"])
def test_towers_of_other_libraries(kind: str, tmp_path: Path) -> None:
    """fp16 too, and with their tokenizers read back. LAION-CLAP's has 512 dimensions, others 16."""
    from tests.models.test_encoders_hf_text import write
    from tests.models.test_laion_clap import HTSAT

    small = {"context_length": 20, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 2}
    vit = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
    tiny = {"embed_dim": 16, "vision_cfg": vit, "text_cfg": small}
    (tmp_path / "tiny-onnx.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path)
    words = {"encoder": "small:text", "options": {"width": 32, "heads": 2}}
    convnext = {"encoder": "timm:convnext_atto", "options": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}}
    shallow = {**HTSAT, "depths": [1, 1, 1, 1], "fusion": True}
    fused = {"encoder": "laion_clap:HTSAT-tiny", "options": shallow, "frozen_batchnorm": True}
    towers: dict[str, dict[str, Any]] = {
        one: {"image": MODEL["image"], "text": {"encoder": f"hf:{write(one, tmp_path / one)}"}}
        for one in ("bert", "t5")
    }
    towers |= {
        "open_clip": {"image": {"encoder": "open_clip:tiny-onnx"}, "text": {"encoder": "open_clip:tiny-onnx"}},
        "timm": {"image": {"size": 64, **convnext}, "text": words},
        "laion_clap": {"audio": {"encoder": "laion_clap:HTSAT-tiny", "options": HTSAT}, "text": words},
        "fused 10 s": {"audio": fused, "text": words},
        "fused 12 s": {"audio": {**fused, "seconds": 12.0}, "text": words},
    }
    written(tmp_path / "model", towers[kind])
    whole = tercet.load(tmp_path / "model", "cpu")
    for precision, tolerance in (("fp32", 1e-5), ("fp16", 2e-3)):
        done = tercet.export(whole, tmp_path / precision, "onnx", precision=precision)
        assert done.left_out == ()
        again = tercet.load(tmp_path / precision, "cpu")
        given: dict[str, Any] = {"text": ["a red boat", "", "two dogs two dogs"]}
        if "image" in towers[kind]:
            given["image"] = [DRAWS.integers(0, 256, (50, 70, 3), dtype=np.uint8) for _ in range(3)]
        else:
            given["audio"] = [
                (DRAWS.standard_normal(length).astype(np.float32), 48_000) for length in (90_000, 700_000)
            ]
        ours, theirs = whole.embed(**given), again.embed(**given)
        for modality in given:
            torch.testing.assert_close(theirs[modality], ours[modality], atol=tolerance, rtol=0)
