"""Compares generated scenes with the shares of the config and with closed forms."""

from collections import Counter

import pytest

from tercet.data_pipelines.builtin.config import BuiltinSourceConfig, WorldConfig
from tercet.data_pipelines.builtin.scene import Scene, scene
from tercet.data_pipelines.builtin.vocabulary import COLOURS, HELD_OUT, SHAPES, SYNONYMS, vocabulary

MANY = 4000


def train(count: int = MANY, **knobs: object) -> list[Scene]:
    config = WorldConfig(**knobs)
    return [scene(config, "train", index) for index in range(count)]


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def within(expected: float, count: int = MANY) -> object:
    """Four standard deviations of a share."""
    return pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5)


def test_a_scene_depends_only_on_seed_split_and_index() -> None:
    config = WorldConfig()
    backwards = {index: scene(config, "train", index) for index in reversed(range(50))}
    assert all(scene(WorldConfig(workers=1, train=50), "train", index) == backwards[index] for index in range(50))
    others = [scene(WorldConfig(seed=1), "train", 3), scene(config, "val", 3), scene(config, "train", 4)]
    assert len({backwards[3].identity, *(other.identity for other in others)}) == 4


def test_numbers_of_objects_have_their_shares_and_objects_are_distinct() -> None:
    scenes = train(objects=(0.5, 0.3, 0.2))
    counts = Counter(len(shown.objects) for shown in scenes)
    assert [counts[number] / MANY for number in (1, 2, 3)] == [within(0.5), within(0.3), within(0.2)]
    assert all(len(set(shown.objects)) == len(shown.objects) for shown in scenes)
    assert all((shown.relation is None) == (len(shown.objects) == 1) for shown in scenes)


def test_held_out_pairings_occur_only_in_their_split() -> None:
    config = WorldConfig(generic=0.0, duplicates=0.2, long_tail=1.0)
    for split, expected in (("train", False), ("val", False), ("combinations", True)):
        things = [thing for index in range(1500) for thing in scene(config, split, index).objects]
        assert {(thing.shape, thing.colour) in HELD_OUT for thing in things} == {expected}
    assert {sum(pairing[0] == shape for pairing in HELD_OUT) for shape in SHAPES} == {3}
    assert {sum(pairing[1] == colour for pairing in HELD_OUT) for colour in COLOURS} == {2, 3}


def test_the_long_tail_of_training_pairings_follows_zipf() -> None:
    singles = train(objects=(1.0, 0.0, 0.0), long_tail=1.0)
    seen = [(shape, colour) for shape in SHAPES for colour in COLOURS if (shape, colour) not in HELD_OUT]
    weight = {pairing: 1 / ((SHAPES.index(pairing[0]) + 1) * (COLOURS.index(pairing[1]) + 1)) for pairing in seen}
    total = sum(weight.values())
    for shape in SHAPES:
        expected = sum(part for pairing, part in weight.items() if pairing[0] == shape) / total
        assert share([shown.objects[0].shape == shape for shown in singles]) == within(expected)
    evaluated = [scene(WorldConfig(objects=(1.0, 0.0, 0.0), long_tail=3.0), "val", index) for index in range(1000)]
    assert share([shown.objects[0].shape == "circle" for shown in evaluated]) < 0.2


def test_duplicates_repeat_the_objects_of_an_earlier_scene_with_other_jitter() -> None:
    scenes = train(1500, objects=(0.0, 0.0, 1.0), duplicates=0.3)
    first_seen: dict[tuple[object, ...], int] = {}
    repeats = []
    for index, shown in enumerate(scenes):
        what = (shown.objects, shown.relation)
        repeats.append(first_seen.setdefault(what, index) < index)
    assert share(repeats) == within(0.3, 1500)
    copy = repeats.index(True)
    original = scenes[first_seen[scenes[copy].objects, scenes[copy].relation]]
    assert original.group == scenes[copy].group
    assert original.stream("picture").random() != scenes[copy].stream("picture").random()


def test_generic_scenes_and_sources_have_their_shares() -> None:
    sources = (BuiltinSourceConfig(name="studio", share=0.25), BuiltinSourceConfig(name="street", share=0.5))
    scenes = train(generic=0.4, sources=sources)
    assert share([shown.generic for shown in scenes]) == within(0.4)
    names = Counter(shown.source.name if shown.source else None for shown in scenes)
    assert [names[name] / MANY for name in ("studio", "street", None)] == [within(0.25), within(0.5), within(0.25)]
    assert not any(scene(WorldConfig(generic=1.0), "val", index).generic for index in range(20))


def test_identity_ignores_only_order_and_relation() -> None:
    shown = next(shown for shown in train(200) if len(shown.objects) == 3)
    turned = Scene(shown.objects[::-1], "above", shown.address)
    assert turned.group == shown.group
    fewer = Scene(shown.objects[:2], shown.relation, shown.address)
    assert fewer.group != shown.group
    assert 0 <= shown.group < 2**63
    identities = {one.identity for one in train(1000)}
    assert len({one.group for one in train(1000)}) == len(identities)


def test_there_are_enough_unique_scenes_for_256_candidates() -> None:
    config = WorldConfig()
    for split, count in (("val", config.val), ("combinations", config.combinations)):
        assert len({scene(config, split, index).identity for index in range(count)}) > 270  # type: ignore[arg-type]


def test_all_words_have_different_spellings() -> None:
    words = [word for names in vocabulary().values() for word in names]
    words += [synonym for synonyms in SYNONYMS.values() for synonym in synonyms]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    "knobs",
    [
        {"objects": (0.5, 0.2, 0.2)},
        {"missing": {"image": 0.6, "audio": 0.6}},
        {"missing": {"video": 0.1}},
        {"shapes": 3},
    ],
)
def test_impossible_options_are_refused(knobs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"objects|missing|shapes"):
        WorldConfig(**knobs)
