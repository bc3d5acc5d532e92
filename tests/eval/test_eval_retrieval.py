"""The options of retrieval: directions, languages, grades, truncated captions. Beside naive loops."""

import json
import math
from dataclasses import replace
from zlib import crc32

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample, TextIntake
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.load_tasks import load_task
from tercet.eval.measure import Measure, results
from tercet.eval.ranking.ranking import rank
from tercet.eval.result import Result, from_json, to_json
from tercet.eval.retrieval.retrieval import RetrievalTask
from tercet.eval.tables.table import table_text
from tercet.eval.trust.self_test import QUICK, self_test
from tercet.testing import on_ranks

ITEMS, LANGUAGES = 24, ("de", "en", "fr")


def task(name: str = "retrieval", **changes: object) -> RetrievalTask:
    found = load_task(name)
    assert isinstance(found, RetrievalTask)
    return RetrievalTask.model_validate(found.model_dump() | changes)


def embed_text(texts: list[str]) -> Tensor:
    return torch.ones(len(texts), 8)


def measured(task: RetrievalTask, table: EmbeddingTable, candidates: int | None = None) -> list[Measure]:
    return task.measure(table, embed_text, EvalConfig(candidates=candidates))


def by_name(measures: list[Measure]) -> dict[str, Result]:
    return {result.name: result for result in results(measures)}


def views(items: dict[str, Tensor], samples: tuple[Sample, ...]) -> EmbeddingTable:
    random = torch.Generator().manual_seed(0)
    base = torch.randn(len(samples), 8, generator=random)
    noise = {name: torch.randn(len(rows), 8, generator=random) for name, rows in items.items()}
    vectors = {name: F.normalize(base[rows] + noise[name], dim=1) for name, rows in items.items()}
    return EmbeddingTable(vectors, items, samples)


def spoken() -> EmbeddingTable:
    """Samples with a picture, a sound and captions in three languages; every third one has two captions in German."""
    count = torch.tensor([4 if n % 3 == 0 else 3 for n in range(ITEMS)])
    metas = [
        {
            "captions": {
                "de": [f"eins {n}", f"zwei {n}"] if n % 3 == 0 else f"eins {n}",
                "en": f"one {n}",
                "fr": [f"un {n}"],
            }
        }
        for n in range(ITEMS)
    ]
    samples = tuple(Sample(f"s{n}", n, n, meta=meta) for n, meta in enumerate(metas))
    everywhere = torch.arange(ITEMS)
    items = {"image": everywhere, "audio": everywhere, "text": everywhere.repeat_interleave(count)}
    return views(items, samples)


def languages_of(table: EmbeddingTable) -> list[str]:
    return [one for n in range(ITEMS) for one in (["de"] if n % 3 == 0 else []) + ["de", "en", "fr"]]


def test_each_language_searches_alone_and_the_mean_weighs_them_alike() -> None:
    table = spoken()
    found = by_name(measured(task("multilingual_retrieval"), table))
    known = torch.tensor([LANGUAGES.index(one) for one in languages_of(table)])
    image, text, item = table.vectors["image"], table.vectors["text"], table.items["text"]
    for query in ("text", "image"):
        rank_of: dict[tuple[int, int], list[int]] = {}
        hits = []
        for number, language in enumerate(LANGUAGES):
            own, whose = text[known == number], item[known == number]
            scores = own @ image.T if query == "text" else image @ own.T
            ranks = []
            for row, line in enumerate(scores):
                order = line.argsort(descending=True).tolist()
                group = int(whose[row]) if query == "text" else row
                right = [group] if query == "text" else (whose == row).nonzero().flatten().tolist()
                ranks.append(min(order.index(one) for one in right) + 1)
                rank_of.setdefault((group, number), []).append(ranks[-1])
            subject = f"{query}→{'image' if query == 'text' else 'text'}"
            hits.append(sum(rank == 1 for rank in ranks) / len(ranks))
            assert found[f"{subject}, {language} R@1"].value == pytest.approx(hits[-1])
        assert found[f"{subject}, mean R@1"].value == pytest.approx(sum(hits) / 3, rel=1e-12)
        rank_jk = [[sum(rank_of[j, k]) / len(rank_of[j, k]) for k in range(3)] for j in range(ITEMS)]
        spread = sum((rank - sum(row) / 3) ** 2 for row in rank_jk for rank in row) / (3 * ITEMS)
        variance = found[f"{subject}, mean mean rank variance"]
        assert variance.value == pytest.approx(spread)
        assert variance.low <= variance.value <= variance.high
        assert variance.n == len(known) if query == "text" else 3 * ITEMS
    assert found["text→image, mean mean rank variance"].chance == pytest.approx(2 / 3 * (ITEMS**2 - 1) / 12)
    assert "image→audio R@1" in found
    assert "text→image, mean median rank" not in found


