"""What a description says of a scene, and scenes of which some of it is wrong.

A fact is an attribute of one object, or the relation of the first to the second. Objects are compared in their order.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from tercet.data_pipelines.builtin.scene import Scene, Thing
from tercet.data_pipelines.builtin.vocabulary import ATTRIBUTES, OPPOSITE
from tercet.data_pipelines.captions.templates import choose

Fact = tuple[int, str]  # the place of an object and an attribute; the relation is of the first


def facts(scene: Scene) -> dict[Fact, str]:
    found = {(place, name): word for place, thing in enumerate(scene.objects) for name, word in thing.words.items()}
    return found | ({(0, "relation"): scene.relation} if scene.relation else {})


def relevance(told: Scene, shown: Scene) -> float:
    """The share of the facts of one scene that are true of another."""
    said, true = facts(told), facts(shown)
    return sum(true.get(fact) == word for fact, word in said.items()) / len(said)


def partly_wrong(scene: Scene, share: float) -> Scene:
    """In `share` of the cases a scene of which some facts are wrong, from one fact to all but one."""
    dice = scene.stream("partly wrong")
    return with_wrong(scene, 1 + int(dice.integers(len(facts(scene)) - 1)), dice) if dice.random() < share else scene


def with_wrong(scene: Scene, count: int, dice: np.random.Generator) -> Scene:
    """The scene with so many facts wrong."""
    names = list(facts(scene))
    return mistaken(scene, [names[place] for place in dice.permutation(len(names))[:count]], dice)


def mistaken(scene: Scene, wrong: Iterable[Fact], dice: np.random.Generator) -> Scene:
    """The scene with other values for some facts. It uses only pairings of the scene's own split.

    Its captions leave nothing out, because that might be what is wrong.
    """
    objects, relation = list(scene.objects), scene.relation
    for place, name in wrong:
        if name == "relation":
            relation = OPPOSITE[relation or ""]
        else:
            objects[place] = _replaced(objects[place], name, dice)
    return replace(scene, objects=tuple(objects), relation=relation, generic=False)


def _replaced(thing: Thing, name: str, dice: np.random.Generator) -> Thing:
    others = [replace(thing, **{name: word}) for word in ATTRIBUTES[name] if word != thing.words[name]]
    return choose([other for other in others if other.held_out == thing.held_out], dice)
