"""Hard and false negatives of softmax objectives equal a loop over anchors and keys that autograd differentiates."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import Objective, build_term
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.kernel import Contrast, Pair, contrast
from tercet.models.losses.standalone import loss
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import check_objective, on_ranks
from tests.models.pair_problem import (
    GROUPS,
    Anchor,
    Case,
    Problem,
    assert_all_close,
    build,
    cwcl,
    decoupled,
    hard_negative,
    infonce,
    macl,
)

NAIVE = {"infonce": infonce, "decoupled": decoupled, "hard_negative": hard_negative, "macl": macl, "cwcl": cwcl}
Place = tuple[str, int]  # a key, a wrong caption or a row of the queue; wrong caption j is of item j


@dataclass(frozen=True)
class Filtered(Problem):
    """A problem, the options of its objective, and perhaps a guide, which knows neither wrong captions nor queue."""

    options: dict[str, Any]
    guide: Tensor | None

    @staticmethod
    def by(problem: Problem, options: dict[str, Any], guided: bool) -> "Filtered":
        random = torch.Generator().manual_seed(7)
        guide = normalize(torch.randn(2, len(problem.x), 4, generator=random, dtype=torch.float64), dim=2)
        return Filtered(**vars(problem), options=options, guide=guide if guided else None)

    def pair(self, tile: int, world: World) -> Pair:
        pair = super().pair(tile, world)
        if self.guide is None:
            return pair
        x, y = (
            replace(rows, extra={**rows.extra, "guide": z})
            for rows, z in zip((pair.x, pair.y), self.guide, strict=True)
        )
        return replace(pair, x=x, y=y)

    def anchor(self, first: bool, i: int, anchors: Tensor, keys: Tensor, *rest: Any) -> Anchor:
        """With the negatives that are left, and a weight on some of their logits."""
        plain = super().anchor(first, i, anchors, keys, *rest)
        places = [("key", j) for j in range(len(keys)) if j != i and self.groups[j] != self.groups[i]]
        if first:
            places += [("wrong", j) for j in range(len(self.wrong))]
        else:
            places += [("queue", j) for j in range(len(self.queue)) if self.queue_groups[j] != self.groups[i]]
        logits = [logit + self.weight(first, i, place) for logit, place in zip(plain.others, places, strict=True)]
        left = [n for n, place in enumerate(places) if place[0] == "wrong" or not self.drops(first, i, place)]
        by_logit = sorted((n for n in left if places[n][0] != "wrong"), key=lambda n: -float(logits[n].detach()))
        easy = by_logit[self.options.get("top_k", len(logits)) :]
        left = [n for n in left if n not in easy]
        also = {
            name: [getattr(plain, name)[n] for n in (0, *(n + 1 for n in left))] for name in ("likeness", "teacher")
        }
        return replace(plain, others=[logits[n] for n in left], **also)

    def weight(self, first: bool, i: int, place: Place) -> float:
        kind, j = place
        own = kind == "wrong" and i == j
        weighed = {None: False, "in_batch_negatives": not own, "hard_negatives": own, "all_negatives": True}
        if not weighed[self.options.get("hardness_mode")]:
            return 0.0
        mine, theirs = (self.x, self.y) if first else (self.y, self.x)
        return float(self.options["hardness_strength"] * mine[i] @ self.row(theirs, place))

    def row(self, keys: Tensor, place: Place) -> Tensor:
        return {"key": keys, "wrong": self.wrong, "queue": self.queue}[place[0]][place[1]]

    def drops(self, first: bool, i: int, place: Place) -> bool:
        if self.guide is not None and place[0] == "queue":
            return False
        x, y = (self.x, self.y) if self.guide is None else self.guide
        mine, theirs = (x, y) if first else (y, x)
        key = self.row(theirs, place)
        compared = {"anchor-key": mine[i] @ key, "key-key": theirs[i] @ key}
        if place[0] == "key":
            compared["anchor-anchor"] = mine[i] @ mine[place[1]]
        own = float(mine[i] @ theirs[i])
        margin, most = self.options.get("margin"), self.options.get("max_similarity")
        if margin is None and most is None and self.guide is not None:
            margin = 0.0
        found = most is not None and float(compared["key-key"]) > most
        for name in self.options.get("margin_between", ["anchor-key"]):
            if margin is not None and name in compared:
                relative = self.options.get("margin_strategy") == "relative"
                found = found or float(compared[name]) > own - margin * (abs(own) if relative else 1.0)
        return found


OPTIONS: list[tuple[dict[str, Any], bool]] = [
    ({"hardness_mode": "in_batch_negatives", "hardness_strength": 9.0}, False),
    ({"hardness_mode": "hard_negatives", "hardness_strength": 5.0}, False),
    ({"hardness_mode": "all_negatives", "hardness_strength": 3.0}, False),
    ({"margin": -0.1, "top_k": 2}, False),
    ({"margin": 0.3, "margin_strategy": "relative"}, False),
    ({"max_similarity": 0.3}, False),
    ({"margin": 0.1, "margin_between": ["anchor-anchor", "key-key"]}, False),
    ({}, True),
    (
        {"margin": 0.05, "margin_strategy": "relative", "margin_between": ["anchor-key", "anchor-anchor", "key-key"]},
        True,
    ),
    ({"max_similarity": 0.2, "top_k": 3, "hardness_mode": "all_negatives", "hardness_strength": 2.0}, True),
]


def named(found: Any) -> str:
    options, guided = found
    return " ".join([*(f"{key}={value}" for key, value in options.items()), *(["guide"] if guided else [])])


@pytest.mark.parametrize("options", OPTIONS, ids=named)
@pytest.mark.parametrize("name", NAIVE)
def test_loss_and_gradients_equal_a_loop_in_every_tiling(name: str, options: tuple[dict[str, Any], bool]) -> None:
    for groups in (GROUPS["groups"], GROUPS["one group"]):
        problem = Filtered.by(Problem.of(groups, extra=True), *options)
        expected = problem.naively(Case(name, NAIVE[name]))
        for tile in (1, 4, 100):
            assert_all_close(problem.solve(build(name, **options[0]), tile), expected)


def test_the_options_change_the_loss() -> None:
    """Or the loops of the other tests say nothing."""
    problem = Problem.of(GROUPS["groups"], extra=True)
    plain = float(problem.solve(InfoNCE(), 4)[0])
    found = {named(one): float(Filtered.by(problem, *one).solve(build("infonce", **one[0]), 4)[0]) for one in OPTIONS}
    assert all(abs(value - plain) > 1e-3 for value in found.values()), (plain, found)
    assert len({round(value, 6) for value in found.values()}) == len(OPTIONS)


def on_one_of_two(world: World, problem: Problem) -> list[list[Tensor]]:
    return [Filtered.by(problem, *one).solve(build(name, **one[0]), 4, world) for name in NAIVE for one in OPTIONS]


def test_two_processes_get_the_results_of_one() -> None:
    problem = Problem.of(GROUPS["groups"], extra=True)
    ranks = on_ranks(on_one_of_two, 2, problem)
    for alone, first, second in zip(on_one_of_two(World(), problem), *ranks, strict=True):
        assert_all_close([first[0], *map(torch.cat, zip(first[1:4], second[1:4], strict=True)), first[4]], alone)


@pytest.mark.parametrize("options", [one for one, guided in OPTIONS if not guided], ids=str)
def test_meets_the_contract_of_the_kernel(options: dict[str, Any]) -> None:
    check_objective("hard_negative", **options)


def solved(objective: Objective) -> Contrast:
    return contrast(objective, Problem.of(GROUPS["groups"], extra=True).pair(4, World()), World())


@pytest.mark.parametrize("mode", ["in_batch_negatives", "hard_negatives", "all_negatives"])
def test_a_strength_of_0_is_exactly_none_and_makes_no_weights(mode: str) -> None:
    objective = build("infonce", hardness_mode=mode, hardness_strength=0.0)
    plain, found = solved(InfoNCE()), solved(objective)
    for name in ("loss", "x_Ad", "y_Ad", "scale"):
        assert torch.equal(getattr(plain, name), getattr(found, name)), name
    assert objective.log_weights(None) is None  # type: ignore[arg-type]  # it does not look at the tile


def test_more_of_the_hardest_than_there_are_is_all_of_them() -> None:
    assert_all_close([solved(build("infonce", top_k=100)).loss], [solved(InfoNCE()).loss])


def test_keys_equal_to_the_own_key_are_dropped_in_any_rounding() -> None:
    """Three captions are the same, as are their vectors, and no group says so."""
    random = torch.Generator().manual_seed(0)
    x, y = normalize(torch.randn(2, 64, 48, generator=random), dim=2)
    x, y = x[:, None].expand(64, 3, 48).reshape(-1, 48), y[:, None].expand(64, 3, 48).reshape(-1, 48)
    objective, scale = loss("infonce", margin=0.0, tile=50), torch.tensor(5.0)
    guided = objective(image=x, text=normalize(x + 2 * y, dim=1), scale=scale)
    grouped = loss("infonce", margin=0.0)(
        image=x, text=normalize(x + 2 * y, dim=1), scale=scale, groups=torch.arange(64).repeat_interleave(3)
    )
    torch.testing.assert_close(guided, grouped)


def guided_masking(
    x: Tensor, y: Tensor, guide: Tensor, other: Tensor, scale: float, margin: float, relative: bool
) -> Tensor:
    """GISTEmbed's loss without its comparisons within a field, by whole matrices."""
    seen = guide @ other.T
    own = seen.diagonal()[:, None]
    false = seen > (own - own.abs() * margin if relative else own - margin)
    false.fill_diagonal_(False)
    return cross_entropy((scale * x @ y.T).masked_fill(false, -torch.inf), torch.arange(len(x)))


