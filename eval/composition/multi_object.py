"""Scenes with several objects: which of them a model sees and reads, by their place in the caption and their size.

After ComCO (Abbasi et al., 2025), which found that text encoders favour the object that is mentioned first, image
encoders the larger one, and that matching suffers when the caption names the objects in another order. Each object of
a scene is a query. Another object, drawn from those of the whole dataset, takes its place in wrong captions. ComCO
searches among the names or the pictures of all objects, trains a classifier, or puts every other object in the place of
one; here an object is compared with one other, so that the score of chance is known for scenes of any size.

- `object found`: the object's own name scores higher than the name of the other.
- `nearest`: its name scores higher than those of all other objects of the scene. Over the places or sizes of a scene
  these shares add up to at most 1: a model without a preference is at chance.
- `matched`: the caption of the scene scores higher than the same caption with the other object in this place.
- `matched permuted`: the same object is exchanged in captions that name the objects in reverse order.

The caption is an anchor as well: its rows have the first two of these.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from tercet.data_pipelines.captions.templates import agree
from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.seeding import keyed
from tercet.eval.composition.case_measures import measured, some, text_alone
from tercet.eval.composition.comparisons import Case, Reference, chance, hold
from tercet.eval.composition.right_and_wrong import filled
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.task import KINDS, NoValue, WordedTask, lookup

IN_MEDIA = ("object found", "nearest", "matched", "matched permuted")
IN_TEXT = IN_MEDIA[:2]


@KINDS.register("multi_object")
class MultiObjectTask(WordedTask):
    """Which objects of a scene a model finds, by their place in the caption and their size."""

    objects: str = Field("objects", description="where the list of objects is in `meta`, in the order of the caption")
    template: str = Field("a {colour} {shape}", description="the name of an object; slots are its keys")
    joint: str = Field(" and ", description="what joins the names in a caption")
    size: str | None = Field(
        "size",
        description="the key of an object's size: a word, or a number such as its area, of which only the largest "
        "counts; null: only places are compared",
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        return IN_MEDIA

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return multi_object(table, embed_text, self)


class Scene(NamedTuple):
    """The names of its objects, in the order of the caption, their sizes, and what takes the place of each."""

    names: tuple[str, ...]
    sizes: tuple[str, ...]
    others: tuple[str, ...]


def multi_object(table: EmbeddingTable, embed_text: TextEmbedder, task: MultiObjectTask) -> list[Measure]:
    """For every modality that the task uses, and for text: by place, then by size."""
    scenes = _scenes(table, task)
    measures = []
    for modality in task.used_modalities(table):
        anchors = {item: (modality, row) for item, row in table.first_rows(modality).items() if item in scenes}
        measures += _measured(table, embed_text, task, modality, {item: scenes[item] for item in anchors}, anchors)
    captions = {item: agree(task.joint.join(scene.names)) for item, scene in scenes.items()}
    return measures + _measured(table, embed_text, task, "text", scenes, captions)


def _scenes(table: EmbeddingTable, task: MultiObjectTask) -> dict[int, Scene]:
    """The scenes with several objects, no two of which have the same name."""
    named = {item: found for item, sample in enumerate(table.samples) if (found := _named(sample, task))}
    pool = sorted({name for names, _ in named.values() for name in names})
    scenes = {}
    for item, (names, sizes) in named.items():
        free = [name for name in pool if name not in names]
        if free:
            dice = keyed("objects that take the place of others", 0, item=table.samples[item].id)
            others = tuple(free[at] for at in dice.integers(len(free), size=len(names)).tolist())
            scenes[item] = Scene(names, sizes, others)
    if not scenes:
        raise EvalError(
            f"task `{task.name}` needs samples with several different objects, as a list `{task.objects}` in their "
            f"`.json` whose entries have what `{task.template}` names"
        )
    return dict(sorted(scenes.items()))


def _named(sample: Sample, task: MultiObjectTask) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names of a scene's objects and their sizes. None unless the scene has several different objects."""
    try:
        listed = lookup(sample.meta, task.objects)
        objects = listed if isinstance(listed, list) else []
        names = tuple(agree(filled(task.template, one)) for one in objects)
        sizes = _sizes([lookup(one, task.size) for one in objects]) if task.size else ()
    except NoValue:
        return None
    return (names, sizes) if 1 < len(names) == len(set(names)) else None


def _sizes(values: Sequence[object]) -> tuple[str, ...]:
    """The sizes as words: of numbers, `largest` and `smaller`."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        return tuple(map(str, values))
    return tuple("largest" if number == max(numbers) else "smaller" for number in numbers)


def _cases(item: int, place: int, scene: Scene, anchor: Reference, joint: str) -> Mapping[str, Case]:
    """What one object of a scene is compared with, by metric."""
    own, other = scene.names[place], scene.others[place]
    names = list(scene.names)
    wrong = [*names[:place], other, *names[place + 1 :]]

    def case(right: str, *against: str) -> Case:
        return Case(item, "", (anchor,), (right,), against)

    return {
        "object found": case(own, other),
        "nearest": case(own, *(name for name in names if name != own)),
        "matched": case(joint.join(names), joint.join(wrong)),
        "matched permuted": case(joint.join(names[::-1]), joint.join(wrong[::-1])),
    }


def _measured(
    table: EmbeddingTable,
    embed_text: TextEmbedder,
    task: MultiObjectTask,
    modality: str,
    scenes: Mapping[int, Scene],
    anchors: Mapping[int, Reference],
) -> list[Measure]:
    metrics = IN_TEXT if modality == "text" else IN_MEDIA
    queries = [(item, place) for item, scene in scenes.items() for place in range(len(scene.names))]
    if not queries:
        return []
    compared = [_cases(item, place, scenes[item], anchors[item], task.joint) for item, place in queries]
    by_metric = {metric: [cases[metric] for cases in compared] for metric in metrics}
    holds = {metric: hold(cases, "accuracy", table, embed_text) for metric, cases in by_metric.items()}
    chances = {metric: chance(cases, "accuracy") for metric, cases in by_metric.items()}
    blind = text_alone(table, by_metric[metrics[0]])
    return [
        measured(
            table,
            f"{modality}, {row}",
            [item for (item, _), kept in zip(queries, chosen_Q.tolist(), strict=True) if kept],
            {metric: held_Q[chosen_Q] for metric, held_Q in holds.items()},
            {metric: chance_Q[chosen_Q] for metric, chance_Q in chances.items()},
            some(blind, chosen_Q),
        )
        for row, chosen_Q in _rows(queries, scenes)
    ]


def _rows(queries: Sequence[tuple[int, int]], scenes: Mapping[int, Scene]) -> Iterator[tuple[str, Tensor]]:
    """The queries of each place, and of each size."""
    places = [f"place {place + 1}" for _, place in queries]
    sizes = [scenes[item].sizes[place] if scenes[item].sizes else "" for item, place in queries]
    for names in (places, sizes):
        for name in sorted(set(names) - {""}):
            yield name, torch.tensor([one == name for one in names])
