"""The loader for CLIP_benchmark: its scores on our loader are those of `tercet.evaluate`, to the last sample."""

import json
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tercet
from tercet.api.clip_benchmark import Loaded, main, register
from tercet.api.model import Model
from tercet.api.results import Results
from tercet.errors import UserError
from tests.tercet.outside import shard

COLOURS = {"red": 0, "green": 1, "blue": 2, "brown": 3, "pink": 4, "violet": 5}
TEMPLATES = ("a photo of one {} thing.", "this is {}")
RECALL_AT = (1, 5, 10)
COUNT = 40


class Case(NamedTuple):
    """Pictures of unequal classes with two captions each, in a folder, and what tercet measures on them."""

    folder: Path
    pictures: list[Image.Image]
    captions: list[list[str]]
    labels: list[int]
    loaded: Loaded
    results: Results

    def batches(self, targets: Sequence[Any]) -> Iterator[tuple[Tensor, list[Any]]]:
        pixels = [self.loaded.transform(picture) for picture in self.pictures]
        for start in range(0, COUNT, 16):
            yield torch.stack(pixels[start : start + 16]), list(targets[start : start + 16])


Scores = Callable[[Case], dict[str, float]]


@pytest.fixture(scope="module")
def case(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder, random = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    pictures, captions, labels = [], [], []
    for number in range(COUNT):
        label = int(number**0.5) % len(COLOURS)
        pixels = random.integers(0, 90, (36, 44, 3), dtype=np.uint8)
        pixels[..., label % 3] += np.uint8(60 + 60 * (label // 3))
        name = list(COLOURS)[label]
        captions.append([f"{name}, number {number}", f"the {number * 7}th {name} thing"])
        pictures.append(Image.fromarray(pixels))
        labels.append(label)
        pictures[-1].save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text("\n".join(captions[-1]), encoding="utf-8")
    results = tercet.evaluate(
        home / "exported", ["retrieval", "zero_shot"], folder, list(COLOURS), [t.format("{class}") for t in TEMPLATES]
    )
    return Case(folder, pictures, captions, labels, tercet.clip_benchmark_model(home / "exported"), results)


def naive(case: Case) -> dict[str, float]:
    """The rules of CLIP_benchmark as loops over all scores, in double precision."""
    model, _, tokens = case.loaded
    texts = list(chain.from_iterable(case.captions))
    with torch.no_grad():
        pictures = torch.cat([model.encode_image(pixels) for pixels, _ in case.batches(case.labels)]).double()
        captions = model.encode_text(tokens(texts)).double()
        prompts = [[template.format(name) for template in TEMPLATES] for name in COLOURS]
        classes = torch.stack([model.encode_text(tokens(some)).double().mean(dim=0) for some in prompts])
    found = {}
    for k in RECALL_AT:
        own = [(captions[text] @ pictures.T).argsort(descending=True)[:k] for text in range(len(texts))]
        found[f"image_retrieval_recall@{k}"] = np.mean([text // 2 in some for text, some in enumerate(own)])
        best = [(picture @ captions.T).argsort(descending=True)[:k] // 2 for picture in pictures]
        found[f"text_retrieval_recall@{k}"] = np.mean([number in some for number, some in enumerate(best)])
    ranked = (pictures @ torch.nn.functional.normalize(classes).T).argsort(dim=1, descending=True)
    right = [label in row[:1] for label, row in zip(case.labels, ranked, strict=True)]
    found["acc1"] = np.mean(right)
    found["acc5"] = np.mean([label in row[:5] for label, row in zip(case.labels, ranked, strict=True)])
    by_class = [[hit for hit, label in zip(right, case.labels, strict=True) if label == one] for one in {*case.labels}]
    found["mean_per_class_recall"] = np.mean([np.mean(hits) for hits in by_class])
    return {name: float(value) for name, value in found.items()}


def theirs(case: Case) -> dict[str, float]:
    retrieval = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval", reason="CLIP_benchmark is missing")
    zero_shot = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    model, _, tokens = case.loaded
    found = retrieval.evaluate(model, case.batches(case.captions), tokens, "cpu", False, RECALL_AT)
    templates = [template.format("{c}") for template in TEMPLATES]
    classes = zero_shot.zero_shot_classifier(model, tokens, list(COLOURS), templates, "cpu", False)
    labelled = ((pixels, torch.tensor(targets)) for pixels, targets in case.batches(case.labels))
    logits, label = zero_shot.run_classification(model, classes, labelled, "cpu", False)
    best = logits.topk(5, dim=1).indices == label[:, None]  # their `accuracy` fails with today's numpy
    balanced = zero_shot.balanced_accuracy_score(label, logits.argmax(dim=1))
    shares = {f"acc{k}": float(best[:, :k].any(dim=1).float().mean()) for k in (1, 5)}
    return {**found, **shares, "mean_per_class_recall": float(balanced)}


@pytest.mark.parametrize("scores", [naive, theirs])
def test_scores_of_clip_benchmark_are_those_of_evaluate(scores: Scores, case: Case) -> None:
    expected = scores(case)
    ours = {f"image_retrieval_recall@{k}": case.results[f"text→image R@{k}"].value for k in RECALL_AT}
    ours |= {f"text_retrieval_recall@{k}": case.results[f"image→text R@{k}"].value for k in RECALL_AT}
    kinds = ("acc1", "acc5", "mean_per_class_recall")
    ours |= {kind: case.results[f"class from image {kind}"].value for kind in kinds}
    assert ours == pytest.approx(expected, abs=1e-7)  # their shares are in single precision
    assert 0 < ours["acc1"] < 1
    assert 0 < ours["text_retrieval_recall@10"] < 1


def test_the_loader_gives_the_vectors_of_embed(case: Case, model: Model) -> None:
    pixels = torch.stack([case.loaded.transform(picture) for picture in case.pictures[:3]])
    texts = ["A  boat &amp; a car", *case.captions[0]]
    expected = model.embed(image=case.pictures[:3], text=texts)
    with torch.no_grad():
        assert torch.allclose(case.loaded.model.encode_image(pixels), expected.image, atol=1e-6)
        assert torch.allclose(case.loaded.model.encode_text(case.loaded.tokenizer(texts)), expected.text, atol=1e-6)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 32, 32), torch.uint8)
    scale, _ = model.towers.head.temperature("image-text")
    assert case.loaded.model.logit_scale.exp().item() == pytest.approx(scale.item())  # type: ignore[operator]
    again = pickle.loads(pickle.dumps(case.loaded.transform))  # for the workers of a DataLoader
    assert again(case.pictures[0]).equal(pixels[0])


def test_their_loader_knows_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("clip_benchmark.models", reason="CLIP_benchmark is missing")
    monkeypatch.setattr(models, "TYPE2FUNC", dict(models.TYPE2FUNC))
    monkeypatch.setattr(models, "MODEL_TYPES", list(models.MODEL_TYPES))
    register()
    model, transform, tokenizer = models.load_clip("tercet", "exported", "none", "", "cpu")
    assert transform(Image.new("RGB", (40, 50))).shape == (3, 32, 32)
    assert model.encode_text(tokenizer(["a boat"])).shape == (1, 16)
    assert models.MODEL_TYPES[-1] == "tercet"  # what their command accepts as --model_type


@pytest.mark.filterwarnings("ignore")
def test_their_command_gives_the_scores_of_evaluate_to_the_last_digit(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = pytest.importorskip("clip_benchmark.models", reason="CLIP_benchmark is missing")
    monkeypatch.setattr(models, "TYPE2FUNC", dict(models.TYPE2FUNC))
    monkeypatch.setattr(models, "MODEL_TYPES", list(models.MODEL_TYPES))
    files = [{"png": (case.folder / f"{number:02}.png").read_bytes()} for number in range(COUNT)]
    labels = [{"cls": str(label).encode()} for label in case.labels]
    captions = [{"txt": "\n".join(some).encode()} for some in case.captions]
    for name, further in (("labelled", labels), ("captioned", captions)):
        shard(tmp_path / name / "test" / "0.tar", ({**one, **other} for one, other in zip(files, further, strict=True)))
        (tmp_path / name / "test" / "nshards.txt").write_text("1")
    (tmp_path / "captioned" / "dataset_type.txt").write_text("retrieval")
    (tmp_path / "labelled" / "classnames.txt").write_text("\n".join(COLOURS))
    templates = "\n".join(template.format("{c}") for template in TEMPLATES)
    (tmp_path / "labelled" / "zeroshot_classification_templates.txt").write_text(templates)
    found: dict[str, float] = {}
    for name, task in (("labelled", "zeroshot_classification"), ("captioned", "zeroshot_retrieval")):
        out, folder = tmp_path / f"{name}.json", tmp_path / name
        words = f"eval --model_type tercet --model exported --pretrained none --dataset wds/{name} --task {task} "
        words += f"--dataset_root {folder} --output {out} --no_amp --num_workers 0 --recall_k 1 5 10"
        monkeypatch.setattr(sys, "argv", ["clip_benchmark", *words.split()])
        assert main() == 0
        found |= json.loads(out.read_text())["metrics"]
    folders = (tmp_path / name for name in ("labelled", "captioned"))
    ours = {one.name: one.value for folder in folders for one in tercet.evaluate("exported", data=folder)}
    for kind in ("acc1", "acc5", "mean_per_class_recall"):
        assert found[kind] == pytest.approx(ours[f"class from image {kind}"], abs=1e-15)
    for k in RECALL_AT:  # theirs are in single precision
        assert found[f"image_retrieval_recall@{k}"] == np.float32(ours[f"text→image R@{k}"])
        assert found[f"text_retrieval_recall@{k}"] == np.float32(ours[f"image→text R@{k}"])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--task", "captioning"])
    if find_spec("pycocoevalcap") is None:
        assert main() == 2
        assert "captioning of CLIP_benchmark needs pycocoevalcap; install it" in capsys.readouterr().err


def test_without_the_package_the_command_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "clip_benchmark", None)
    monkeypatch.setitem(sys.modules, "clip_benchmark.models", None)
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tercet: CLIP_benchmark cannot be imported (")


def test_a_model_without_texts_is_refused(model: Model) -> None:
    towers = tercet.load("exported").towers
    del towers.towers["text"]
    with pytest.raises(UserError, match="sounds has no text tower; CLIP_benchmark compares pictures with texts"):
        tercet.clip_benchmark_model(Model(towers, "sounds"))
