"""Retrieval, zero-shot and composition on tables small enough to work out by hand or by a naive loop."""

import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.builtin.vocabulary import vocabulary
from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.classification.prompted_task import fingerprint, prompts_of
from tercet.eval.classification.zero_shot import ZeroShotTask, zero_shot
from tercet.eval.composition.composition import CompositionTask, composition
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.evaluate import evaluate, with_shortcuts
from tercet.eval.load_tasks import load_task, load_tasks
from tercet.eval.measure import Measure, results
from tercet.eval.result import Result, from_json, to_json
from tercet.eval.retrieval.retrieval import RetrievalTask, retrieval
from tercet.eval.tables.table import table_text
from tercet.eval.task import hashes_by_name, lookup
from tercet.eval.task_files import task_names

RETRIEVAL = RetrievalTask(kind="retrieval", name="retrieval", title="Retrieval")
SHAPES = ("circle", "square", "star", "ring", "cross", "heart")
ZERO_SHOT = ZeroShotTask(
    kind="zero_shot",
    name="shapes",
    title="Shapes",
    what="shape",
    label="objects[0].shape",
    count={"objects": 1},
    classes={shape: shape for shape in SHAPES},
    templates=("a {class}", "a {colour} {class}"),
    fill={"colour": ("red", "orange")},
)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embed_text(texts: list[str]) -> Tensor:
    """A fixed unit vector for each text, from its letters."""
    return F.normalize(torch.stack([noise(16, seed=sum(map(ord, text)) * 31 + len(text)) for text in texts]), dim=1)


def aligned(items: int, spread: float, captions: int = 1) -> EmbeddingTable:
    """A table whose modalities are noisy views of the same vectors."""
    item = {
        "image": torch.arange(items),
        "audio": torch.arange(items),
        "text": torch.arange(items).repeat_interleave(captions),
    }
    base = noise(items, 16, seed=0)
    vectors = {
        modality: F.normalize(base[rows] + spread * noise(len(rows), 16, seed=seed), dim=1)
        for seed, (modality, rows) in enumerate(item.items(), start=1)
    }
    return EmbeddingTable(vectors, item, tuple(Sample(f"s{number}", number, number) for number in range(items)))


def by_name(measures: list[Measure]) -> dict[str, Result]:
    return {result.name: result for result in results(measures)}


