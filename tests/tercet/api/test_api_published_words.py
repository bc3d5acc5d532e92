"""ImageNet by the words that open_clip carries: class vectors and accuracies are those of its own classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from PIL import Image
from timm.data import ImageNetInfo
from torch.nn.functional import normalize

import tercet
from tercet.errors import UserError
from tercet.eval.classification.classified import class_vectors
from tercet.eval.classification.zero_shot import ZeroShotTask
from tercet.eval.load_tasks import load_task
from tests.tercet.api.boats import pixels

FIRST, PICTURES = 12, 60  # of 1,000 classes


def imagenet() -> ZeroShotTask:
    task = load_task("imagenet1k")
    assert isinstance(task, ZeroShotTask)
    return task


@pytest.fixture(scope="module")
def validation(home: Path) -> Sequence[tuple[Path, int]]:
    """Pictures in folders that are named by WordNet ids, as ImageNet has them, and a table with class numbers."""
    ids = ImageNetInfo("imagenet-1k").label_names()
    found = []
    for number in range(PICTURES):
        label = number * 7 % 11
        path = home / "imagenet" / ids[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(path)
        found.append((path, label))
    rows = [f"{path.relative_to(home)},{label}" for path, label in found]
    (home / "imagenet.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return found


@torch.no_grad()
def by_open_clip(weights: str, pictures: Sequence[Path]) -> tuple[Any, Any]:
    """The classifier of the first classes, by open_clip's own function, and its scores."""
    model: Any
    model, _, transform = open_clip.create_model_and_transforms("tiny-clip", pretrained=weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer("tiny-clip")
    names, templates = open_clip.IMAGENET_CLASSNAMES[:FIRST], open_clip.OPENAI_IMAGENET_TEMPLATES
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, names, templates)
    stacked = torch.stack([transform(Image.open(path)) for path in pictures])
    return classifier, normalize(model.encode_image(stacked), dim=-1) @ classifier


def test_imagenet_is_evaluated_as_by_open_clip(weights: str, validation: Sequence[tuple[Path, int]]) -> None:
    classifier, scores = by_open_clip(weights, [path for path, _ in validation])
    task = imagenet()
    some = dict(list(task.classes.items())[:FIRST])
    vectors = class_vectors(
        tercet.load(f"open_clip:tiny-clip/{weights}").towers.embed_text, task.model_copy(update={"classes": some})
    )
    assert torch.allclose(vectors, classifier.T, atol=1e-6)
    Path("some.yaml").write_text(yaml.safe_dump({"extends": "imagenet1k", "classes": some}))
    target = torch.tensor([label for _, label in validation])
    right = scores.topk(10).indices == target[:, None]
    for data in ("imagenet", "imagenet.csv"):
        found = tercet.evaluate(f"open_clip:tiny-clip/{weights}", "some.yaml", data)
        for k in (1, 5):
            assert found[f"class from image acc{k}"].value == pytest.approx(
                float(right[:, :k].any(dim=1).double().mean()), abs=1e-12
            )


def test_imagenet_has_the_published_words_in_the_published_order() -> None:
    task = imagenet()
    assert list(task.classes) == ImageNetInfo("imagenet-1k").label_names()
    assert tuple(task.classes.values()) == open_clip.IMAGENET_CLASSNAMES
    assert [one.format(**{"class": "x"}) for one in task.templates] == [
        one("x") for one in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]


def test_hashes_depend_on_the_words_and_not_on_their_name() -> None:
    task = imagenet()
    written = {**task.model_dump(), "classes": dict(task.classes), "templates": list(task.templates)}
    Path("copied.yaml").write_text(
        yaml.safe_dump({key: one for key, one in written.items() if key != "name"}, sort_keys=False)
    )
    copied = load_task("copied.yaml")
    assert isinstance(copied, ZeroShotTask)
    assert copied.hashes == task.hashes
    Path("seven.yaml").write_text("extends: imagenet1k\ntemplates: open_clip:SIMPLE_IMAGENET_TEMPLATES\n")
    seven = load_task("seven.yaml")
    assert isinstance(seven, ZeroShotTask)
    assert len(seven.templates) == 7
    assert seven.hashes["prompts"] != task.hashes["prompts"]
    assert seven.hashes["classes"] == task.hashes["classes"]


@pytest.mark.parametrize(
    ("key", "written", "problem"),
    [
        ("classes", "open_clip:IMAGENET_CLASNAMES", "`IMAGENET_CLASNAMES`; did you mean `IMAGENET_CLASSNAMES`"),
        ("classes", {"timm:imagenet-1": "open_clip:IMAGENET_CLASSNAMES"}, "timm has no classes of `imagenet-1`; write"),
        ("classes", {"timm:imagenet-12k": "open_clip:IMAGENET_CLASSNAMES"}, "has 11,821 labels, and `open_clip:IMAGE"),
        ("templates", "open_clip:IMAGENET_CLASSNAMES", "the template `tench` has no place for the class; add {class}"),
        ("templates", "a {class}", "`templates` is `a {class}`, but should be a list"),
        ("classes", "boats", "`classes` is `boats`, but should be a mapping of keys"),
    ],
)  # fmt: skip
def test_a_wrong_name_of_a_list_is_an_error_of_one_line(key: str, written: object, problem: str) -> None:
    Path("wrong.yaml").write_text(yaml.safe_dump({"extends": "imagenet1k", key: written}))
    with pytest.raises(UserError) as caught:
        load_task("wrong.yaml")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_without_labels_are_named_or_numbered() -> None:
    Path("named.yaml").write_text("extends: imagenet1k\nclasses: open_clip:IMAGENET_CLASSNAMES\n")
    task = load_task("named.yaml")
    assert isinstance(task, ZeroShotTask)
    assert list(task.classes)[:2] == ["0", "1"]  # two classes have the same name
    assert tuple(task.classes.values()) == open_clip.IMAGENET_CLASSNAMES
