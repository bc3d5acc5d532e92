"""Folders of CLIP_benchmark, evaluated by its own rules: the same model, pictures and prompts give the same numbers."""

import io
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import tercet
from tercet.command import main
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.evaluator import Evaluator
from tercet.eval.own_classes import classes_of
from tests.models.test_encoders_open_clip import MODELS
from tests.tercet.api.boats import pixels
from tests.tercet.outside import shard

NAMES = ["apple", "red_fox", "eight ball", "owl", "unicycle", "cat", "hour"]
TEMPLATES = ["a photo of a {c}.", "art of the {c}, a {c}"]
COUNT = 56


def class_of(number: int) -> int:
    """Classes of unequal sizes, so that balanced accuracy differs from accuracy."""
    return min(number % 11, len(NAMES) - 1)


def png(number: int) -> bytes:
    page = io.BytesIO()
    Image.fromarray(pixels(number)[:32, :32]).save(page, "png")
    return page.getvalue()


@pytest.fixture(scope="module")
def wds(home: Path) -> Path:
    """As `clip_benchmark_export_wds` writes a dataset: two shards of classes, and another dataset of captions."""
    folder = home / "wds" / "toys"
    for part in (0, 1):
        numbers = range(part * COUNT // 2, (part + 1) * COUNT // 2)
        shard(
            folder / "test" / f"{part}.tar",
            ({"cls": str(class_of(number)).encode(), "png": png(number)} for number in numbers),
        )
    (folder / "test" / "nshards.txt").write_text("2\n")
    (folder / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    captions = home / "wds" / "captions"
    shard(
        captions / "test" / "0.tar",
        ({"txt": f"picture {number}\nnumber {number}".encode(), "png": png(number)} for number in range(9)),
    )
    (captions / "test" / "nshards.txt").write_text("1\n")
    (captions / "dataset_type.txt").write_text("retrieval\n")
    return home / "wds"


@pytest.fixture(scope="module")
def weights(home: Path) -> str:
    (home / "configs").mkdir()
    (home / "configs" / "tiny-clip.json").write_text(json.dumps(MODELS["tiny-clip"]))
    open_clip.add_model_config(home / "configs")
    torch.manual_seed(5)
    torch.save(open_clip.create_model("tiny-clip").state_dict(), home / "tiny.pt")
    return "tiny.pt"


@torch.no_grad()
def by_their_rules(weights: str) -> dict[str, float]:
    """`clip_benchmark.metrics.zeroshot_classification`, from its description: templates are averaged by class."""
    model: Any
    model, _, transform = open_clip.create_model_and_transforms("tiny-clip", pretrained=weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    classifier = []
    for name in NAMES:
        texts = normalize(model.encode_text(tokenizer([template.format(c=name) for template in TEMPLATES])), dim=-1)
        classifier.append(texts.mean(dim=0) / texts.mean(dim=0).norm())
    pictures = torch.stack([transform(Image.open(io.BytesIO(png(number)))) for number in range(COUNT)])
    scores = 100.0 * normalize(model.encode_image(pictures), dim=-1) @ torch.stack(classifier, dim=1)
    target = torch.tensor([class_of(number) for number in range(COUNT)])
    right = scores.topk(5).indices == target[:, None]
    recalls = [right[target == one, 0].double().mean() for one in target.unique()]
    return {
        "acc1": float(right[:, 0].sum()) / COUNT,
        "acc5": float(right.any(dim=1).sum()) / COUNT,
        "mean_per_class_recall": float(torch.stack(recalls).mean()),
    }


def test_accuracy_is_that_of_clip_benchmark_to_the_last_digit(
    wds: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", f"open_clip:tiny-clip/{weights}", "--data", "wds/toys", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["task"]) == ("toys", "zero_shot")
    expected = by_their_rules(weights)
    assert len(set(expected.values())) == 3
    for metric, value in expected.items():
        assert found["metrics"][f"class from image {metric}"] == pytest.approx(value, abs=1e-12)


def test_folders_are_named_by_their_dataset_and_bring_their_task(wds: Path) -> None:
    found = tercet.evaluate("exported", data={"a": "wds/toys", "b": "wds/captions"})
    assert [(one.dataset, one.task) for one in found if one.metric in ("acc1", "R@1")] == [
        ("a", "zero_shot"), ("b", "retrieval"), ("b", "retrieval"),
    ]  # fmt: skip
    assert found["text→image R@1"].n == 18
    split = tercet.evaluate("exported", "zero_shot", "wds/toys/test")
    assert split[0].value == found["class from image acc1"].value
    other = tercet.evaluate("exported", "zero_shot", "wds/toys", labels=NAMES, templates="{class}")
    assert other.to_json()[0]["hashes"] != split.to_json()[0]["hashes"]


def test_an_average_over_datasets_takes_what_each_of_them_has(wds: Path) -> None:
    """As DataComp does: accuracy of the datasets with classes, R@1 of those with captions."""
    Path("datacomp.yaml").write_text("{kind: group, average: true, tasks: [zero_shot, retrieval]}", encoding="utf-8")
    data = {"a": "wds/toys", "b": "wds/captions", "c": "wds/toys/test"}
    found = tercet.evaluate("exported", "datacomp.yaml", data)
    (mean,) = [one for one in found if one.metric == "average"]
    accuracy = [one.value for one in found if one.metric == "acc1"]
    recalls = [one.value for one in found if one.metric == "R@1"]
    assert (len(accuracy), len(recalls)) == (2, 2)
    assert (mean.dataset, mean.subject) == ("all datasets", "mean of 3 tasks")
    assert mean.value == pytest.approx((sum(accuracy) + sum(recalls) / 2) / 3)
    assert "exported was not evaluated by retrieval on a and c: retrieval needs two modalities" in found.warnings[0]
    assert len(found.warnings) == 2


def test_classes_that_look_like_numbers_or_repeat_are_numbered(wds: Path, home: Path) -> None:
    names = home / "wds" / "toys" / "classnames.txt"
    before = tercet.evaluate("exported", data="wds/toys")
    assert before[0].n == COUNT
    try:
        names.write_text("\n".join(["6", "5", "4", "3", "2", "2", "0"]))
        assert tercet.evaluate("exported", data="wds/toys")[0].n == COUNT
    finally:
        names.write_text("\n".join(NAMES) + "\n")


def test_a_saved_dataset_brings_the_names_of_its_classes(home: Path) -> None:
    datasets = pytest.importorskip("datasets")
    column = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["boat", "blue_car"])}
    rows = {"image": [{"bytes": png(number), "path": None} for number in range(12)], "label": [0, 1] * 6}
    datasets.Dataset.from_dict(rows, features=datasets.Features(column)).save_to_disk(home / "saved")
    found = tercet.evaluate("exported", data="hf:saved")
    named = tercet.evaluate("exported", "zero_shot", "hf:saved", labels={"boat": "boat", "blue car": "blue car"})
    assert [(one.name, one.value, one.n) for one in found] == [(one.name, one.value, 12) for one in named]
    info = home / "saved" / "dataset_info.json"
    described = json.loads(info.read_text(encoding="utf-8"))
    described["features"]["label"] = [described["features"]["label"]]  # a list of classes of each sample
    info.write_text(json.dumps(described), encoding="utf-8")
    assert not classes_of("hf:saved")
    captioned = {**column, "caption": datasets.Value("string")}
    rows["caption"] = [f"picture {number}" for number in range(12)]
    datasets.Dataset.from_dict(rows, features=datasets.Features(captioned)).save_to_disk(home / "captioned")
    assert {one.task for one in tercet.evaluate("exported", data="captioned")} == {"retrieval"}
    assert tercet.evaluate("exported", "zero_shot", "captioned")[0].value == found[0].value


def test_a_template_without_a_place_for_the_class_is_an_error_of_one_line(wds: Path, home: Path) -> None:
    templates = home / "wds" / "toys" / "zeroshot_classification_templates.txt"
    try:
        templates.write_text("a photo of a {}.\n")
        with pytest.raises(UserError, match=r"line 1, `a photo of a {}\.`, has no place for the class; add {c}"):
            tercet.evaluate("exported", data="wds/toys")
    finally:
        templates.write_text("\n".join(TEMPLATES) + "\n")


def test_a_recipe_names_the_classes_of_its_own_evaluations() -> None:
    from tercet.api.data import read_plainly

    Path("mean.yaml").write_text("{kind: group, average: true, tasks: [zero_shot, retrieval]}", encoding="utf-8")
    config = EvalConfig(tasks=("mean.yaml", "zero_shot"), labels=("boat", "car"), templates=("a {class}",))
    found = Evaluator(read_plainly("val.csv"), config, World())(tercet.load("exported").towers).results
    assert [one.task for one in found if one.metric == "average"] == ["mean"]
    found = [one for one in found if one.task == "zero_shot"][2:]
    expected = tercet.evaluate("exported", "zero_shot", "val.csv", labels=["boat", "car"], templates="a {class}")
    assert [(one.name, one.value) for one in found] == [(one.name, one.value) for one in expected]
