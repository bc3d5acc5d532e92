"""Small files of the shapes in which SugarCrepe, SugarCrepe++, ARO and Winoground are published, up to their scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tercet.command import main
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.convert import convert
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.evaluate import evaluate
from tercet.eval.evaluator import Evaluator
from tests.eval.stored import tiny

BOX = {"bbox_x": 2, "bbox_y": 4, "bbox_w": 10, "bbox_h": 6}
SUGARCREPE = {
    "swap_att.json": {
        "0": {
            "filename": "a.png",
            "caption": "a red dog and a blue cat",
            "negative_caption": "a blue dog and a red cat",
        },
        "7": {"filename": "b.png", "caption": "two men and a bus", "negative_caption": "two buses and a man"},
    },
    "add_obj.json": {"0": {"filename": "a.png", "caption": "a dog", "negative_caption": "a dog and a hat"}},
}
PLUS = {
    "swap_object.json": [
        {
            "id": 4, "filename": "b.png", "caption": "a man on a bus", "caption2": "on a bus sits a man",
            "negative_caption": "a bus on a man",
        }
    ]
}  # fmt: skip
RELATION = {
    "visual_genome_relation.json": [
        {
            "image_path": "a.png", "relation_name": "eating", "true_caption": "the horse is eating the grass",
            "false_caption": "the grass is eating the horse", **BOX,
        }
    ]
}  # fmt: skip
ATTRIBUTION = {
    "visual_genome_attribution.json": [
        {
            "image_path": "a.png", "attributes": ["paved", "white"],
            "true_caption": "the paved road and the white house",
            "false_caption": "the white road and the paved house", **BOX,
        }
    ]
}  # fmt: skip
WINOGROUND = [
    {"id": 0, "image_0": "a", "image_1": "b", "caption_0": "an old person kisses a young person",
     "caption_1": "a young person kisses an old person", "collapsed_tag": "Object", "tag": "Adjective-Age"},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def table(folder: Path, files: dict[str, Any]) -> tuple[EmbeddingTable, list[dict[str, Any]], Any]:
    """The embeddings of a converted test, its rows, and the model."""
    (folder / "own").mkdir()
    for name, content in files.items():
        lines = "\n".join(map(json.dumps, content)) if name.endswith(".jsonl") else json.dumps(content)
        (folder / "own" / name).write_text(lines)
    out = folder / "tables" / "test.jsonl"
    convert([folder / "own" / name for name in files], folder, out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    given = DataConfig.model_validate({"train": str(out), "val": str(out), "workers": 0})
    model = tiny().eval()
    return Evaluator(given, EvalConfig(), World()).table(model, "val", given.val["val"]), rows, model


def scores(model: Any, found: EmbeddingTable, texts: list[str]) -> torch.Tensor:
    """The score of each picture with each text, `[pictures, texts]`."""
    with torch.no_grad():
        return found.vectors["image"] @ model.embed_text(texts).T


def test_sugarcrepe_from_several_files(folder: Path) -> None:
    found, _, model = table(folder, SUGARCREPE)
    results = {one.subject: one for one in evaluate(found, model.embed_text, ["sugarcrepe"], EvalConfig())}
    assert {name: one.n for name, one in results.items()} == {
        "image, add_obj": 1,
        "image, swap_att": 2,
        "image, all": 3,
    }
    asked = [entry for file in SUGARCREPE.values() for entry in file.values()]
    right = scores(model, found, [entry["caption"] for entry in asked]).diagonal()
    wrong = scores(model, found, [entry["negative_caption"] for entry in asked]).diagonal()
    assert results["image, all"].value == pytest.approx(float((right > wrong).double().mean()))
    assert results["image, all"].metadata["groups"] == 2  # two of the three questions are about one picture


def test_sugarcrepe_pp_has_two_right_captions(folder: Path) -> None:
    found, rows, model = table(folder, PLUS)
    assert rows[0]["caption"] == ["a man on a bus", "on a bus sits a man"]
    results = evaluate(found, model.embed_text, ["sugarcrepe_pp"], EvalConfig())
    assert [(one.subject, one.metric, one.n) for one in results] == [
        ("image, swap_object", "accuracy", 1), ("image, swap_object", "text-only accuracy", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "kind", "name"), [(RELATION, "eating", "aro_relation"), (ATTRIBUTION, "paved_white", "aro_attribution")]
)
def test_aro_shows_the_box_of_its_picture(folder: Path, files: Any, kind: str, name: str) -> None:
    found, (row,), model = table(folder, files)
    with Image.open(folder / "tables" / row["image"]) as cut, Image.open(folder / "a.png") as whole:
        assert np.array_equal(np.asarray(cut), np.asarray(whole)[4:10, 2:12])
    assert row["negatives"][0]["kind"] == kind
    if name == "aro_relation":
        (result,) = evaluate(found, model.embed_text, [name], EvalConfig())
        assert result.metadata["by kind"] == {kind: result.value}


def test_winoground_is_two_samples_of_one_pair(folder: Path) -> None:
    found, rows, model = table(folder, {"examples.jsonl": WINOGROUND})
    assert [(row["key"], row["pair"], row["kind"]) for row in rows] == [("0_0", "0", "Object"), ("0_1", "0", "Object")]
    results = {one.metric: one for one in evaluate(found, model.embed_text, ["winoground"], EvalConfig())}
    (a, b), (c, d) = scores(model, found, [row["caption"][0] for row in rows]).tolist()
    assert results["text score"].value == float(a > b and d > c)
    assert results["image score"].value == float(a > c and d > b)
    assert results["group score"].value == float(a > b and d > c and a > c and d > b)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"0": {"filename": "c.png", "caption": "a", "negative_caption": "b"}}', "c.png: no such picture"),
        ('[{"caption": "a"}]', "an entry has the keys caption, which no known test has"),
        ("[1]", "entry 0 is not an object"),
        ("[", "not valid JSON"),
        ("[]", "the files hold nothing; give the files of one test"),
    ],
)
def test_what_is_no_published_test_is_an_error_of_one_line(folder: Path, content: str, complaint: str) -> None:
    (folder / "test.json").write_text(content)
    with pytest.raises(UserError) as caught:
        convert([folder / "test.json"], folder, folder / "out.jsonl")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "out.jsonl").exists()


def test_the_command_says_what_it_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "examples.jsonl").write_text(json.dumps(WINOGROUND[0]))
    code = main(
        ["data", "convert", str(folder / "examples.jsonl"), "--images", str(folder), "--out", str(folder / "t.jsonl")]
    )
    assert code == 0
    assert "t.jsonl: 2 samples of Winoground" in capsys.readouterr().out
