"""Every rule against a loop over the rows, and what is refused."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.data_pipelines.captions.rules.taggers import read
from tercet.data_pipelines.curate.rules.stages import stages_of
from tercet.data_pipelines.curate.rules.words import facts
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.errors import UserError
from tests.data_pipelines.scored import chosen, decision, kept, scored

N = 400
DICE = np.random.default_rng(0)
WORDS = [
    "a",
    "the",
    "dog",
    "cat",
    "red",
    "big",
    "runs",
    "sits",
    "photo",
    "on",
    "under",
    "and",
    "with",
    "two",
    "sleeping",
    "tree",
]
TEXTS = [" ".join(DICE.choice(WORDS, DICE.integers(1, 9))) for _ in range(N)]
COSINE = [None if id % 17 == 0 else math.nan if id % 19 == 0 else float(DICE.normal()) for id in range(N)]
SIGNALS: dict[str, list[Any]] = {
    "text": TEXTS,
    "words": [len(text.split()) for text in TEXTS],
    "repeated_words": [1 - len(set(text.split())) / len(text.split()) for text in TEXTS],
    "width": DICE.integers(100, 1500, N).tolist(),
    "height": DICE.integers(100, 1500, N).tolist(),
    "image_format": DICE.choice(["JPEG", "PNG"], N, p=[0.8, 0.2]).tolist(),
}


@pytest.fixture
def table(tmp_path: Path) -> ScoreTable:
    return scored(tmp_path / "scores", {"similarity": {"image_text": COSINE}, "signals": SIGNALS})


def has_score(id: int) -> bool:
    value = COSINE[id]
    return value is not None and math.isfinite(value)


def test_where_keeps_what_is_true_and_no_sample_without_a_value(table: ScoreTable) -> None:
    """NaN is no value: it must not pass a threshold."""
    found = kept(table, [{"where": "similarity.image_text > 0.28 and signals.words >= 3"}])
    assert found == [id for id in range(N) if has_score(id) and COSINE[id] > 0.28 and SIGNALS["words"][id] >= 3]  # type: ignore[operator]
    assert kept(table, [{"where": "source = 'data' and id < 5"}], "ids") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fraction", [0.003, 0.3, 1.0])
def test_top_keeps_exactly_the_best(table: ScoreTable, fraction: float) -> None:
    found = kept(table, [{"top": {"by": "similarity.image_text", "fraction": fraction}}])
    ranked = sorted(filter(has_score, range(N)), key=lambda id: (-COSINE[id], id))  # type: ignore[operator]
    assert found == sorted(ranked[: max(1, round(fraction * N))])


def test_among_equals_the_first_are_the_best(table: ScoreTable) -> None:
    ranked = sorted(range(N), key=lambda id: (-SIGNALS["words"][id], id))
    assert kept(table, [{"top": {"by": "signals.words", "count": 37}}]) == sorted(ranked[:37])


def test_align_keeps_what_a_loop_keeps(table: ScoreTable) -> None:
    shared = Counter(TEXTS)

    def keeps(id: int) -> bool:
        shorter, longer = sorted((SIGNALS["width"][id], SIGNALS["height"][id]))
        return shorter > 200 and longer / shorter < 3 and 3 <= len(TEXTS[id].split()) <= 20 and shared[TEXTS[id]] <= 10

    assert kept(table, ["align"]) == list(filter(keeps, range(N)))
    assert "group signals" in table.group("chosen").facts["request"], "scored again, the decision is refused"


def test_align_drops_shared_captions_pictures_and_rare_words(tmp_path: Path) -> None:
    texts = ["one and the same"] * 11 + ["a picture of many"] * 3 + [f"a dog number {id}" for id in range(3)]
    signals = {"text": texts, "words": [4] * 17, "width": [300] * 17, "height": [300] * 17}
    table = scored(tmp_path, {"signals": signals, "duplicates": {"cluster": [*range(11), 50, 50, 50, *range(60, 63)]}})
    assert kept(table, ["align"]) == list(range(11, 17))
    assert kept(table, [{"align": {"picture": "duplicates.cluster", "texts": 2}}], "b") == [14, 15, 16]
    assert kept(table, [{"align": {"rare": 2}}], "c") == [11, 12, 13]  # `0`, `1` and `2` are each in one caption


def test_cc12m_keeps_what_a_loop_keeps(table: ScoreTable) -> None:
    def keeps(id: int) -> bool:
        shorter, longer = sorted((SIGNALS["width"][id], SIGNALS["height"][id]))
        words, known = TEXTS[id].split(), facts(read(TEXTS[id], "words"))
        fits = shorter > 400 and longer <= 2.5 * shorter and SIGNALS["image_format"][id] == "JPEG"
        repeated = SIGNALS["repeated_words"][id] <= 0.2
        return bool(fits and 3 <= len(words) <= 256 and repeated and known["noun"] and known["determiner"])

    assert kept(table, ["cc12m"]) == list(filter(keeps, range(N)))


CAPTIONS = {
    "a dog": {"noun": True, "determiner": True, "action": False, "complexity": 0},
    "a small red dog": {"noun": True, "determiner": True, "action": False, "complexity": 2},
    "the dog runs": {"noun": True, "determiner": True, "action": True, "complexity": 1},
    "a dog is here": {"noun": True, "determiner": True, "action": False, "complexity": 0},
    "a big dog sleeping under a tree": {"noun": True, "determiner": True, "action": True, "complexity": 3},
    "": {"noun": False, "determiner": False, "action": False, "complexity": 0},
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_what_the_words_of_a_caption_say(caption: str) -> None:
    assert facts(read(caption, "words")) == CAPTIONS[caption]


def test_cat_keeps_captions_of_actions_that_the_picture_does_not_show(tmp_path: Path) -> None:
    texts = [*CAPTIONS, None]
    shown = [None, None, "THE DOG", "", "sale: 50 %", None, None]
    table = scored(tmp_path, {"signals": {"text": texts}, "ocr": {"text": shown}})
    assert kept(table, ["cat"]) == [2, 4]
    assert kept(table, [{"cat": {"action": False}}], "b") == [1, 2, 4]
    assert kept(table, [{"cat": {"shown": "ocr.text"}}], "c") == [4]  # two of its three words are in the picture
    assert kept(table, [{"cat": {"shown": "ocr.text", "overlap": 0.7}}], "d") == [2, 4]


def test_duplicates_keep_the_first_of_each_cluster(tmp_path: Path) -> None:
    groups = {
        "duplicates": {"first": [True, False, None, True]},
        "semantic_duplicates": {"nearest": [None, 0.951, 0.95, 0.2]},
    }
    table = scored(tmp_path, groups, samples=5)
    assert kept(table, ["duplicates"]) == [0, 2, 3, 4]
    assert kept(table, [{"semantic_duplicates": 0.05}], "b") == [0, 2, 3, 4]
    assert kept(table, [{"semantic_duplicates": {"eps": 0.5}}], "c") == [0, 3, 4]


def test_alip_gates_are_those_of_the_formula(tmp_path: Path) -> None:
    raw, written, both = (DICE.uniform(-1, 1, 50) for _ in range(3))
    columns = {"raw": raw.tolist(), "written": written.tolist(), "captions": [*both[:-1].tolist(), None]}
    table = scored(tmp_path, {"g": columns})
    rule = {"alip": {"raw": "g.raw", "written": "g.written", "captions": "g.captions", "least": 0.5}}
    expected = []
    for id in range(49):
        sample = min(1, math.exp(2 * (both[id] - both[:-1].mean())))
        pair = max(math.exp(2 * (one[id] - one.mean())) for one in (raw, written)) if sample < 1 else 1
        expected += [id] if sample * pair >= 0.5 else []
    assert kept(table, [rule]) == expected
    assert 5 < len(expected) < 45


def test_a_scorer_is_a_column(tmp_path: Path) -> None:
    """As FLYT's: any group that another program wrote, with rows in any order and for some of the samples."""
    table = scored(tmp_path, {"flyt": {"id": [4, 0, 2], "score": [0.5, 0.9, -3.0]}}, samples=6)
    assert kept(table, [{"top": {"by": "flyt.score", "count": 2}}]) == [0, 4]
    assert decision(table)["key"] == [None] * 6  # a group of another program need not have keys


