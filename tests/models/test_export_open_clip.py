"""Models that open_clip loads from an exported folder: its logits equal those of tercet, and tercet reads them back."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tercet
from tercet.api.model import Model
from tercet.errors import UserError
from tercet.models.config import TowerConfig
from tercet.models.encoders import build_encoder
from tercet.models.export.open_clip import write
from tercet.models.export.reading import Samples
from tercet.models.interop.clip_names import to_transformers
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import Multimodal, build_model
from tercet.models.space import SpaceConfig
from tercet.training.pretrained import load_model, open_model
from tests.models.test_encoders_open_clip import MODELS
from tests.models.test_encoders_open_clip_hf import tiny_model, write_repository
from tests.models.test_interop_open_clip import COCA, SIGLIP
from tests.models.test_interop_transformers import MADE, write_tokenizer

NAMES = {f"export-{name}": config for name, config in MODELS.items() if name != "tiny-coca"}
NAMES |= {"export-coca": COCA, "export-sigmoid": SIGLIP}
WIDE = {"force_preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "resize_mode": "squash",
                                 "interpolation": "bilinear"}}  # fmt: skip
SMALL = {"width": 32, "heads": 2}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, config in NAMES.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return folder


def space(image: dict[str, Any], text: dict[str, Any], objective: str = "infonce", **further: Any) -> SpaceConfig:
    model = {"image": image, "text": text, **further.pop("model", {})}
    return SpaceConfig.model_validate({"model": model, "pairs": {"image-text": 1.0}, "objective": objective, **further})


def clip(name: str, **further: Any) -> SpaceConfig:
    return space({"encoder": f"open_clip:{name}"}, {"encoder": f"open_clip:{name}"}, **further)


def built(config: SpaceConfig) -> Multimodal:
    """With a temperature and a bias that no model starts with."""
    model = build_model(config.model, config.terms, 1).eval()
    with torch.no_grad():
        for module in model.head.temperatures.values():
            module.log_scale.fill_(3.3)  # type: ignore[operator, union-attr]
            if module.bias is not None:
                module.bias.fill_(-7.5)  # type: ignore[operator, union-attr]
    return model


def exported(config: SpaceConfig, into: Path) -> tuple[Model, list[str]]:
    into.mkdir()
    model = built(config)
    return Model(model, "model"), write(model, config, into)


@torch.no_grad()
def logits(model: Model, given: Samples | None = None) -> Tensor:
    given = given or Samples()
    z = model.embed(image=given.image, text=given.text)
    scale, bias = model.towers.head.temperature("image-text")
    return scale * z.image @ z.text.T + (0.0 if bias is None else bias)


@torch.no_grad()
def peers_logits(folder: Path, given: Samples | None = None) -> Tensor:
    """As open_clip's README calls it."""
    given, source = given or Samples(), f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    tokens = open_clip.get_tokenizer(source)(given.text)
    found, _ = model.eval().get_logits(torch.stack([preprocess(one) for one in given.image]), tokens)
    return found


