"""The captions of a scene in many wordings, and wrong captions: in the wording of the first, and in all of them.

Objects are named in the order of the scene, which is the order of their sounds. The first caption of a scene names
every attribute and the relation in canonical words, unless the scene is generic: then all captions leave something out.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tercet.data_pipelines.builtin.scene import Scene, Thing
from tercet.data_pipelines.builtin.vocabulary import ATTRIBUTES, OPPOSITE, PREPOSITION, SYNONYMS
from tercet.data_pipelines.captions.negatives import Things, replacements, swaps
from tercet.data_pipelines.captions.templates import agree, choose, reword

CAPTIONS = 4  # per scene
SYNONYM_SHARE = 0.4
SHORTENED = 1 / 3  # of the rewrites

FULL = "{size} {texture} {colour} {shape}"
THINGS = (
    FULL,
    FULL,
    "{size} {colour} {texture} {shape}",
    "{texture} {size} {colour} {shape}",
    "{colour} {shape} that is {size} and {texture}",
)
FRAMES = ("{}", "there is {}", "this is {}", "here is {}", "what we have is {}")
JOINTS = ("and {}", "together with {}", "as well as {}", "and also {}")
VAGUE = (
    "{shape}",
    "{colour} {shape}",
    "{colour} thing",
    "{texture} {shape}",
    "{size} {shape}",
    "{size} {texture} thing",
    "{texture} {colour} thing",
    "{size} thing",
    "{texture} thing",
)

Say = Callable[[str], str]


def captions(scene: Scene) -> list[str]:
    dice = scene.stream("captions")
    if scene.generic:
        return [_vague(scene, dice) for _ in range(CAPTIONS)]
    return [describe(scene.objects, scene.relation), *(_paraphrase(scene, dice) for _ in range(CAPTIONS - 1))]


def negatives(scene: Scene) -> list[dict[str, str]]:
    """One wrong caption of each kind that the scene allows, in canonical words."""
    wrong = wrong_scenes(scene)
    return [{"kind": kind, "text": describe(other.objects, other.relation)} for kind, other in wrong.items()]


def wrong_captions(scene: Scene) -> list[str]:
    """The same in the wordings of the scene's own captions, so that only what they say tells them apart.

    What a generic caption leaves out may be what is wrong, so a generic scene has none.
    """
    wrong = {} if scene.generic else wrong_scenes(scene)
    return [caption for other in wrong.values() for caption in captions(other)]


def contrasts(scene: Scene, most: int | None = None) -> list[str]:
    """One wording of each wrong scene, drawn from those of its first `most` captions. A generic scene has none."""
    dice = scene.stream("contrasts")
    wrong = {} if scene.generic else wrong_scenes(scene)
    return [choose(captions(other)[:most], dice) for other in wrong.values()]


def rewrites(scene: Scene, count: int) -> list[str]:
    """Further wordings, of which about a third leave attributes out; those of a generic scene all do."""
    dice = scene.stream("rewrites")
    shortened = [scene.generic or dice.random() < SHORTENED for _ in range(count)]
    return [_vague(scene, dice) if short else _paraphrase(scene, dice) for short in shortened]


def wrong_scenes(scene: Scene) -> dict[str, Scene]:
    """By kind: `swapped`, `replaced`, `relation`.

    They use only pairings of the scene's own split, so that training never mentions the held-out pairings.
    """
    dice = scene.stream("negatives")
    things: Things = tuple(thing.words for thing in scene.objects)
    held_out = scene.objects[0].held_out

    def allowed(thing: object) -> bool:
        return Thing(**thing).held_out == held_out  # type: ignore[arg-type]

    options = {"swapped": swaps(things, allowed), "replaced": replacements(things, ATTRIBUTES, allowed)}
    wrong = {
        kind: replace(scene, objects=tuple(Thing(**thing) for thing in choose(found, dice)))
        for kind, found in options.items()
        if found
    }
    if scene.relation:
        wrong["relation"] = replace(scene, relation=OPPOSITE[scene.relation])
    return wrong


def describe(objects: tuple[Thing, ...], relation: str | None) -> str:
    """Every attribute and the relation in canonical words."""
    return join([f"a {FULL.format(**thing.words)}" for thing in objects], PREPOSITION.get(relation or ""), "and {}")


def _paraphrase(scene: Scene, dice: np.random.Generator) -> str:
    say = speaker(dice)
    template = choose(THINGS, dice)
    names = [_name(thing, template, say) for thing in scene.objects]
    return choose(FRAMES, dice).format(join(names, _between(scene, say), choose(JOINTS, dice)))


def _vague(scene: Scene, dice: np.random.Generator) -> str:
    say = speaker(dice)
    template = choose(VAGUE, dice)
    between = _between(scene, say) if dice.random() < 0.5 else "and"
    return join([_name(thing, template, say) for thing in scene.objects], between, "and {}")


def speaker(dice: np.random.Generator) -> Say:
    return lambda word: reword(word, SYNONYMS, SYNONYM_SHARE, dice)


def _between(scene: Scene, say: Say) -> str | None:
    return say(PREPOSITION[scene.relation]) if scene.relation else None


def _name(thing: Thing, template: str, say: Say) -> str:
    return "a " + template.format(**{name: say(word) for name, word in thing.words.items()})


def join(names: list[str], between: str | None, joint: str) -> str:
    first = f" {between} ".join(names[:2])
    return agree(" ".join([first, *(joint.format(name) for name in names[2:])]))
