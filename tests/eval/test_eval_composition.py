"""The rules of published composition tests against naive loops, ties and constants, and where captions come from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tercet.data_pipelines.sample import Sample
from tercet.errors import UserError
from tercet.eval.composition.composition import CompositionTask, composition
from tercet.eval.composition.right_and_wrong import from_data
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.load_tasks import load_task
from tercet.eval.measure import results
from tercet.eval.task import Task
from tercet.eval.trust.null_models import constant, constant_text
from tercet.eval.trust.self_test import THOROUGH, Effort, self_test
from tests.eval.composed import COLOURS, DIM, ITEMS, KINDS, SHAPES, by_name, embed_text, meta, table, vector


def task(name: str, **changes: object) -> CompositionTask:
    found = load_task(name)
    assert isinstance(found, CompositionTask)
    return found.model_copy(update=changes)


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


@pytest.fixture(scope="module")
def scored() -> tuple[EmbeddingTable, Tensor, Tensor, list[list[tuple[str, Tensor]]]]:
    """The table, the pictures, the captions `[item, 2, d]`, and the wrong captions of each item with their kinds."""
    data = table()
    wrong = [[(one["kind"], vector(one["text"])) for one in meta(item)["negatives"]] for item in range(ITEMS)]
    return data, data.vectors["image"], data.vectors["text"].view(ITEMS, 2, DIM), wrong


@pytest.mark.parametrize("tile", [3, 4096])
def test_sugarcrepe_is_the_micro_average_of_strict_wins(
    scored: Any, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tercet.eval.composition.comparisons.TILE", tile)
    data, image, text, wrong = scored
    hits = [(kind, bool(image[n] @ text[n, 0] > image[n] @ other)) for n in range(ITEMS) for kind, other in wrong[n]]
    found = by_name(composition(data, embed_text, task("sugarcrepe")))
    assert found["image, all accuracy"].value == pytest.approx(share([hit for _, hit in hits]))
    for kind in KINDS:
        own = [hit for name, hit in hits if name == kind]
        assert (found[f"image, {kind} accuracy"].value, found[f"image, {kind} accuracy"].n) == (share(own), len(own))
    assert {result.chance for result in found.values()} == {0.5}
    assert 0.5 < found["image, all accuracy"].value < 1


def test_sugarcrepe_pp_needs_both_captions_and_compares_texts_alone(scored: Any) -> None:
    data, image, text, wrong = scored
    pictures, texts = [], []
    for n in range(ITEMS):
        first, second = text[n]
        for _, other in wrong[n]:
            pictures.append(bool(image[n] @ first > image[n] @ other and image[n] @ second > image[n] @ other))
            texts.append(bool(first @ second > first @ other and first @ second > second @ other))
    found = by_name(composition(data, embed_text, task("sugarcrepe_pp")))
    for metric, hits in (("accuracy", pictures), ("text-only accuracy", texts)):
        result = found[f"image, all {metric}"]
        assert (result.value, result.chance) == pytest.approx((share(hits), 1 / 3))
    first = EmbeddingTable(
        {**data.vectors, "text": text[:, 0]}, dict.fromkeys(data.items, torch.arange(ITEMS)), data.samples
    )
    assert by_name(composition(first, embed_text, task("sugarcrepe_pp"))) == found
    with pytest.raises(EvalError, match="sample `0` has 1 captions, and the task compares 2 right ones"):
        composition(table(captions=1), embed_text, task("sugarcrepe_pp"))


def test_text_alone_judges_the_captions_that_the_table_has() -> None:
    """Each sample has a second caption, of words that no other has; the table holds the first ones."""
    captions = [f"a {colour} {shape} near the house" for colour in COLOURS for shape in SHAPES]
    odd = [" ".join(f"word{n}of{place}" for n in range(9)) for place in range(len(captions))]
    wrong = [{"negatives": [{"kind": "k", "text": " ".join(one.split()[::-1])}]} for one in captions]
    samples = tuple(Sample(str(n), n, n // 6, text=(captions[n], odd[n]), meta=wrong[n]) for n in range(len(captions)))
    vectors = torch.eye(len(captions))
    items = dict.fromkeys(("image", "text"), torch.arange(len(captions)))
    (found,) = results(
        composition(
            EmbeddingTable(dict.fromkeys(items, vectors), items, samples),
            lambda texts: torch.zeros(len(texts), len(captions)).index_fill(1, torch.tensor([0]), -1.0),
            task("sugarcrepe"),
        )
    )
    assert found.shortcuts == {"text alone": 1.0}


def test_aro_is_the_mean_over_kinds_that_are_frequent_enough(scored: Any) -> None:
    data, image, text, wrong = scored
    hits: dict[str, list[bool]] = {}
    for n in range(ITEMS):
        for kind, other in wrong[n]:
            hits.setdefault(kind, []).append(bool(image[n] @ text[n, 0] > image[n] @ other))
    (every,) = results(composition(data, embed_text, task("aro_relation")))
    (frequent,) = results(composition(data, embed_text, task("aro_attribution", least=5)))
    own = {kind: share(found) for kind, found in hits.items()}
    assert every.value == pytest.approx(sum(own.values()) / 3)
    assert every.metadata["by kind"] == pytest.approx(own)
    assert frequent.value == pytest.approx((own["on"] + own["under"]) / 2)
    assert (frequent.n, frequent.metadata["kinds"]) == (every.n - 1, 2)
    with pytest.raises(EvalError, match="needs 99 cases of a kind, and no kind has so many"):
        composition(data, embed_text, task("aro_attribution", least=99))


def test_aro_leaves_out_relations_that_its_authors_call_symmetric(scored: Any) -> None:
    listed = task("aro_relation").undecidable["image"]
    assert (len(listed), list(listed)) == (157, sorted(set(listed)))
    assert {"near", "next to", "drinking from", "wrapped in"} <= set(listed)
    assert not {"on", "under", "behind", "to the left of", "wearing", "eating"} & set(listed)
    data, image, text, wrong = scored
    samples = tuple(
        replace(
            sample,
            meta={
                "negatives": [
                    {**one, "kind": {"under": "near"}.get(one["kind"], one["kind"])} for one in meta(n)["negatives"]
                ]
            },
        )
        for n, sample in enumerate(data.samples)
    )
    (found,) = results(composition(replace(data, samples=samples), embed_text, task("aro_relation")))
    hits = {
        kind: share(
            [
                bool(image[n] @ text[n, 0] > image[n] @ other)
                for n in range(ITEMS)
                for own, other in wrong[n]
                if own == kind
            ]
        )
        for kind in ("on", "rare")
    }
    assert found.metadata["by kind"] == pytest.approx(hits)
    (attributes,) = results(composition(replace(data, samples=samples), embed_text, task("aro_attribution", least=1)))
    assert "near" in attributes.metadata["by kind"]
    with pytest.raises(EvalError, match="`aro_relation` leaves out all kinds of mistakes of the data; change its `und"):
        composition(data, embed_text, task("aro_relation", undecidable={"image": KINDS}))
    both = replace(data, vectors={**data.vectors, "audio": image}, items={**data.items, "audio": data.items["image"]})
    left = results(composition(both, embed_text, task("composition", undecidable={"audio": KINDS})))
    assert {one.subject.split(",")[0] for one in left} == {"image"}


def test_the_order_of_words_must_beat_every_shuffle(scored: Any) -> None:
    data, image, text, _ = scored
    (found,) = results(composition(data, embed_text, task("order")))
    assert found.subject == "image, all"
    assert found.n == ITEMS
    assert 1 / 5 <= found.chance < 1 / 3  # four shuffles each, fewer where two are the same
    (again,) = results(composition(data, embed_text, task("order")))
    assert found == again
    stored = task("order", rules=())  # shuffles that are stored as `negatives`
    jointly = by_name(composition(data, embed_text, stored))["image, all accuracy"]
    wrong = scored[3]
    hits = [all(bool(image[n] @ text[n, 0] > image[n] @ other) for _, other in wrong[n]) for n in range(ITEMS)]
    assert jointly.value == pytest.approx(share(hits))
    assert jointly.chance == pytest.approx(sum(1 / (1 + len(one)) for one in wrong) / ITEMS)


def test_winoground_scores_texts_images_and_groups(scored: Any) -> None:
    data, image, text, _ = scored
    captions = text[:, 0]
    own_text, own_image, kinds = [], [], []
    for a in range(0, ITEMS, 2):
        scores = image[[a, a + 1]] @ captions[[a, a + 1]].T
        own_text.append(bool(scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]))
        own_image.append(bool(scores[0, 0] > scores[1, 0] and scores[1, 1] > scores[0, 1]))
        kinds.append(meta(a)["kind"])
    both = [one and other for one, other in zip(own_text, own_image, strict=True)]
    found = by_name(composition(data, embed_text, task("winoground")))
    chances = {"text score": 1 / 4, "image score": 1 / 4, "group score": 1 / 6}
    for (metric, chance), hits in zip(chances.items(), (own_text, own_image, both), strict=True):
        result = found[f"image, all {metric}"]
        assert (result.value, result.n, result.chance) == pytest.approx((share(hits), ITEMS // 2, chance))
    relation = [hit for hit, kind in zip(both, kinds, strict=True) if kind == "Relation"]
    assert found["image, Relation group score"].value == pytest.approx(share(relation))
    assert found["image, all text score"].shortcuts == {"text alone": 0.0}


def test_statements_exchange_facts_and_leave_out_what_would_not_be_wrong(scored: Any) -> None:
    data, image, *_ = scored
    hits = []
    for n in range(ITEMS):
        objects = meta(n)["objects"]
        first, second = objects[:2]
        if len(objects) == 2 and first["shape"] != second["shape"] and first["colour"] != second["colour"]:
            right = f"a {first['colour']} {first['shape']} and a {second['colour']} {second['shape']}"
            wrong = f"a {second['colour']} {first['shape']} and a {first['colour']} {second['shape']}"
            right, wrong = (words.replace("a orange", "an orange") for words in (right, wrong))
            hits.append(bool(image[n] @ vector(right) > image[n] @ vector(wrong)))
    found = by_name(composition(data, embed_text, task("attribute")))["image, colour accuracy"]
    assert (found.value, found.n) == (pytest.approx(share(hits)), len(hits))
    assert 0 < len(hits) < ITEMS // 2


def test_pairs_of_sounds_are_asked_which_came_first() -> None:
    """A model of words alone ties; one that reads the order is right."""
    order = {"a dog": 0, "a bell": 1}
    samples = tuple(
        Sample(str(n), n, n, meta={"sounds": ["a dog", "a bell"] if n % 2 else ["a bell", "a dog"]}) for n in range(6)
    )

    def reads(texts: list[str]) -> Tensor:
        """Along an axis for each of the two orders that a text can say."""
        first = [
            "dog" if ("dog before" in text or "after a dog" in text or text == "first a dog") else "bell"
            for text in texts
        ]
        return torch.eye(2)[[order[f"a {name}"] for name in first]]

    heard = torch.eye(2)[[order[str(sample.meta["sounds"][0])] for sample in samples]]  # type: ignore[index]
    data = EmbeddingTable({"audio": heard}, {"audio": torch.arange(6)}, samples)
    found = by_name(composition(data, reads, task("audio_order")))
    assert {result.subject: result.value for result in found.values()} == {
        "audio, after": 1.0, "audio, before": 1.0, "audio, first": 1.0, "audio, all": 1.0,
    }  # fmt: skip
    words = by_name(composition(data, lambda texts: torch.ones(len(texts), 2), task("audio_order")))
    assert {result.value for result in words.values()} == {0.0}


EVERY = ("sugarcrepe", "sugarcrepe_pp", "aro_relation", "order", "winoground", "attribute", "comco")


def test_constant_features_score_zero_and_null_models_score_chance() -> None:
    tasks = [load_task(name) for name in EVERY]
    for one in tasks:
        assert isinstance(one, Task)
        values = results(one.measure(constant(table(8), 0), constant_text, EvalConfig()))
        assert {result.value for result in values} == {result.metadata["constant"] for result in values} == {0.0}
    checks = self_test(table(24), EVERY, replace(THOROUGH, draws=(16, 40)))
    assert [check for check in checks if not check.holds] == []
    assert {check.task for check in checks if check.model == "random"} == set(EVERY)


def test_a_self_test_of_few_items_takes_all_if_it_needs_them() -> None:
    """Of every third item no two are a pair, and few mistakes are of one kind."""
    checks = self_test(table(), ["winoground", task("aro_attribution", least=5)], Effort(12, 10_000, (16, 20), 5.0))
    assert [check for check in checks if not check.holds] == []
    assert {check.task for check in checks} == {"winoground", "aro_attribution"}


@settings(max_examples=25, deadline=None, database=None)
@given(st.lists(st.sampled_from((-1.0, 0.0, 1.0)), min_size=3, max_size=3), st.integers(1, 3))
def test_ties_are_wrong_whatever_the_scores(scores: list[float], wrong: int) -> None:
    """An item with the score 0 for its caption, against wrong captions with these scores."""
    image = torch.tensor([[1.0, 0.0]])
    known = {-1.0: [-1.0, 0.0], 0.0: [0.0, 1.0], 1.0: [1.0, 0.0]}
    negatives = [{"kind": "k", "text": str(score)} for score in scores[:wrong]]
    data = EmbeddingTable(
        {"image": image, "text": torch.tensor([[0.0, 1.0]])},
        {name: torch.arange(1) for name in ("image", "text")},
        (Sample("a", 0, 0, meta={"negatives": negatives}),),
    )
    (found,) = results(
        composition(
            data, lambda texts: torch.tensor([known[float(text)] for text in texts]), task("sugarcrepe", against="all")
        )
    )
    assert found.value == float(max(scores[:wrong]) < 0)


def test_a_mistake_without_a_kind_is_an_error_of_one_line() -> None:
    sample = Sample("a", 0, 0, text=("a red boat",), meta={"negatives": [{"text": "a blue boat"}]})
    with pytest.raises(EvalError, match="`negatives` of sample `a` lack a `kind` or a `text`; write each as"):
        from_data(sample)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rules": ["shuffle"], "pair": "pair"}, "`pair` does not work together with `rules`; leave one of them out"),
        ({"rules": ["shufle"]}, "`rules` has no rule `shufle`; did you mean `shuffle`?"),
        ({"scores": ["group score"]}, "`scores` `group score` needs `pair`"),
        ({"scores": ["accuracy"], "pair": "pair"}, "`scores` `accuracy` has no wrong captions"),
        ({"scores": ["text-only accuracy"]}, "`right` is 1, and `text-only accuracy` compares two"),
    ],
)
def test_options_that_do_not_fit_are_an_error_of_one_line(tmp_path: Any, changes: Any, complaint: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"kind": "composition", "title": "T", **changes}))
    with pytest.raises(UserError) as caught:
        load_task(str(path))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_lack_what_a_task_needs_are_an_error(scored: Any) -> None:
    bare = EmbeddingTable(
        {"image": torch.eye(3), "text": torch.eye(3)},
        {name: torch.arange(3) for name in ("image", "text")},
        tuple(Sample(str(n), n, n, meta={"pair": "a"}) for n in range(3)),
    )
    for name, words in {
        "composition": "wrong captions; add `negatives` to the samples, as a column",
        "attribute": "facts that its statements name", "order": "captions that the rules shuffle can change",
        "winoground": "`pair` a names 3 samples with image and text; a pair is two", "comco": "a list `objects`",
    }.items():  # fmt: skip
        one = load_task(name)
        assert isinstance(one, Task)
        with pytest.raises(EvalError, match=words):
            one.measure(bare, embed_text, EvalConfig())
