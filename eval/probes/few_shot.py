"""Few-shot classification: each item is assigned to a class of which only a few examples are known.

An episode draws `ways` classes, `shots` examples of each, and up to `queries` other items of each. The `method` learns
the classes from the examples (`few_shot_methods.py`). A tie is wrong.

Adapters have settings. If there are several to try, one is chosen on a validation part of the items, a fifth of the
groups, which no test episode uses: the examples are drawn from the other items, and the validation part gives the
queries, as Tip-Adapter does on all datasets but ImageNet. The choice is made once for each number of shots, by the mean
accuracy of `VALIDATED` episodes.

Episodes are the independent observations of the intervals. They draw from the same items, so an interval is that of the
accuracy on these items, not on new ones. Of the items of one group, such as one picture with several captions, one is
used. The draws are the same for every model, and for any order of the table.

Shapes: Q queries, W classes of an episode, S examples of each, D dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from tercet.configs.base import Misfit
from tercet.data_pipelines.seeding import keyed
from tercet.eval.classification.classified import class_vectors
from tercet.eval.classification.published_words import Classes, Templates
from tercet.eval.classification.zero_shot import PROMPTS, ZeroShotTask
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.measure import Measure
from tercet.eval.null_scores import NullScores, best_answer
from tercet.eval.probes.few_shot_methods import GRID, STEPS, Method, Setting, Shown, scores, settings
from tercet.eval.probes.labelled import Labelled, LabelledTask, labelled, place_of_right
from tercet.eval.probes.splits import dealt
from tercet.eval.products import device_for
from tercet.eval.statistics.intervals import EpisodeShare
from tercet.eval.task import KINDS

VALIDATION, VALIDATED = 5, 8  # one in so many groups; episodes at most
FEW, SOME = 2, 20  # episodes and steps of a self-test; episodes, if they are quick
NAMES = {"alpha": "α", "beta": "β"}  # keys of the task, and settings of the methods
Rows = Mapping[str, Sequence[int]]  # places of items by class


def _listed(given: Any) -> Any:
    return (given,) if isinstance(given, int | float) else given


Values = Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(_listed)]


@KINDS.register("few_shot")
class FewShotTask(LabelledTask):
    """Assigns each item to a class of which a few examples are known."""

    method: Method = Field(
        "prototypes",
        description="prototypes: the nearest mean of examples; transport: after optimal transport to the queries; "
        "tip_adapter and clip_adapter: prompts, corrected by the examples",
    )
    ways: int | None = Field(5, gt=1, description="classes of an episode; null: all classes")
    shots: Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(_listed)] = Field(
        (1,), min_length=1, description="examples of each class: a number, or several such as [1, 2, 4, 8, 16]"
    )
    queries: int = Field(15, gt=0, description="items of each class to assign, at most")
    episodes: int = Field(200, gt=1, description="how many episodes are drawn")
    entropy: float = Field(0.05, gt=0, description="of `transport`: the higher, the more alike the prototypes become")
    steps: int = Field(STEPS, gt=0, description="of `clip_adapter`: steps of the optimizer in an episode")
    classes: Classes = Field(
        {},
        description="of adapters: the words of labels in prompts, or lists of packages as in `zero_shot`; a label that "
        "you leave out is used as it is",
    )
    templates: Templates = Field(
        (),
        description="of adapters: prompts with `{class}`, or a list of a package such as "
        "`open_clip:SIMPLE_IMAGENET_TEMPLATES`; empty: the usual one of the modality",
    )
    articles: bool = Field(
        True, description="of adapters: write `an` for `a` before a vowel; false: prompts word for word"
    )
    alpha: Values = Field((), description="of adapters: the values of α that are tried, or one value; empty: the usual")
    beta: Values = Field((), description="of `tip_adapter`: the same for β")

    @model_validator(mode="after")
    def _fits(self) -> "FewShotTask":
        for key, name in NAMES.items():
            if getattr(self, key) and name not in GRID[self.method]:
                raise Misfit(key, f"is a setting of another method than `{self.method}`; leave it out")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc1",)

    @property
    def adapts(self) -> bool:
        """Whether the method needs prompts."""
        return bool(GRID[self.method])

    @property
    def tried(self) -> list[Setting]:
        """The settings of which one is chosen on a validation part, if there are several."""
        return settings(self.method, {name: getattr(self, key) for key, name in NAMES.items()})

    def lighter(self) -> "FewShotTask":
        episodes = min(self.episodes, FEW if self.adapts else SOME)
        return self.model_copy(update={"shots": self.shots[:1], "episodes": episodes, "steps": min(self.steps, FEW)})

    def measure(self, table: EmbeddingTable, embed_text: TextEmbedder, config: EvalConfig) -> list[Measure]:
        measures = []
        for modality in self.used_modalities(table):
            data = labelled(table, modality, self)
            text_KD = self._prompts(data, modality, embed_text) if self.adapts else None
            measures += [self._of(data, text_KD, modality, shots) for shots in self.shots]
        return measures

    def _prompts(self, data: Labelled, modality: str, embed_text: TextEmbedder) -> Tensor:
        """The vector of each class of the data."""
        words = {label: self.classes.get(label, label.replace("_", " ")) for label in data.classes}
        templates = self.templates or PROMPTS.get(modality, ("{class}",))
        task = ZeroShotTask(
            kind="zero_shot",
            name=self.name,
            title=self.title,
            what=self.what,
            classes=words,
            templates=templates,
            articles=self.articles,
        )
        return class_vectors(embed_text, task).double()

    def _of(self, data: Labelled, text_KD: Tensor | None, modality: str, shots: int) -> Measure:
        held_n, tried = torch.zeros(len(data.samples), dtype=torch.bool), self.tried
        if len(tried) > 1:
            held_n = dealt(data.samples, data.labels_n, data.groups_n, VALIDATION) == 0
        pool = classes_of(data, ~held_n)
        ways = self._ways(pool, modality, shots)
        chosen = tried[0]
        if len(tried) > 1:
            chosen = self._best(data, text_KD, list(self._validation(pool, classes_of(data, held_n), ways, shots)))
        drawn = list(episodes(pool, ways, shots, self.queries, self.episodes))
        hits = torch.cat([self._hits(data, text_KD, one, chosen) for one in drawn])
        numbers = torch.cat([torch.full_like(one.class_Q, number) for number, one in enumerate(drawn)])
        class_Q = torch.cat([one.class_Q for one in drawn])
        items = data.items_n[torch.cat([one.query_Q for one in drawn])]
        notes: dict[str, object] = {"ways": ways, "shots": shots, "method": self.method}
        if self.adapts:
            notes["chosen"] = ", ".join(f"{name} = {value:g}" for name, value in chosen.items())
        several = f", {shots} shot{'s' * (shots > 1)}" if len(self.shots) > 1 else ""
        subject, chance = f"{self.what} from {modality}{several}", {"acc1": 1 / ways}
        nulls = NullScores(
            {"acc1": 0.0},  # all tie
            {**chance},
            {"acc1": best_answer(class_Q, numbers)},
            {"acc1": 1.0} if self.method == "prototypes" else {},
        )
        statistics = {"acc1": EpisodeShare(hits)}
        return Measure(subject, statistics, items, numbers, chance, notes, observed="episodes", nulls=nulls)

    def _validation(self, pool: Rows, held: Rows, ways: int, shots: int) -> Iterator["Episode"]:
        """Episodes of the classes that have an item in the validation part."""
        known = {name: places for name, places in pool.items() if held[name] and len(places) > shots}
        if len(known) < 2:
            raise EvalError(
                f"task `{self.name}` has too few samples to choose the settings of `{self.method}`; add some, or lower "
                "`shots`"
            )
        return episodes(known, min(ways, len(known)), shots, self.queries, min(VALIDATED, self.episodes), held)

    def _best(self, data: Labelled, text_KD: Tensor | None, tried: Sequence["Episode"]) -> Setting:
        """The setting with the highest mean accuracy. Of equals, the first."""

        def accuracy(setting: Setting) -> float:
            return sum(float(self._hits(data, text_KD, one, setting).double().mean()) for one in tried)

        return max(self.tried, key=accuracy)

    def _hits(self, data: Labelled, text_KD: Tensor | None, episode: "Episode", setting: Setting) -> Tensor:
        example_WSD, query_QD = data.vectors_nD[episode.example_WS], data.vectors_nD[episode.query_Q]
        text_WD = None if text_KD is None else text_KD[data.labels_n[episode.example_WS[:, 0]]]
        shown = Shown(example_WSD, query_QD, text_WD).to(device_for(query_QD, example_WSD.flatten(0, 1), data.world))
        found_QW = scores(self.method, shown, setting, self.entropy, self.steps).cpu()
        return place_of_right(found_QW, episode.class_Q) == 1

    def _ways(self, pool: Rows, modality: str, shots: int) -> int:
        enough = sum(len(places) > shots for places in pool.values())
        ways = enough if self.ways is None else self.ways
        if enough < max(ways, 2):
            raise EvalError(
                f"task `{self.name}` needs {max(ways, 2)} classes with {shots + 1} samples or more that have "
                f"{modality}, and the data have {enough}; lower `ways` or `shots`"
            )
        return ways


class Episode(NamedTuple):
    """Places of items: the examples of each class, the queries, and which class each of these has."""

    example_WS: Tensor
    query_Q: Tensor
    class_Q: Tensor


def classes_of(data: Labelled, kept_n: Tensor) -> Rows:
    """The kept items of each class: one of a group."""
    found: dict[str, dict[int, int]] = {name: {} for name in data.classes}
    for place in kept_n.nonzero().flatten().tolist():
        found[data.classes[int(data.labels_n[place])]].setdefault(int(data.groups_n[place]), place)
    return {label: list(places.values()) for label, places in found.items()}


def episodes(
    rows: Rows, ways: int, shots: int, queries: int, count: int, held: Rows | None = None
) -> Iterator[Episode]:
    """Episodes of classes that have more items than examples. With `held`, the queries are items of it."""
    names = sorted(name for name, places in rows.items() if len(places) > shots)
    for number in range(count):
        random = keyed("few-shot episodes" if held is None else "few-shot validation episodes", 0, number)
        examples, asked, answers = [], [], []
        for place, name in enumerate(random.choice(names, ways, replace=False).tolist()):
            drawn = random.permutation(rows[name]).tolist()
            mine = drawn[shots:] if held is None else random.permutation(held[name]).tolist()
            examples.append(drawn[:shots])
            asked += mine[:queries]
            answers += [place] * len(mine[:queries])
        yield Episode(torch.tensor(examples), torch.tensor(asked), torch.tensor(answers))