@pytest.mark.parametrize(("margin", "strategy"), [(0.0, "absolute"), (0.1, "absolute"), (0.05, "relative")])
def test_a_guide_is_that_of_gistembed(margin: float, strategy: str) -> None:
    random = torch.Generator().manual_seed(3)
    x, y, guide, other = normalize(torch.randn(4, 12, 6, generator=random, dtype=torch.float64), dim=2)
    expected = sum(
        guided_masking(*vectors, 20.0, margin, strategy == "relative") / 2
        for vectors in ((x, y, guide, other), (y, x, other, guide))
    )
    found = loss("infonce", margin=margin, margin_strategy=strategy)(
        image=x, text=y, scale=torch.tensor(20.0, dtype=torch.float64),
        extra={"image": {"guide": guide}, "text": {"guide": other}},
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_guide_of_one_field_only_is_refused() -> None:
    x, y = normalize(torch.randn(2, 4, 6), dim=2)
    with pytest.raises(UserError, match=r"the loss needs `guide` of text. Pass it: extra=\{'text': \{'guide': …\}\}"):
        loss("infonce")(image=x, text=y, scale=torch.tensor(5.0), extra={"image": {"guide": x}})


def test_a_strength_without_a_mode_is_refused() -> None:
    config = ObjectiveConfig.model_validate({"name": "infonce", "hardness_strength": 5.0})
    with pytest.raises(UserError, match=r"terms.image-text.objective.hardness_strength has no effect without"):
        build_term(TermConfig(between=("image", "text"), objective=config))


def test_the_reference_to_a_guide_is_optional() -> None:
    for name in ("infonce", "decoupled", "graded"):
        build_term(
            TermConfig(between=("image", "text"), objective=ObjectiveConfig(name=name), references={"guide": "g"})
        )
    sigmoid = TermConfig(
        between=("image", "text"), objective=ObjectiveConfig(name="sigmoid"), references={"guide": "g"}
    )
    with pytest.raises(UserError, match=r"terms.image-text.references: `sigmoid` uses no `guide`; remove it"):
        build_term(sigmoid)