def test_samples_of_one_language_each_give_the_same_as_captions_by_language() -> None:
    """As in tables with a row for each caption: the picture is repeated, and its copies are one group."""
    table = spoken()
    samples, items = [], {"image": [], "text": []}
    vectors = {"image": [], "text": []}
    for row, language in enumerate(languages_of(table)):
        item = int(table.items["text"][row])
        samples.append(Sample(f"r{row}", row, item, meta={"language": language}))
        for name, own in (("image", table.vectors["image"][item]), ("text", table.vectors["text"][row])):
            vectors[name].append(own)
            items[name].append(row)
    rows = EmbeddingTable(
        {name: torch.stack(one) for name, one in vectors.items()},
        {name: torch.tensor(one) for name, one in items.items()},
        tuple(samples),
    )
    straight = by_name(measured(task("multilingual_retrieval", directions=[["image", "text"]]), table))
    found = by_name(measured(task("multilingual_retrieval", directions=[["image", "text"]]), rows))
    for name in ("image→text, en R@5", "image→text, fr mean rank"):
        assert found[name].value == straight[name].value


def test_captions_without_a_language_are_an_error_that_says_what_to_add() -> None:
    table = spoken()
    bare = EmbeddingTable(table.vectors, table.items, tuple(Sample(f"s{n}", n, n) for n in range(ITEMS)))
    with pytest.raises(EvalError, match="`language` of sample `s0` is missing; name its kind there"):
        measured(task("multilingual_retrieval"), bare)
    short = tuple(Sample(f"s{n}", n, n, meta={"language": ["de"]}) for n in range(ITEMS))
    with pytest.raises(EvalError, match="`language` of sample `s0` gives 1 of its 4 captions a kind"):
        measured(task("multilingual_retrieval"), EmbeddingTable(table.vectors, table.items, short))
    first = {"image": torch.arange(ITEMS), "text": torch.arange(ITEMS)}
    cut = EmbeddingTable({name: table.vectors[name][rows] for name, rows in first.items()}, first, table.samples)
    with pytest.raises(EvalError, match=r"is about 4 captions, of which 1 are embedded; set eval\.captions=4"):
        measured(task("multilingual_retrieval"), cut)


def test_captions_from_another_place_than_their_languages_are_an_error() -> None:
    """A prefix of the source, such as that of E5, may come before them."""
    meta = {"captions": {"de": "eins", "en": ["one", " "]}}
    items = {"image": torch.arange(2), "text": torch.arange(2).repeat_interleave(2)}
    for text, right in ((("query: eins", "query: one"), True), (("a", "b"), False), (("eins", "two"), False)):
        table = views(items, tuple(Sample(f"s{n}", n, n, text=text, meta=meta) for n in range(2)))
        if right:
            subjects = {one.subject for one in measured(task("multilingual_retrieval"), table)}
            assert subjects >= {"image→text, de", "image→text, en", "image→text, mean"}
        else:
            with pytest.raises(EvalError, match=r"`s0` are not those of `captions`; set captions={json\.captions: 1}"):
                measured(task("multilingual_retrieval"), table)


def test_directions_are_those_of_the_task_in_its_order() -> None:
    table = spoken()
    assert len(measured(task(), table)) == 6
    speech = measured(task("speech_retrieval"), table)
    assert [one.subject for one in speech] == ["text→audio", "audio→text"]
    assert set(speech[0].statistics) == {"R@1", "R@5", "R@10", "MRR", "mean rank", "median rank"}
    silent = EmbeddingTable(
        {name: table.vectors[name] for name in ("image", "text")},
        {name: table.items[name] for name in ("image", "text")},
        table.samples,
    )
    with pytest.raises(EvalError, match="task `speech_retrieval` needs audio, and the embedded data have image, text"):
        measured(task("speech_retrieval"), silent)


def test_an_item_may_be_the_only_right_answer_of_its_group() -> None:
    table = spoken()
    pairs = tuple(Sample(f"s{n}", n, n // 2) for n in range(ITEMS))
    grouped = EmbeddingTable(table.vectors, table.items, pairs)
    alone = by_name(measured(task(right="item"), grouped))
    assert alone["image→audio R@1"].value == by_name(measured(task(), table))["image→audio R@1"].value
    assert by_name(measured(task(), grouped))["image→audio R@5"].value > alone["image→audio R@5"].value
    assert alone["image→audio R@1"].metadata["groups"] == ITEMS // 2


def test_grades_of_other_samples_are_right_answers_with_a_gain() -> None:
    """Sample n names the next one with grade 3 and denies its own caption where n is a multiple of 4."""
    table = spoken()
    grades = [{f"s{(n + 1) % ITEMS}": 3, **({f"s{n}": 0} if n % 4 == 0 else {})} for n in range(ITEMS)]
    samples = tuple(Sample(f"s{n}", n, n, meta={"grades": one}) for n, one in enumerate(grades))
    graded = EmbeddingTable(table.vectors, table.items, samples)
    found = by_name(
        measured(task(relevance="grades", further=["nDCG@5", "mean rank"], directions=[["image", "audio"]]), graded)
    )
    gains, ranks = [], []
    for n, row in enumerate(table.vectors["image"] @ table.vectors["audio"].T):
        own = {(n + 1) % ITEMS: 3.0, n: 0.0 if n % 4 == 0 else 1.0}
        order = [own.get(place, 0.0) for place in row.argsort(descending=True).tolist()]
        best = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(own.values(), reverse=True)))
        gains.append(sum(grade / math.log2(place + 2) for place, grade in enumerate(order[:5])) / best)
        ranks.append(next(place for place, grade in enumerate(order, start=1) if grade > 0))
    assert found["image→audio nDCG@5"].value == pytest.approx(sum(gains) / ITEMS)
    assert found["image→audio mean rank"].value == pytest.approx(sum(ranks) / ITEMS)


