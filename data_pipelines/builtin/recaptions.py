"""Captions made anew from a scene: a short one and a long one, as models write them, and several that are graded.

Mistakes replace facts by others of the scene's own split, so that training never mentions the held-out pairings.
"""

from functools import cache

from tercet.data_pipelines.builtin.captions import captions, join, speaker
from tercet.data_pipelines.builtin.facts import Fact, facts, mistaken, relevance, with_wrong
from tercet.data_pipelines.builtin.scene import Scene, Thing
from tercet.data_pipelines.builtin.vocabulary import PREPOSITION
from tercet.data_pipelines.captions.templates import agree, choose

MEDIA = ("a picture of {}", "an image of {}", "a drawing of {}")
COUNTS = ("There is one object.", "There are two objects.", "There are three objects.")
OPENINGS = ("Here is a {}.", "There is a {}.", "We find a {}.")
SURFACES = ("The {} is {}.", "The surface of the {} is {}.")
RELATIONS = ("The {} is {} the {}.", "We find the {} {} the {}.")


def synthetic(scene: Scene, wrong: float) -> str:
    """The shape and the colour of every object. In a share `wrong` of the captions, one of them is another."""
    dice = scene.stream("synthetic")
    coarse = [fact for fact in facts(scene) if fact[1] in ("shape", "colour")]
    told = mistaken(scene, [choose(coarse, dice)], dice) if dice.random() < wrong else scene
    names = [f"a {thing.colour} {thing.shape}" for thing in told.objects]
    return choose(MEDIA, dice).format(join(names, "and", "and {}"))


def sentences(scene: Scene, wrong: float) -> list[str]:
    """How many objects there are, every attribute of each, and the relation. Each sentence can be read alone.

    A share `wrong` of the sentences has one wrong fact.
    """
    dice = scene.stream("long")
    say = cache(speaker(dice))

    def told(*states: Fact) -> Scene:
        return mistaken(scene, [choose(states, dice)], dice) if dice.random() < wrong else scene

    def name(thing: Thing) -> str:
        return f"{say(thing.size)} {say(thing.colour)} {say(thing.shape)}"

    right = COUNTS[len(scene.objects) - 1]
    written = [choose([count for count in COUNTS if count != right], dice) if dice.random() < wrong else right]
    for place, thing in enumerate(scene.objects):
        seen = told((place, "size"), (place, "colour"), (place, "shape")).objects[place]
        surface = say(told((place, "texture")).objects[place].texture)
        written.append(choose(OPENINGS, dice).format(name(seen)))
        written.append(choose(SURFACES, dice).format(name(thing), surface))
    if scene.relation:
        between = say(PREPOSITION[told((0, "relation")).relation or ""])
        written.append(choose(RELATIONS, dice).format(name(scene.objects[0]), between, name(scene.objects[1])))
    return [agree(sentence) for sentence in written]


def graded(scene: Scene, grades: int) -> list[dict[str, object]]:
    """Captions with more and more wrong facts, from none to all. The first has the highest grade, the last has 0."""
    dice = scene.stream("graded")
    worst = grades - 1
    told = [with_wrong(scene, round(rank * len(facts(scene)) / worst), dice) for rank in range(grades)]
    return [
        {"text": choose(captions(other), dice), "grade": worst - rank, "relevance": relevance(other, scene)}
        for rank, other in enumerate(told)
    ]
