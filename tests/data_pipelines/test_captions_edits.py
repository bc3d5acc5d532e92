"""Edits of captions: what each of them may change, and how often it does."""

import pytest
from pydantic import ValidationError

from tercet.data_pipelines.captions.edits import DELETED, EditConfig, core
from tercet.data_pipelines.captions.plain_words import STOP_WORDS, SYNONYMS
from tercet.data_pipelines.seeding import keyed

CAPTION = "A small dog is running on the beach, next to two Kids"
DRAWS = 3000


def edited(caption: str = CAPTION, **shares: float) -> list[list[str]]:
    edit = EditConfig(**shares)
    return [edit(caption, keyed("test", 0, item=draw)).split() for draw in range(DRAWS)]


def test_stop_words_go_from_the_share_of_captions_but_never_the_last_word() -> None:
    whole, short = CAPTION.split(), ["small", "dog", "running", "beach,", "next", "two", "Kids"]
    found = edited(stop_words=0.8)
    assert all(words in (whole, short) for words in found)
    assert found.count(short) / DRAWS == pytest.approx(0.8, abs=0.03)
    assert edited("The of A", stop_words=1.0)[0] == ["The", "of", "A"]
    assert edited("", stop_words=1.0, delete=1.0)[0] == []


def test_a_synonym_takes_the_place_of_one_word_with_its_marks_and_capitals() -> None:
    whole, seen = CAPTION.split(), set()
    for words in edited(synonym=1.0):
        ((old, new),) = [(old, new) for old, new in zip(whole, words, strict=True) if old != new]
        assert core(new).lower() in SYNONYMS[core(old).lower()]
        seen.add(new)
    assert seen == {"little", "tiny", "hound", "racing", "Children"}
    assert edited("zzz qqq", synonym=1.0)[0] == ["zzz", "qqq"]


def test_two_words_change_places() -> None:
    whole = CAPTION.split()
    for words in edited(swap=1.0):
        assert sorted(words) == sorted(whole)
        assert sum(one != other for one, other in zip(words, whole, strict=True)) == 2
    assert edited("alone", swap=1.0)[0] == ["alone"]


def test_each_word_is_left_out_with_the_same_probability() -> None:
    whole, kept = CAPTION.split(), dict.fromkeys(CAPTION.split(), 0)
    for words in edited(delete=1.0):
        assert words == [word for word in whole if word in words]
        for word in words:
            kept[word] += 1
    assert all(count / DRAWS == pytest.approx(1 - DELETED, abs=0.03) for count in kept.values())
    assert {tuple(words) for words in edited("one two", delete=1.0)} == {("one", "two"), ("one",), ("two",)}


def test_a_caption_gets_one_of_three_changes_at_most() -> None:
    """A swap keeps the words, a synonym all but one, and a deletion fewer."""
    whole, shares = CAPTION.split(), {"synonym": 0, "swap": 0, "delete": 0}
    for words in edited(synonym=0.4, swap=0.3, delete=0.1):
        if words != whole:
            kind = "delete" if len(words) < len(whole) else "swap" if sorted(words) == sorted(whole) else "synonym"
            shares[kind] += 1
    missing = 0.1 * (1 - (1 - DELETED) ** len(whole))
    expected = {"synonym": 0.4, "swap": 0.3, "delete": missing}
    assert {kind: count / DRAWS for kind, count in shares.items()} == pytest.approx(expected, abs=0.03)
    with pytest.raises(ValidationError, match=r"`swap` and `delete` add up to 1.2; give 1 at most"):
        EditConfig(synonym=0.4, swap=0.4, delete=0.4)


def test_no_stop_word_has_a_synonym() -> None:
    assert not STOP_WORDS & SYNONYMS.keys()
    assert all(word not in others for word, others in SYNONYMS.items())