@pytest.mark.parametrize("grade", [math.inf, math.nan, "2"])
def test_a_grade_that_is_not_a_finite_number_is_an_error(grade: object) -> None:
    table = spoken()
    samples = tuple(replace(one, meta={"grades": {"s0": grade}}) for one in table.samples)
    with pytest.raises(EvalError, match="`grades` of sample `s0` must map keys of samples to numbers"):
        measured(task(relevance="grades"), replace(table, samples=samples))


def on_a_rank(world: World) -> tuple[list[Result], list[Result], bool]:
    """The results of all ranks together and of this one alone; whether their rankings in smaller tiles are equal."""
    items = {name: torch.arange(300) for name in ("image", "text")}
    table = views(items, tuple(Sample(f"s{n}", n, n // 2) for n in range(300)))
    together, alone = (results(measured(task(), replace(table, world=one))) for one in (world, World()))
    rows = table.vectors["image"], table.vectors["text"], table.groups, table.groups
    first, second = (rank(*rows, tile=16, width=40, world=one) for one in (world, World()))
    return together, alone, first.before_QK.equal(second.before_QK) and len(first.rank) == 300


def test_two_processes_have_the_results_of_one_to_the_bit() -> None:
    for together, alone, equal in on_ranks(on_a_rank, 2):
        assert together == alone
        assert equal


class Towers:
    """A model whose text tower sees five words."""

    def __init__(self) -> None:
        self.intakes = {"text": TextIntake(self.tokenize)}

    def tokenize(self, texts: list[str]) -> Tensor:
        words = [[crc32(word.encode()) for word in text.split()[:5]] for text in texts]
        return torch.tensor([row + [0] * (5 - len(row)) for row in words])

    def embed_text(self, texts: list[str]) -> Tensor:
        return torch.ones(len(texts), 8)


def test_the_result_says_how_many_captions_the_text_tower_does_not_read_to_the_end() -> None:
    """Of five words all are read; the last of six is not."""
    lengths = [3, 5, 6, 9]
    samples = tuple(
        Sample(f"s{n}", n, n, text=(" ".join(f"word{place}" for place in range(length)),))
        for n, length in enumerate(lengths)
    )
    table = views({name: torch.arange(4) for name in ("image", "text")}, samples)
    long = task("long_retrieval")
    (first, _) = long.measure(table, Towers().embed_text, EvalConfig())
    assert first.notes["truncated captions"] == 2
    assert "2 truncated captions" in table_text(results(long.measure(table, Towers().embed_text, EvalConfig())))
    assert "truncated captions" not in measured(long, table)[0].notes
    several = replace(table, vectors={**table.vectors, "text": table.vectors["image"].repeat_interleave(2, dim=0)})
    twice = tuple(replace(sample, text=(*sample.text, "short")) for sample in samples)
    items = {**table.items, "text": torch.arange(4).repeat_interleave(2)}
    found = long.measure(replace(several, items=items, samples=twice), Towers().embed_text, EvalConfig())
    assert [measure.notes["candidates"] for measure in found] == [8, 4]
    assert table_text(results(found)).startswith("2 truncated captions\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("further: [MAP]", "`MAP` is not a metric of retrieval; did you mean `mAP`?"),
        ("further: [nDCG@0]", "`nDCG@0` is not a metric of retrieval"),
        ("directions: [[image, sound]]", "`sound` is not a modality"),
        ("directions: [[text, text]]", "text would find itself"),
        ("recall_at: [0]", "greater than 0"),
        ("right: picture", "right"),
    ],
)
def test_a_wrong_option_is_an_error_of_one_line(tmp_path, text: str, complaint: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: retrieval\n{text}")
    with pytest.raises(UserError) as caught:
        load_task(str(path))
    assert complaint.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_more_captions_than_the_protocol_has_are_an_error() -> None:
    with pytest.raises(EvalError, match="`captions: 3`, and an item has 4; raise it"):
        measured(task("retrieval_laion_audio", captions=3), spoken())


def test_null_models_score_what_they_must_in_every_metric() -> None:
    every = ["P@5", "R-precision", "mAP", "mAP@3", "MRR", "nDCG@5", "mean rank", "median rank"]
    directions = [["image", "text"], ["text", "audio"]]
    checks = self_test(spoken(), [task("multilingual_retrieval", further=every, directions=directions)], QUICK)
    assert [check for check in checks if not check.holds] == []
    assert {check.metric for check in checks} == {"R@1", "R@5", "R@10", *every, "mean rank variance"}


def test_results_survive_json() -> None:
    found = results(measured(task("multilingual_retrieval"), spoken()))
    assert from_json(json.loads(json.dumps(to_json(found, "demo")))) == found