MISTAKES: dict[str, tuple[Any, str]] = {
    "an unknown column": ([{"where": "similarity.image_txt > 1"}], "did you mean `similarity.image_text`"),
    "a column without its group": ([{"where": "image_text > 1"}], "`image_text` is not a column of"),
    "half an expression": ([{"where": "similarity.image_text >"}], "not an expression of SQL .syntax error"),
    "two expressions": ([{"where": "true); SELECT (true"}], "not an expression of SQL .syntax error"),
    "a type that does not fit": ([{"where": "signals.text > 3.5"}], "where: signals.text > 3.5: Binder Error: Cannot"),
    "an unknown rule": ([{"tops": {}}], "unknown curation rule `tops`; did you mean `top`"),
    "an unknown option": ([{"top": {"by": "similarity.image_text", "share": 0.3}}], "rule `top`: unknown key `share`"),
    "no amount": ([{"top": {"by": "similarity.image_text"}}], "give either `fraction` or `count`"),
    "two amounts": ([{"top": {"by": "id", "fraction": 0.5, "count": 3}}], "give either `fraction` or `count`"),
    "a rule without its options": (["top"], "rule `top`: `by` is missing"),
    "a value for a rule that has none": ([{"top": 0.3}], "the rule `top` needs options, such as `top: {by: …}`"),
    "two rules as one": ([{"where": "true", "top": {}}], "is not a rule; write"),
    "no list": ({"where": "true"}, "give a list of rules, or a list of rules for the name of each stage"),
    "an empty stage": ({"a": []}, "`a` has no rules"),
    "nothing kept": ({"a": [{"where": "id < 0"}]}, "a: no sample is kept; loosen a rule .*drops 400 of 400"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_of_one_line(mistake: str, table: ScoreTable) -> None:
    rules, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as refused:
        chosen(table, rules)
    assert "\n" not in str(refused.value)


def test_rules_are_arguments_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "clean:\n  - where: signals.words >= 3\n  - cc12m\nbest:\n  - top: {by: similarity.image_text, fraction: 0.3}\n"
    )
    words = ["where=signals.words >= 3", "cc12m", "then", "top={by: similarity.image_text, fraction: 0.3}"]
    of_file, of_words = stages_of([str(file)]), stages_of(words)
    assert [stage.rules for stage in of_file] == [stage.rules for stage in of_words]
    assert [stage.name for stage in of_file + of_words] == ["clean", "best", "stage 1", "stage 2"]
    for wrong in ([], ["cc12m", "then"], [str(tmp_path / "gone.yml")]):
        with pytest.raises(UserError, match=r"give a file of rules, or rules such as 'where=signals.words >= 3'"):
            stages_of(wrong)
