"""Captions that rules make wrong: each rule on captions worked out by hand, and what holds for all of them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.captions.rules.sentence import normal
from tercet.data_pipelines.captions.rules.taggers import TaggerName, check_tagger, read
from tercet.data_pipelines.captions.rules.vocabulary import FAMILIES as ATTRIBUTES
from tercet.data_pipelines.captions.rules.wrong import FAMILIES, RULES, WrongCaptions, fault
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.shards.read import open_shards
from tercet.errors import UserError

DRAWS = 150
VOCABULARY = """a an the two red blue small large dog dogs cat man woman horse table orange and or with on above behind
    is riding holds to left right of then before glass wooden , . A The"""
WORDS = VOCABULARY.split()


def made(rule: str, caption: str, tagger: TaggerName = "words") -> set[str]:
    """All that a rule makes of a caption, in many draws."""
    draw = WrongCaptions((rule,), tagger)
    return {one.text for seed in range(DRAWS) for one in draw(caption, [], 1, np.random.default_rng(seed))}


@pytest.mark.parametrize(
    ("rule", "caption", "expected"),
    [
        ("swap_nouns", "A black cat sits on a brown dog.", {"A black dog sits on a brown cat."}),
        ("swap_nouns", "a fire engine passes a child", {"a child passes a fire engine"}),
        ("swap_nouns", "an apple under a table", {"a table under an apple"}),
        ("swap_nouns", "two dogs chase a cat", set()),
        ("swap_nouns", "a dog and a cat", set()),
        ("swap_nouns", "a dog next to a cat", set()),
        ("swap_nouns", "a red dog and a cat", {"a red cat and a dog"}),
        ("swap_adjectives", "a red car and a blue bus", {"a blue car and a red bus"}),
        ("swap_adjectives", "a red car and a blue car", set()),
        ("swap_adjectives", "a small red bird", set()),
        ("swap_adjectives", "a small red car and a wooden bus", set()),
        ("swap_adjectives", "a red car and a wooden bus", {"a wooden car and a red bus"}),
        (
            "swap_adjectives",
            "a small red car above a large blue bus",
            {"a large red car above a small blue bus", "a small blue car above a large red bus"},
        ),
        ("swap_adjectives", "the car is red and the bus is blue", {"the car is blue and the bus is red"}),
        ("swap_adjectives", "two dogs above three red cats", {"three dogs above two red cats"}),
        ("opposite_relation", "A ring to the left of a star", {"A ring to the right of a star"}),
        ("opposite_relation", "a cat is on top of a car", {"a cat is underneath a car"}),
        ("opposite_relation", "Thunder followed by rain", {"Thunder preceded by rain"}),
        ("opposite_relation", "toys all over the floor", set()),
        ("opposite_relation", "it goes well with", set()),
        ("reverse_relation", "A man is riding a brown horse", {"A brown horse is riding a man"}),
        ("reverse_relation", "a dog barks, then a car honks", {"a car honks, then a dog barks"}),
        ("reverse_relation", "a cup on a wooden table", {"a wooden table on a cup"}),
        ("reverse_relation", "a glass of water", set()),
        ("reverse_relation", "a man stands next to a woman", set()),
        ("reverse_relation", "a dog chases cats", set()),
        ("shuffle_nouns_and_adj", "a dog and a cat", set()),
        ("shuffle_nouns_and_adj", "the red dog barks", {"the dog red barks"}),
        ("shuffle_allbut_nouns_and_adj", "on the dog", {"the on dog"}),
        ("shuffle_within_trigrams", "dog barks", {"barks dog"}),
        ("shuffle_trigrams", "one two three four", {"four one two three"}),
        ("shuffle_trigrams", "one two three", set()),
    ],
)
def test_a_rule_makes_exactly_these_captions(rule: str, caption: str, expected: set[str]) -> None:
    assert made(rule, caption) == expected


def test_an_attribute_is_replaced_by_every_other_value_of_its_family_but_no_synonym() -> None:
    (colours,) = ATTRIBUTES["colour"]
    others = {alike[0] for alike in colours if not {"crimson", "white"} & set(alike)}
    found = made("replace_attribute", "A crimson ball in front of a white wall")
    balls = {caption.split()[1] for caption in found} - {"crimson"}
    assert balls == others
    assert "A orange ball in front of a white wall" not in found
    assert "An orange ball in front of a white wall" in found


@pytest.mark.parametrize("caption", ["an orange", "a glass of water", "a ring of gold", "one dog"])
def test_nouns_that_are_named_like_attributes_are_not_replaced(caption: str) -> None:
    assert made("replace_attribute", caption) == set()


CAPTIONS = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(CAPTIONS, st.lists(CAPTIONS, max_size=3), st.integers(0, 2**32), st.sampled_from(sorted(FAMILIES)))
def test_what_holds_for_every_caption(caption: str, right: list[str], seed: int, family: str) -> None:
    """Never a right caption nor the same twice, the same for the same seed, and a swap or shuffle keeps the words."""
    draw = WrongCaptions((family,))
    found = draw(caption, right, 5, np.random.default_rng(seed))
    assert found == draw(caption, right, 5, np.random.default_rng(seed))
    told = [normal(one.text) for one in found]
    assert len(set(told)) == len(told) <= 5
    assert not set(told) & {normal(one) for one in (caption, *right)}
    assert {one.kind for one in found} <= {rule.__name__ for rule in FAMILIES[family]}
    if family in ("swap", "shuffle"):
        for one in told:
            assert Counter(_unarticled(one)) == Counter(_unarticled(normal(caption)))


def _unarticled(words: tuple[str, ...]) -> list[str]:
    return [word.replace("an", "a") if word == "an" else word for word in words]


def test_the_opposite_relation_is_the_one_that_the_built_in_world_knows_from_its_facts(tmp_path: Path) -> None:
    """Its wrong captions come from the facts: with the other relation, there is one."""
    world = generate(WorldConfig(train=60, val=2, size=32, seconds=0.5, generic=0.0, workers=1), tmp_path)
    shards = open_shards([str(path) for path in sorted((world / "train").glob("*.tar"))])
    applied: Counter[str] = Counter()
    for id, files in enumerate(shards.read(range(len(shards)), {"json", "txt"})):
        assert isinstance(files, dict)
        right = files["txt"].decode().splitlines()
        wrong = {one["text"] for one in decode_meta(files["json"])["negatives"]}  # type: ignore[attr-defined]
        for one in WrongCaptions(("swap", "attribute", "relation"))(right[0], right, 8, np.random.default_rng(id)):
            applied[one.kind] += 1
            if one.kind == "opposite_relation":
                assert one.text.replace("beneath", "below") in wrong
    assert {"swap_nouns", "swap_adjectives", "replace_attribute", "opposite_relation"} <= set(applied)


def test_each_family_is_drawn_equally_often() -> None:
    draw = WrongCaptions(("swap", "relation"))
    drawn = [draw("a red dog above a blue cat", [], 1, np.random.default_rng(seed))[0].kind for seed in range(400)]
    assert 150 < sum(kind.startswith("swap") for kind in drawn) < 250


def test_an_unknown_rule_is_a_fault() -> None:
    assert fault(["swop"]) == "has no rule `swop`; did you mean `swap`?"
    assert fault([]) == "is empty; name a rule, such as swap, attribute, relation"
    assert fault([*FAMILIES, *RULES]) == ""


def test_rules_load_no_torch() -> None:
    code = "import sys, tercet.data_pipelines.captions.rules.wrong; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_tagger_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.data_pipelines.captions.rules.taggers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"r: `textblob` is not installed; pip install 'tercet\[tagger\]'"):
        check_tagger("r", "textblob")


def test_textblob_knows_words_that_the_lists_do_not() -> None:
    caption = "a gloomy sailor waves at a jubilant child"
    assert read(caption, "words").places("adjective") == []
    assert read(caption, "textblob").places("adjective") == [1, 6]
    assert made("swap_adjectives", caption, "textblob") == {"a jubilant sailor waves at a gloomy child"}
    assert read("a cat to the left of a dog", "textblob").tags[4] == "function"