def test_retrieval_with_five_captions_counts_any_caption_and_every_query() -> None:
    table = aligned(30, spread=1.0, captions=5)
    found = by_name(retrieval(table, RETRIEVAL))
    assert {result.metric for result in found.values()} == set(RETRIEVAL.metrics)
    scores = table.vectors["image"] @ table.vectors["text"].T
    best = [any(column // 5 == row for column in scores[row].topk(5).indices.tolist()) for row in range(30)]
    own = [column // 5 in scores[:, column].topk(5).indices.tolist() for column in range(150)]
    assert found["image→text R@5"].value == pytest.approx(sum(best) / 30)
    assert found["text→image R@5"].value == pytest.approx(sum(own) / 150)
    assert (found["image→text R@5"].n, found["text→image R@5"].n) == (30, 150)
    assert found["image→text R@5"].chance == pytest.approx(1 - math.comb(145, 5) / math.comb(150, 5))
    assert len({result.subject for result in found.values()}) == 6
    assert all(result.low <= result.value <= result.high for result in found.values())


def test_candidates_are_the_first_unique_items_that_carry_both_modalities() -> None:
    table = aligned(12, spread=0.5, captions=2)
    samples = tuple(Sample(f"s{number}", number, number, meta={"identity": [number // 2]}) for number in range(12))
    table = EmbeddingTable(
        {**table.vectors, "audio": table.vectors["audio"][1:]},
        {**table.items, "audio": table.items["audio"][1:]},
        samples,
    )
    found = by_name(retrieval(table, RETRIEVAL, candidates=4))
    audio, text = table.vectors["audio"][[0, 1, 3, 5]], table.vectors["text"][[2, 4, 8, 12]]  # items 1, 2, 4, 6
    hits = (audio @ text.T).argmax(dim=1) == torch.arange(4)
    assert found["audio→text R@1"].value == pytest.approx(float(hits.double().mean()))
    assert found["audio→text R@1"].chance == pytest.approx(1 / 4)
    assert found["image→text R@1"].metadata["candidates"] == 4


def test_items_of_one_group_are_right_answers_for_each_other() -> None:
    vectors = torch.eye(4)
    items = torch.arange(4)
    swapped = {"image": vectors, "text": vectors[[1, 0, 2, 3]]}
    alone = EmbeddingTable(swapped, {"image": items, "text": items}, tuple(Sample(str(n), n, n) for n in range(4)))
    together = EmbeddingTable(
        swapped, {"image": items, "text": items}, tuple(Sample(str(n), n, n // 2) for n in range(4))
    )
    assert by_name(retrieval(alone, RETRIEVAL))["image→text R@1"].value == 0.5
    assert by_name(retrieval(together, RETRIEVAL))["image→text R@1"].value == 1.0


def test_zero_shot_counts_pictures_and_not_their_copies_or_classes_as_observations() -> None:
    """Copies of a picture share a group, and so do all pictures of a class whose captions are made of its name."""
    shapes = [SHAPES[number % 2] for number in range(40)]

    def width(groups: list[int], named: bool) -> float:
        samples = tuple(
            Sample(str(n), n, group, meta={"objects": [{"shape": shape}]} | ({"group": shape} if named else {}))
            for n, (group, shape) in enumerate(zip(groups, shapes, strict=True))
        )
        table = EmbeddingTable(
            {"image": F.normalize(noise(40, 16, seed=3), dim=1)}, {"image": torch.arange(40)}, samples
        )
        (measure,) = zero_shot(table, embed_text, ZERO_SHOT)
        return next(found.high - found.low for found in measure.results() if found.metric == "acc1")

    alone = width(list(range(40)), named=False)
    assert width([n // 4 for n in range(40)], named=False) > alone
    assert width([n % 2 for n in range(40)], named=True) == pytest.approx(alone)


def test_constant_embeddings_score_zero_in_every_task() -> None:
    same = F.normalize(noise(1, 16, seed=9), dim=1).expand(20, -1).contiguous()
    meta = {"objects": [{"shape": "star"}], "negatives": [{"kind": "swapped", "text": "wrong"}]}
    samples = tuple(Sample(str(number), number, number, meta=meta) for number in range(20))
    table = EmbeddingTable(
        dict.fromkeys(("image", "text"), same), {m: torch.arange(20) for m in ("image", "text")}, samples
    )

    def constant(texts: list[str]) -> Tensor:
        return same[:1].expand(len(texts), -1)

    measures = [
        *retrieval(table, RETRIEVAL),
        *zero_shot(table, constant, ZERO_SHOT),
        *composition(table, constant, COMPOSITION),
    ]
    shares = [result.value for result in results(measures) if not result.metric.endswith("rank")]
    assert shares
    assert set(shares) == {0.0}


COMPOSITION = CompositionTask(kind="composition", name="composition", title="Composition")


def test_zero_shot_equals_a_naive_loop_over_items_and_classes() -> None:
    labels = [SHAPES[(number * 7) % 5] for number in range(60)]
    meta = [{"objects": [{"shape": label}] * (1 + (number % 3 == 0))} for number, label in enumerate(labels)]
    samples = tuple(Sample(str(number), number, number, meta=each) for number, each in enumerate(meta))
    signal = torch.cat([embed_text([f"a {label}"]) for label in labels])
    image = F.normalize(signal + 0.9 * F.normalize(noise(60, 16, seed=4), dim=1), dim=1)
    table = EmbeddingTable({"image": image}, {"image": torch.arange(60)}, samples)
    found = by_name(zero_shot(table, embed_text, ZERO_SHOT))
    assert {result.metric for result in found.values()} == set(ZERO_SHOT.metrics)

    classes = []
    for shape in SHAPES:
        prompts = [f"a {shape}", f"a red {shape}", f"an orange {shape}"]
        classes.append(F.normalize(sum(embed_text([prompt])[0] for prompt in prompts) / 3, dim=0))
    right: dict[str, list[bool]] = {}
    for number in range(60):
        if number % 3:
            scores = [float(image[number] @ vector) for vector in classes]
            right.setdefault(labels[number], []).append(SHAPES[scores.index(max(scores))] == labels[number])
    hits = [hit for each in right.values() for hit in each]
    assert found["shape from image acc1"].value == pytest.approx(sum(hits) / len(hits))
    assert found["shape from image mean_per_class_recall"].value == pytest.approx(
        sum(sum(h) / len(h) for h in right.values()) / len(right)
    )
    assert 0 < found["shape from image acc1"].value < 1
    assert found["shape from image acc1"].n == 40
    assert found["shape from image acc1"].chance == pytest.approx(1 / 6)
    assert found["shape from image acc1"].metadata["majority"] == pytest.approx(max(map(len, right.values())) / 40)


def test_zero_shot_takes_only_the_samples_that_its_condition_selects() -> None:
    """Of thirty items two thirds are circles and five are large; the large ones alone are right."""
    sizes = ["large" if n % 6 == 1 else "small" for n in range(30)]
    metas = [{"objects": [{"shape": SHAPES[n % 3 == 0], "size": size}]} for n, size in enumerate(sizes)]
    classes = [embed_text([f"a {shape}"])[0] for shape in SHAPES]
    image = torch.stack([classes[0] if meta["objects"][0]["size"] == "large" else classes[3] for meta in metas])
    samples = tuple(Sample(str(n), n, n, meta=meta) for n, meta in enumerate(metas))
    table = EmbeddingTable({"image": image}, {"image": torch.arange(30)}, samples)
    large = ZERO_SHOT.model_copy(update={"templates": ("a {class}",), "where": {"objects[0].size": "large"}})
    found = by_name(zero_shot(table, embed_text, large))["shape from image acc1"]
    assert (found.value, found.n) == (1.0, 5)


def test_the_prompts_fingerprint_changes_with_a_class_or_a_template() -> None:
    renamed = ZERO_SHOT.model_copy(update={"classes": {**ZERO_SHOT.classes, "ring": "hoop"}})
    reworded = ZERO_SHOT.model_copy(update={"templates": ("a {class}",)})
    assert len({fingerprint(task) for task in (ZERO_SHOT, renamed, reworded)}) == 3


def test_composition_counts_strict_wins_by_kind() -> None:
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    wrong = {"tie": x, "better": x, "worse": y}
    negatives = [
        [{"kind": "swapped", "text": "tie"}],
        [{"kind": "swapped", "text": "worse"}, {"kind": "replaced", "text": "worse"}],
        [{"kind": "replaced", "text": "better"}],
    ]
    samples = tuple(Sample(str(n), n, n, meta={"negatives": each}) for n, each in enumerate(negatives))
    vectors = {"image": torch.stack([x, x, x]), "text": torch.stack([x, x, F.normalize(x + y, dim=0)])}
    table = EmbeddingTable(vectors, {m: torch.arange(3) for m in vectors}, samples)
    found = by_name(composition(table, lambda texts: torch.stack([wrong[text] for text in texts]), COMPOSITION))
    assert {result.metric for result in found.values()} == set(COMPOSITION.metrics)
    assert {name: result.value for name, result in found.items()} == {
        "image, replaced accuracy": 0.5,
        "image, swapped accuracy": 0.5,
        "image, all accuracy": 0.5,
    }
    assert (found["image, all accuracy"].n, found["image, all accuracy"].chance) == (4, 0.5)
    mute = COMPOSITION.model_copy(update={"undecidable": {"image": ("swapped",)}})
    left = by_name(composition(table, lambda texts: torch.stack([wrong[text] for text in texts]), mute))
    assert {name: (result.value, result.n) for name, result in left.items()} == {"image, replaced accuracy": (0.5, 2)}


def test_builtin_tasks_have_a_class_for_every_word_of_the_generated_data() -> None:
    for name, words in vocabulary().items():
        task = load_task(f"zero_shot_{name}")
        assert isinstance(task, ZeroShotTask)
        assert sorted(task.classes) == sorted(words)
        prompts = [prompt for words in task.classes.values() for prompt in prompts_of(task, words)]
        assert len(set(prompts)) == len(prompts)
        assert not any("{" in prompt or "a orange" in prompt for prompt in prompts)


def test_the_name_of_a_group_of_tasks_gives_all_its_tasks() -> None:
    assert [task.name for task in load_tasks(["zero_shot", "retrieval"])][-2:] == ["zero_shot_relation", "retrieval"]
    assert {"retrieval", "zero_shot", "composition"} <= set(task_names())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "kind: zero_shot\ntitle: T\nwhat: a\nlabel: a\nclasses: {a: a}\ntemplates: ['{class} {b}']",
            "`fill` has no words for {b}",
        ),
        (
            "kind: zero_shot\ntitle: T\nwhat: a\nlabl: a\nclasses: {a: a}\ntemplates: ['{class}']",
            "task `{path}`: unknown key `labl`; did you mean `label`?",
        ),
        ("kind: retreival\ntitle: T", "retreival"),
        ("- a", "must hold a mapping"),
        ("kind: zero_shot\ntemplates: [a {class}]", "line 2: not valid YAML: expected ',' or ']', but got '{'"),
        ("extends: zero_shot_shap", "did you mean `zero_shot_shape`?"),
    ],
)
def test_a_wrong_task_is_an_error_of_one_line(tmp_path, text: str, complaint: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_task(str(path))
    assert complaint.replace("{path}", str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lookup_follows_mappings_and_lists() -> None:
    assert lookup({"objects": [{"shape": "a"}, {"shape": "b"}]}, "objects[1].shape") == "b"


def test_hashes_are_those_of_all_tasks_with_one_name() -> None:
    changed = ZERO_SHOT.model_copy(update={"templates": ("the {class}",)})
    assert hashes_by_name([ZERO_SHOT, ZERO_SHOT]) == {"shapes": ZERO_SHOT.hashes}
    found = {hashes_by_name(both)["shapes"]["prompts"] for both in ((ZERO_SHOT, changed), (changed, changed))}
    assert len(found | {fingerprint(ZERO_SHOT)}) == 3


def test_data_without_the_labels_of_a_task_are_an_error() -> None:
    table = aligned(4, spread=0.1)
    with pytest.raises(
        EvalError,
        match=r"needs `objects\[0\].shape` in the meta of sample `s0`; give the classes with --labels, or name",
    ):
        zero_shot(table, embed_text, ZERO_SHOT)
    with pytest.raises(EvalError, match="negatives"):
        composition(table, embed_text, COMPOSITION)


def test_json_and_table_show_task_dataset_chance_and_shortcuts() -> None:
    shortcuts = {"ridge": {"image→text": 0.125}}
    found = evaluate(aligned(20, spread=0.8), embed_text, ["retrieval"], EvalConfig(candidates=16), "held-out")
    results = [with_shortcuts(one, shortcuts) for one in found]
    (exported,) = to_json(results, model="demo")
    assert {key: exported[key] for key in ("dataset", "task", "model", "pretrained", "language")} == {
        "dataset": "held-out", "task": "retrieval", "model": "demo", "pretrained": "", "language": "en",
    }  # fmt: skip
    assert from_json(json.loads(json.dumps([exported]))) == results
    details = exported["details"]["image→text R@1"]  # type: ignore[index]
    assert details["shortcuts"] == {"ridge": 0.125}
    assert details["chance"] == pytest.approx(1 / 16)
    printed = table_text(results)
    line = next(line for line in printed.splitlines() if line.strip().startswith("image→text"))
    assert "12.5" in line
    assert f"{100 * exported['metrics']['image→text R@1']:.1f}" in line  # type: ignore[index]
    assert "held-out · 16 candidates" in printed
    (sample,) = (one for one in results if one.name == "image→text mean rank")
    assert f"{sample.value:.4g}" in line
    narrow = table_text(results, width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert all(word in narrow for word in ("R@1", "chance", "ridge"))
    drawn, _, hidden = narrow.partition("not shown, for lack of width: ")
    assert ("mAP" in drawn, "mAP@10 %" in hidden) == (False, True)
