"""Captions of the generated dataset, read by a parser that knows the words but not the templates."""

import re
from hashlib import sha256

from tercet.data_pipelines.builtin.captions import captions, negatives, wrong_captions
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.scene import Scene, scene
from tercet.data_pipelines.builtin.vocabulary import PREPOSITION, SYNONYMS, vocabulary
from tercet.data_pipelines.captions.negatives import replacements, swaps

RELATED = (
    r"(to the left of|left of|on the left side of|to the right of|right of|on the right side of"
    r"|above|over|higher than|below|under|beneath)"
)
KIND = {word: kind for kind, words in vocabulary().items() if kind != "relation" for word in words}
CANONICAL = {synonym: word for word, synonyms in SYNONYMS.items() for synonym in synonyms}
MEANING = {phrase: name for name, phrase in PREPOSITION.items()}

Reading = tuple[list[dict[str, str]], str | None]


def read(caption: str) -> Reading:
    """The attributes of each object, in order, and the relation that is stated."""
    found = re.search(rf" {RELATED} an? ", caption)
    relation = MEANING[CANONICAL.get(found[1], found[1])] if found else None
    things = []
    for part in re.split(rf" {RELATED} (?=an? )| (?:and|with|as|also) (?=an? )", caption):
        words = [CANONICAL.get(word, word) for word in re.findall(r"\w+", part or "")]
        attributes = {KIND[word]: word for word in words if word in KIND}
        things += [attributes] if attributes else []
    return things, relation


def truth(shown: Scene) -> Reading:
    return [thing.words for thing in shown.objects], shown.relation


def scenes(count: int = 400, **knobs: object) -> list[Scene]:
    config = WorldConfig(**{"objects": (0.3, 0.4, 0.3), **knobs})
    return [scene(config, "train", index) for index in range(count)]


def test_captions_of_a_full_scene_describe_all_of_it_and_nothing_else() -> None:
    for shown in scenes(generic=0.0):
        for caption in captions(shown):
            assert read(caption) == truth(shown), caption


def test_generic_captions_are_true_but_incomplete() -> None:
    for shown in scenes(generic=1.0):
        things, relation = truth(shown)
        for caption in captions(shown):
            described, stated = read(caption)
            assert all(part.items() <= thing.items() for part, thing in zip(described, things, strict=True))
            assert all(0 < len(part) < 4 for part in described)
            assert stated in (None, relation)


def test_the_first_caption_is_canonical_and_the_others_vary() -> None:
    single = next(shown for shown in scenes(generic=0.0) if len(shown.objects) == 1)
    thing = single.objects[0]
    article = "an" if thing.size[0] in "aeiou" else "a"
    assert captions(single)[0] == f"{article} {thing.size} {thing.texture} {thing.colour} {thing.shape}"
    wordings = {caption for shown in scenes(generic=0.0) for caption in captions(shown)[1:]}
    used = {synonym for synonym in CANONICAL if any(re.search(rf"\b{synonym}\b", caption) for caption in wordings)}
    assert used == set(CANONICAL)
    assert all(re.search(r"\ba (?=[aeiou])|\ban (?=[^aeiou])", caption) is None for caption in wordings)


def test_wrong_captions_differ_in_the_way_their_rule_says() -> None:
    kinds = set()
    for shown in scenes(600):
        things, relation = truth(shown)
        for wrong in negatives(shown):
            described, stated = read(wrong["text"])
            both = zip(things, described, strict=True)
            changed = [(name, old[name], new[name]) for old, new in both for name in old if old[name] != new[name]]
            if wrong["kind"] == "swapped":
                (name, *first), (other, *second) = changed
                assert name == other
                assert first == second[::-1]
                assert sorted(map(str, described)) != sorted(map(str, things))
            elif wrong["kind"] == "replaced":
                assert len(changed) == 1
            assert (stated == relation) == (wrong["kind"] != "relation")
            if wrong["kind"] == "relation":
                assert described == things
                assert {stated, relation} in ({"left", "right"}, {"above", "below"})
            kinds.add(wrong["kind"])
    assert kinds == {"swapped", "replaced", "relation"}


def test_wrong_captions_are_worded_as_right_ones_are() -> None:
    """Each says what is wrong, and sentences begin in the same ways equally often."""
    openings: dict[str, list[str]] = {"right": [], "wrong": []}
    for shown in scenes(600, generic=0.0):
        kinds = negatives(shown)
        wrong = wrong_captions(shown)
        assert [read(caption) for caption in wrong] == [read(kind["text"]) for kind in kinds for _ in range(4)]
        assert wrong[::4] == [kind["text"] for kind in kinds]
        openings["right"] += [caption.split()[0] for caption in captions(shown)]
        openings["wrong"] += [caption.split()[0] for caption in wrong]
    right, wrong_ = (
        {word: described.count(word) / len(described) for word in described} for described in openings.values()
    )
    assert right.keys() == wrong_.keys()
    assert all(abs(right[word] - wrong_[word]) < 0.05 for word in right)
    assert [wrong_captions(shown) for shown in scenes(20, generic=1.0)] == [[]] * 20


def test_wrong_training_captions_do_not_mention_held_out_pairings() -> None:
    unseen = [scene(WorldConfig(), "combinations", index) for index in range(400)]
    held_out = {(one.shape, one.colour) for shown in unseen for one in shown.objects}
    described = [thing for shown in scenes() for wrong in negatives(shown) for thing in read(wrong["text"])[0]]
    assert not held_out & {(thing["shape"], thing["colour"]) for thing in described}


def test_rules_cover_every_kind_of_wrong_caption() -> None:
    red_ball, blue_ball = {"shape": "ball", "colour": "red"}, {"shape": "ball", "colour": "blue"}
    blue_cube, red_cube = {"shape": "cube", "colour": "blue"}, {"shape": "cube", "colour": "red"}
    values = {"shape": ("ball", "cube"), "colour": ("red", "blue")}
    assert swaps((red_ball, blue_ball), lambda thing: True) == []  # the same two things again
    assert swaps((red_ball,), lambda thing: True) == []
    assert swaps((red_ball, blue_cube), lambda thing: True) == [(red_cube, blue_ball), (blue_ball, red_cube)]
    assert swaps((red_ball, blue_cube), lambda thing: thing != red_cube) == []
    assert replacements((red_ball,), values, lambda thing: True) == [(red_cube,), (blue_ball,)]
    assert replacements((red_ball,), values, lambda thing: thing != red_cube) == [(blue_ball,)]


def test_captions_match_their_recorded_digest() -> None:
    """If the digest changes, the same config writes another dataset: raise its edition, and update the digest here."""
    config = WorldConfig()
    text = "\n".join(caption for index in range(8) for caption in captions(scene(config, "train", index)))
    assert sha256(text.encode()).hexdigest()[:16] == "087c7417a2022845"