CONFIGS = {
    "clip": lambda: clip("export-tiny-clip"),
    "pooler": lambda: clip("export-tiny-custom", objective="sigmoid"),
    "convnext": lambda: clip("export-tiny-convnext"),
    "siglip": lambda: clip("export-sigmoid", objective="sigmoid"),
    "coca": lambda: clip("export-coca"),
    "longer": lambda: space(
        {"encoder": "open_clip:export-tiny-clip", "size": 48, "options": WIDE},
        {"encoder": "open_clip:export-tiny-clip", "context_length": 12},
    ),
    "timm": lambda: space({"encoder": "timm:test_vit"}, {"encoder": "open_clip:export-tiny-clip"}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_open_clip_equal_ours_and_weights_come_back_to_the_bit(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    model, left_out = exported(config, tmp_path / "out")
    assert left_out == []
    theirs = peers_logits(tmp_path / "out")
    assert theirs.std() > 1e-3
    torch.testing.assert_close(logits(model), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)
    again, found = open_model(str(tmp_path / "out"))
    torch.testing.assert_close(logits(Model(again, "again")), theirs, atol=1e-4, rtol=0)
    (tmp_path / "twice").mkdir()
    write(again, found, tmp_path / "twice")
    one, two = (load_file(tmp_path / folder / "open_clip_model.safetensors") for folder in ("out", "twice"))
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_transformer_of_hugging_face_keeps_its_tokenizer_in_the_folder(tmp_path: Path) -> None:
    repository = write_repository("roberta", tmp_path / "roberta")
    config = space({"encoder": "timm:test_vit"}, {"encoder": f"hf:{repository}", "options": {"pool": "cls"}})
    model, left_out = exported(config, tmp_path / "out")
    theirs = peers_logits(tmp_path / "out")
    torch.testing.assert_close(logits(model), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)
    assert (tmp_path / "out/tokenizer.json").is_file()
    line = "the configuration of the text transformer: open_clip reads that of `"
    assert left_out == [f"{line}{repository}` whenever it loads the model"]
    again = Model(load_model(str(tmp_path / "out")), "again")
    torch.testing.assert_close(logits(again), theirs, atol=1e-4, rtol=0)
    (tmp_path / "export-roberta.json").write_text(json.dumps(tiny_model("tiny-roberta", tmp_path)))
    open_clip.add_model_config(tmp_path / "export-roberta.json")
    own = clip("export-roberta")
    whole, _ = exported(own, tmp_path / "own")
    theirs = peers_logits(tmp_path / "own")
    torch.testing.assert_close(logits(whole), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)
    last = space({"encoder": "timm:test_vit"}, {"encoder": f"hf:{repository}", "options": {"pool": "last"}})
    (tmp_path / "last").mkdir()
    with pytest.raises(UserError, match=r"cannot hold model\.text .* open_clip does not pool by `last`; export it as"):
        write(built(last), last, tmp_path / "last")


@pytest.mark.parametrize("name", ["clip", "clip-old"])
def test_a_clip_of_transformers_becomes_one_of_open_clip(name: str, tmp_path: Path) -> None:
    for part in MADE[name]():
        part.save_pretrained(tmp_path / "theirs")
    write_tokenizer(tmp_path / "theirs")
    ours, config = open_model(f"hf:{tmp_path / 'theirs'}")
    (tmp_path / "out").mkdir()
    assert write(ours, config, tmp_path / "out") == []
    given = Samples(text=["a red boat", "two dogs two dogs", "a boat"])
    theirs = peers_logits(tmp_path / "out", given)
    torch.testing.assert_close(logits(Model(ours, name), given), theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)
    again = load_model(str(tmp_path / "out"))
    for modality in ("image", "text"):
        own = ours.tower(modality).model.state_dict()  # type: ignore[union-attr, operator]
        found = to_transformers(modality, again.tower(modality).model.state_dict())  # type: ignore[union-attr, operator]
        assert found.keys() == own.keys()
        assert all(torch.equal(value, own[key]) for key, value in found.items())


def test_what_the_format_cannot_hold_is_named(tmp_path: Path) -> None:
    audio = {"encoder": "small:audio", "features": "small16k64", "seconds": 0.5, "options": SMALL}
    terms = [
        {"between": ["image", "audio"]},
        {"between": ["image", "text"], "name": "main", "objective": "sigmoid"},
        {"between": ["image", "text"], "name": "own", "projector": {"layers": 2, "hidden": 16, "dim": 8}},
    ]
    config = clip("export-tiny-clip").model_dump(mode="json") | {"terms": terms}
    whole = {**config["model"], "audio": audio}
    config = SpaceConfig.model_validate({"model": whole, "terms": terms})
    model, left_out = exported(config, tmp_path / "out")
    assert left_out == [
        "the audio tower",
        "the temperature of the term `image-audio`",
        "the temperature of the term `own`",
        "the projector of the term `own`",
    ]
    written = json.loads((tmp_path / "out/open_clip_config.json").read_text())["model_cfg"]
    assert written["init_logit_bias"] == -7.5
    assert model.modalities == ("image", "audio", "text")


MISFITS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "small image": ({"encoder": "small:image"}, {}, r"model\.image \(`small:image`\): open_clip has no such tower"),
    "small text": ({}, {"encoder": "small:text", "options": SMALL}, r"model\.text \(`small:text`\)"),
    "adapter": ({"adapter": {}}, {}, "it has an `adapter`; export it as safetensors"),
    "mlp": ({"encoder": "timm:test_vit", "projection": {}}, {}, "it is projected by an MLP"),
    "alpha": ({"alpha": True}, {}, r"it reads a mask \(`alpha`\)"),
    "activation": ({}, {"encoder": "open_clip:export-tiny-custom"}, "its activation is not that of the image tower"),
    "timm": ({"encoder": "timm:test_vit", "options": {"no_embed_class": True}}, {}, "the option `no_embed_class`"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_towers_that_open_clip_cannot_build_are_refused(name: str, tmp_path: Path) -> None:
    image, text, message = MISFITS[name]
    usual = {"encoder": "open_clip:export-tiny-clip"}
    config = space({**usual, **image}, {**usual, **text})
    with pytest.raises(UserError, match=message):
        write(built(config), config, tmp_path)
    assert not (tmp_path / "open_clip_model.safetensors").exists()


def test_the_public_function_reads_the_folder_back_and_refuses_other_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS["pooler"]()
    source = export_folder(built(config), config, tmp_path / "ours")
    done = tercet.export(source, tmp_path / "out", "open_clip")
    assert done.files.keys() == {"README.md", "open_clip_config.json", "open_clip_model.safetensors"}
    assert done.difference is not None
    assert done.difference < 1e-6
    assert "read back by open_clip: its vectors differ by " in str(done)
    tower = {"encoder": f"open_clip:local-dir:{tmp_path / 'out'}"}
    assert torch.equal(
        build_encoder("text", TowerConfig(**tower)).state_dict()["model.positional_embedding"],
        load_file(tmp_path / "out/open_clip_model.safetensors")["text.positional_embedding"],
    )
    with pytest.raises(UserError, match=r"model\.text\.encoder: the folder none has no open_clip_config\.json"):
        build_encoder("text", TowerConfig(encoder="open_clip:local-dir:none"))
    monkeypatch.setattr("tercet.models.export.open_clip._preprocessing", lambda *_: {"mean": [0.1] * 3})
    with pytest.raises(UserError, match=r"gives other vectors than .*: they differ by .*; do not use this folder"):
        tercet.export(source, tmp_path / "wrong", "open_clip")
    assert not (tmp_path / "wrong").exists()
