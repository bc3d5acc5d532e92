"""Macro F1 against scikit-learn, the worst part of the items against a naive loop, and how often intervals hold."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.distributed import World
from tercet.eval.average import Average
from tercet.eval.classification.classified import Classified, class_vectors
from tercet.eval.classification.zero_shot import ZeroShotTask
from tercet.eval.compare import compare
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.measure import results
from tercet.eval.ranking.ranking import TIE
from tercet.eval.statistics.intervals import Estimate
from tercet.eval.statistics.weighted_shares import macro_f1, worst_share
from tercet.eval.tables.table import table_text
from tercet.eval.task import TaskGroup
from tercet.eval.trust.null_models import random_text
from tercet.eval.trust.self_test import QUICK, self_test
from tests.eval.test_eval_intervals import LEAST, coverage, rand

ITEMS, DIM = 120, 16
NAMES = tuple(f"class {letter}" for letter in "abcdefgh")
TASK = ZeroShotTask(
    kind="zero_shot", name="letters", title="Letters", what="letter", classes={name: name for name in NAMES},
    templates=("a {class}",), by="region", further=("macro F1",),
)  # fmt: skip
REGIONS = ("Asia",) * 5 + ("Europe",) * 5 + ("Oceania",) * 3 + ("Africa",) * 2
WORST = "letter from image, worst region"
embed_text = random_text(DIM, seed=5)


def table(noise: float = 0.35) -> EmbeddingTable:
    """Items near their class; classes and regions are unequally frequent, and the last class has no item."""
    random = torch.Generator().manual_seed(0)
    label = (torch.rand(ITEMS, generator=random).square() * 7).long()
    region = torch.randint(len(REGIONS), (ITEMS,), generator=random)
    samples = tuple(
        Sample(str(n), n, n, meta={"label": NAMES[int(label[n])], "region": REGIONS[int(region[n])]})
        for n in range(ITEMS)
    )
    apart = noise * torch.randn(ITEMS, DIM, generator=random)
    image = F.normalize(class_vectors(embed_text, TASK)[label] + apart, dim=1)
    return EmbeddingTable({"image": image}, {"image": torch.arange(ITEMS)}, samples)


DATA = table()
SCORES = DATA.vectors["image"].double() @ class_vectors(embed_text, TASK).double().T
LABEL = torch.tensor([NAMES.index(str(sample.meta["label"])) for sample in DATA.samples])


def test_macro_f1_equals_that_of_scikit_learn() -> None:
    """Over the classes that an item has, as WILDS takes it: the last class has no item, but some answers."""
    guess = SCORES.argmax(dim=1)
    assert (guess == 7).any()
    assert not (LABEL == 7).any()
    measures = TASK.measure(DATA, embed_text, EvalConfig())
    found = next(one for one in results(measures) if one.name == "letter from image macro F1")
    assert found.value == pytest.approx(f1_score(LABEL, guess, average="macro", labels=LABEL.unique()))
    shares = LABEL.bincount().double() / ITEMS
    assert found.chance == pytest.approx(float((2 * shares / (8 * shares + 1)).mean()))
    assert found.low < found.value < found.high  # type: ignore[operator]
    plain = TASK.model_copy(update={"further": (), "by": None})
    assert [list(one.statistics) for one in plain.measure(DATA, embed_text, EvalConfig())] == [
        ["acc1", "mean_per_class_recall", "acc5"]
    ]


def test_an_item_that_several_wrong_classes_tie_for_is_an_answer_of_none() -> None:
    """Of four items, one is right, one ties between two wrong classes, one ties with its own class, one is wrong."""
    label, answers = torch.tensor([0, 0, 1, 1]), torch.tensor([0, -1, 0, 2])
    scores = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.5, 0.5], [0.7, 0.7, 0.1], [0.1, 0.2, 0.9]])
    place = (scores >= scores.gather(1, label[:, None]) - TIE).sum(dim=1)
    item = torch.arange(4)
    found = Classified("image", "x", item, item, label, scores, torch.eye(3), place, {}, World())
    assert found.answers().tolist() == answers.tolist()
    assert macro_f1(label, answers).value == pytest.approx((2 * 1 / (2 + 2) + 0) / 2)


def test_parts_and_the_worst_of_them_equal_a_naive_loop() -> None:
    measures = TASK.measure(DATA, embed_text, EvalConfig())
    found = {result.name: result for result in results(measures)}
    for k in (1, 5):
        hits: dict[str, list[bool]] = {}
        for item, sample in enumerate(DATA.samples):
            order = SCORES[item].argsort(descending=True).tolist()
            hits.setdefault(str(sample.meta["region"]), []).append(int(LABEL[item]) in order[:k])
        shares = {name: sum(each) / len(each) for name, each in hits.items()}
        for name, share in shares.items():
            of_part = found[f"letter from image, {name} acc{k}"]
            assert (of_part.value, of_part.n) == (pytest.approx(share), len(hits[name]))
        worst = found[f"{WORST} worst acc{k}"]
        assert worst.value == pytest.approx(min(shares.values()))
        assert shares[str(worst.metadata["worst"])] == min(shares.values())
        assert (worst.metadata["parts"], worst.n, worst.chance) == (4, ITEMS, pytest.approx(k / 8))
        assert worst.low < worst.value < worst.high  # type: ignore[operator]
    assert "worst top-1" in table_text(results(measures), width=160)
    assert {metric for one in measures for metric in one.statistics} == set(TASK.metrics)
    with pytest.raises(EvalError, match="has `by: country`, which is missing in the meta of sample `0`; add it"):
        TASK.model_copy(update={"by": "country"}).measure(DATA, embed_text, EvalConfig())


def test_an_average_takes_the_worst_part_and_macro_f1() -> None:
    measures = [replace(one, task="zero_shot_shape") for one in TASK.measure(DATA, embed_text, EvalConfig())]
    found = {result.name: result.value for result in results(measures)}
    group = TaskGroup(
        kind="group", name="g", tasks=("zero_shot_shape",), metrics={"d": "worst acc5", "e": "macro F1"}, average=True
    )
    mean = Average(group).of({"d": measures, "e": measures[:1]})
    assert mean is not None
    expected = (found[f"{WORST} worst acc5"] + found["letter from image macro F1"]) / 2
    assert mean.statistics["average"].value == pytest.approx(expected)


def test_two_models_are_compared_by_their_own_worst_part_and_their_own_answers() -> None:
    both = [TASK.measure(one, embed_text, EvalConfig()) for one in (DATA, table(noise=0.6))]
    apart = {(one.subject, one.metric): one for one in compare(*both)}
    scored = [{(one.subject, one.metric): one.value for one in results(measures)} for measures in both]
    for key in (("letter from image", "macro F1"), (WORST, "worst acc1")):
        assert apart[key].apart.value == pytest.approx(scored[1][key] - scored[0][key])
        assert apart[key].apart.low < apart[key].apart.value < apart[key].apart.high
    assert {one.verdict for one in compare(both[0], both[0])} == {"undecided"}


def test_models_that_learned_nothing_score_what_they_must() -> None:
    checks = self_test(DATA, [TASK], QUICK)
    assert [check for check in checks if not check.holds] == []
    for metric in ("macro F1", "worst acc1"):
        judged = {check.model for check in checks if check.metric == metric}
        assert judged == {"constant", "random", "shuffled", "reordered"}
    assert {one.scored for one in checks if (one.model, one.metric) == ("constant", "macro F1")} == {0.0}


@pytest.mark.parametrize(
    ("recalls", "frequencies"),
    [((0.6, 0.9), (0.5, 0.5)), ((0.05, 0.95), (0.1,) * 10), ((0.0, 0.02), (0.1,) * 10)],
    ids=["2 classes", "10 classes", "near zero"],
)
def test_the_interval_of_macro_f1_covers_the_truth(
    recalls: tuple[float, float], frequencies: tuple[float, ...]
) -> None:
    """A wrong answer is any of the other classes. The truth is the mean over the classes seen."""
    classes, share_K = len(frequencies), torch.tensor(frequencies).double()
    recall_K = torch.linspace(*recalls, classes).double()
    wrong_KK = ((1 - recall_K) * share_K)[:, None] / (classes - 1) * (1 - torch.eye(classes))
    f1_K = 2 * recall_K * share_K / (share_K + recall_K * share_K + wrong_KK.sum(dim=0))

    def draw(generator: torch.Generator, items: int) -> tuple[Estimate, float]:
        label = torch.multinomial(share_K, items, replacement=True, generator=generator)
        other = (label + torch.randint(1, classes, (items,), generator=generator)) % classes
        answer = torch.where(rand(generator, items) < recall_K[label], label, other)
        return macro_f1(label, answer).estimate(torch.arange(items)), float(f1_K[label.unique()].mean())

    for items in (29, 300):
        assert coverage(partial(draw, items=items)) >= LEAST, items


PARTS = [(0.5,) * 5, (0.95,) * 12, (0.3, 0.5, 0.6, 0.7), (0.0, 0.0, 0.3)]


def in_parts(shares: tuple[float, ...], items: int) -> tuple[Tensor, Tensor]:
    """The part of each query, and how often it is right."""
    part_Q = torch.arange(len(shares)).repeat_interleave(items)
    return part_Q, torch.tensor(shares)[part_Q]


@pytest.mark.parametrize("shares", PARTS, ids=["equal", "many", "apart", "none right"])
def test_the_interval_of_the_worst_part_covers_the_truth(shares: tuple[float, ...]) -> None:
    """The lowest share found is too low on average where several parts are as bad."""

    def draw(generator: torch.Generator, items: int) -> tuple[Estimate, float]:
        part_Q, share_Q = in_parts(shares, items)
        found = worst_share(rand(generator, len(part_Q)) < share_Q, part_Q)
        return found.estimate(torch.arange(len(part_Q))), min(shares)

    for items in (5, 100):
        assert coverage(partial(draw, items=items)) >= LEAST, items


@pytest.mark.parametrize(
    ("first", "second"), [(PARTS[0], PARTS[0]), (PARTS[2], (0.5, 0.4, 0.6, 0.7))], ids=["equal", "apart"]
)
def test_the_interval_of_the_difference_of_worst_parts_covers_the_truth(
    first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    """Four items in five are as hard for one model as for the other; the worst parts of the models may be different."""

    def draw(generator: torch.Generator, items: int) -> tuple[Estimate, float]:
        (part_Q, first_Q), (_, second_Q) = in_parts(first, items), in_parts(second, items)
        hard_Q, own_Q = rand(generator, len(part_Q)), rand(generator, len(part_Q))
        other_Q = torch.where(rand(generator, len(part_Q)) < 0.8, hard_Q, own_Q)
        found = worst_share(hard_Q < first_Q, part_Q)
        apart = found.difference(worst_share(other_Q < second_Q, part_Q), torch.arange(len(part_Q)))
        return apart, min(first) - min(second)

    assert coverage(partial(draw, items=100)) >= LEAST
