"""Folders of CLIP_benchmark, evaluated by its own rules: the same model, pictures and prompts give the same numbers."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score
from torch.nn.functional import normalize

import tercet
from tercet.command import main
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.evaluator import Evaluator
from tercet.eval.own_classes import classes_of
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


@torch.no_grad()
def scores_by_their_rules(weights: str) -> torch.Tensor:
    """Of each picture with each class: templates are averaged by class."""
    model: Any
    model, _, transform = open_clip.create_model_and_transforms("tiny-clip", pretrained=weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    classifier = []
    for name in NAMES:
        texts = normalize(model.encode_text(tokenizer([template.format(c=name) for template in TEMPLATES])), dim=-1)
        classifier.append(texts.mean(dim=0) / texts.mean(dim=0).norm())
    pictures = torch.stack([transform(Image.open(io.BytesIO(png(number)))) for number in range(COUNT)])
    return 100.0 * normalize(model.encode_image(pictures), dim=-1) @ torch.stack(classifier, dim=1)


def by_their_rules(weights: str) -> dict[str, float]:
    """`clip_benchmark.metrics.zeroshot_classification`, from its description."""
    scores = scores_by_their_rules(weights)
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


@pytest.fixture
def scenes(home: Path) -> Path:
    """As `clip_benchmark_export_wds --multilabel` writes a dataset. The last class has no picture, and two pictures no
    class."""
    folder, first = home / "wds" / "scenes", COUNT // 2
    right_NK = labels_of_scenes()
    for part, numbers in enumerate((range(first), range(first, COUNT))):
        path = folder / "test" / f"{part}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for number in numbers:
                array = io.BytesIO()
                np.save(array, right_NK[number])
                for extension, data in (("png", png(number)), ("npy", array.getvalue())):
                    member = tarfile.TarInfo(f"s{number:07d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    (folder / "test" / "nshards.txt").write_text("2\n")
    (folder / "dataset_type.txt").write_text("multilabel\n")
    (folder / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    return folder


def labels_of_scenes() -> NDArray[np.float32]:
    right_NK = (np.random.default_rng(3).random((COUNT, len(NAMES))) < 0.3).astype(np.float32)
    right_NK[:, -1] = 0
    right_NK[[4, 9]] = 0
    return right_NK


def test_pictures_with_several_labels_are_evaluated_by_mean_average_precision(
    scenes: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", f"open_clip:tiny-clip/{weights}", "--data", "wds/scenes", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["task"]) == ("scenes", "zero_shot")
    scores, right_NK = scores_by_their_rules(weights).numpy(), labels_of_scenes()
    named = range(len(NAMES) - 1)  # the class without a picture does not count
    expected = np.mean([average_precision_score(right_NK[:, one], scores[:, one]) for one in named])
    assert found["metrics"]["class from image mAP"] == pytest.approx(expected, abs=1e-12)
    split = tercet.evaluate(f"open_clip:tiny-clip/{weights}", "zero_shot", {"one": "wds/scenes/test"})
    assert split["class from image mAP"].value == pytest.approx(expected, abs=1e-12)
    assert split["class from image mAP"].n == COUNT


def test_labels_that_are_not_a_number_for_each_class_are_an_error_of_one_line(scenes: Path) -> None:
    (scenes / "classnames.txt").write_text("boat\ncar\n")
    with pytest.raises(
        UserError, match=r"^s0000000\.npy in .*0\.tar has the shape \[7\]; give one number for each of 2"
    ):
        tercet.evaluate("exported", data="wds/scenes")


def test_a_command_takes_several_folders(wds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "exported", "--data", "wds/toys", "--data", "mine=wds/captions", "--json"]) == 0
    found = [(one["dataset"], one["task"]) for one in json.loads(capsys.readouterr().out)]
    assert found == [("toys", "zero_shot"), ("mine", "retrieval")]


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
    found = [one for one in found if one.task == "zero_shot"]  # once, though it is named twice
    expected = tercet.evaluate("exported", "zero_shot", "val.csv", labels=["boat", "car"], templates="a {class}")
    assert [(one.name, one.value) for one in found] == [(one.name, one.value) for one in expected]
