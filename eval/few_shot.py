"""Few-shot classification: each item is assigned to the nearest class, of which only a few examples are known.

An episode draws `ways` classes, `shots` examples of each, and up to `queries` other items of each. The prototype of a
class is the normalised mean of the unit vectors of its examples (Snell et al. 2017). A tie is wrong.

With few examples, a prototype is off the centre of its class. `acc1_aligned` first moves the prototypes to where the
queries are, as BECLR does (Poulakakis-Daktylidis and Jamali-Rad 2024): a plan transports prototypes to queries at the
least cost, and each prototype becomes the mean of the queries that it is sent to, normalised. Here the cost is
1 − cosine, and there is one pass. The plan sees all queries of an episode at once, but not their classes. All
prototypes send the same mass, so classes should have about as many queries each.

Episodes are the independent observations of the intervals. They draw from the same items, so an interval is that of the
accuracy on these items, not on new ones. Of the items of one group, such as one picture with several captions, one is
used.

Shapes: Q queries, W classes of an episode, S examples of each, D dimensions.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.data_pipelines.seeding import keyed
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.intervals import Share
from tercet.eval.labels import KEYS, plain
from tercet.eval.measure import Measure
from tercet.eval.ranking import rank
from tercet.eval.task import KINDS, WordedTask, entries, lookup
from tercet.eval.transport import transport_plan

ITERATIONS = 50  # of the transport plan


@KINDS.register("few_shot")
class FewShotTask(WordedTask):
    """Assigns each item to the nearest class, of which a few examples are known."""

    what: str = Field("class", description="what the classes are, such as `shape`")
    label: str | None = Field(
        None,
        description="where the class of an item is in its `meta`, such as `objects[0].shape`; null: its `label` or "
        "`class`",
    )
    count: dict[str, int] = Field(
        {}, description="only items whose list in `meta` has this many entries, such as `{objects: 1}`"
    )
    ways: int = Field(5, gt=1, description="classes of an episode")
    shots: int = Field(1, gt=0, description="examples of each class")
    queries: int = Field(15, gt=0, description="items of each class to assign, at most")
    episodes: int = Field(200, gt=1, description="how many episodes are drawn")
    entropy: float = Field(0.05, gt=0, description="of the aligned prototypes: the higher, the more alike they become")

    @property
    def metrics(self) -> tuple[str, ...]:
        return "acc1", "acc1_aligned"

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        return few_shot(table, self)

    def label_of(self, sample: Sample) -> str | None:
        """The class of a sample. None if it has none, or the task does not use such samples."""
        if self.label is None:
            return next((str(sample.meta[key]) for key in KEYS if sample.meta.get(key) is not None), None)
        try:
            if any(entries(sample.meta, path) != count for path, count in self.count.items()):
                return None
            return str(lookup(sample.meta, self.label))
        except (KeyError, IndexError, TypeError):
            return None


class Episode(NamedTuple):
    """Rows of the table: the examples of each class, the queries, and which class each of these has."""

    example_WS: Tensor
    query_Q: Tensor
    class_Q: Tensor


def few_shot(table: EmbeddingTable, task: FewShotTask) -> list[Measure]:
    """The accuracy with plain and with aligned prototypes, for every modality."""
    return [_measured(table, modality, task) for modality in task.used_modalities(table)]


def _measured(table: EmbeddingTable, modality: str, task: FewShotTask) -> Measure:
    rows = table.vectors[modality].double()
    plain_hits, aligned_hits, items, numbers = [], [], [], []
    for number, episode in enumerate(_episodes(table, modality, task)):
        query_QD = rows[episode.query_Q]
        prototype_WD = F.normalize(rows[episode.example_WS].mean(dim=1), dim=1)
        moved_WD = aligned(prototype_WD, query_QD, task.entropy)
        plain_hits.append(_hits(query_QD, prototype_WD, episode.class_Q))
        aligned_hits.append(_hits(query_QD, moved_WD, episode.class_Q))
        items.append(table.items[modality][episode.query_Q])
        numbers.append(torch.full_like(episode.class_Q, number))
    statistics = {"acc1": Share(torch.cat(plain_hits)), "acc1_aligned": Share(torch.cat(aligned_hits))}
    notes = {"ways": task.ways, "shots": task.shots, "episodes": task.episodes}
    chance = dict.fromkeys(statistics, 1 / task.ways)
    return Measure(f"{task.what} from {modality}", statistics, torch.cat(items), torch.cat(numbers), chance, notes)


def aligned(prototype_WD: Tensor, query_QD: Tensor, entropy: float) -> Tensor:
    """Each prototype becomes the normalised mean of the queries that the transport plan sends it to."""
    plan_WQ = transport_plan(1 - prototype_WD @ query_QD.T, entropy, ITERATIONS)
    return F.normalize(plan_WQ @ query_QD, dim=1)


def _hits(query_QD: Tensor, prototype_WD: Tensor, class_Q: Tensor) -> Tensor:
    return rank(query_QD, prototype_WD, class_Q, torch.arange(len(prototype_WD))).rank == 1


def _episodes(table: EmbeddingTable, modality: str, task: FewShotTask) -> Iterator[Episode]:
    """The episodes are the same for every model, and for any order of the table."""
    classes = {label: rows for label, rows in _classes(table, modality, task).items() if len(rows) > task.shots}
    if len(classes) < task.ways:
        raise EvalError(
            f"task `{task.name}` needs {task.ways} classes with more than {task.shots} samples that have {modality}, "
            f"and the data have {len(classes)}; lower `ways` or `shots`"
        )
    names = sorted(classes)
    for number in range(task.episodes):
        random = keyed("few-shot episodes", 0, number)
        examples, queries, answers = [], [], []
        for place, name in enumerate(random.choice(names, task.ways, replace=False).tolist()):
            drawn = random.permutation(classes[name])[: task.shots + task.queries].tolist()
            examples.append(drawn[: task.shots])
            queries += drawn[task.shots :]
            answers += [place] * len(drawn[task.shots :])
        yield Episode(torch.tensor(examples), torch.tensor(queries), torch.tensor(answers))


def _classes(table: EmbeddingTable, modality: str, task: FewShotTask) -> Mapping[str, list[int]]:
    """The rows of each class, by the ids of their samples: one row of a group. A group that is named like the class is
    the class, and its items count separately."""
    found: dict[str, dict[int, int]] = {}
    first_rows = table.first_rows(modality)
    for item in sorted(first_rows, key=lambda item: table.samples[item].id):
        sample = table.samples[item]
        label = task.label_of(sample)
        if label is not None:
            alone = plain(str(sample.meta.get("group", ""))) == plain(label)
            found.setdefault(label, {}).setdefault(-1 - sample.id if alone else sample.group, first_rows[item])
    return {label: list(rows.values()) for label, rows in found.items()}
