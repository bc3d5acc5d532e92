"""Small problems of pairs in fp64, and loops over anchors and keys that have the right answers by autograd."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.distributed import World
from tercet.models.losses import Objective, build_objective
from tercet.models.losses.kernel import KEPT, Contrast, Pair, contrast
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig

GROUPS = {
    "distinct": [0, 1, 2, 3, 4, 5, 6, 7, 8],
    "groups": [0, 1, 0, 2, 3, 3, 4, 0, 5],
    "one group": [3, 3, 3, 3],
    "one item": [7],
}


@dataclass(frozen=True)
class Anchor:
    """One anchor of a loop: its logits with its own key and with the keys that repel it, and their similarities.

    `likeness` has the cosines of its item and the items of its own key and of the others, in the anchor's field;
    `teacher` the teacher's of the anchor and these keys. Extra negatives have None.
    """

    first: bool
    own: Tensor
    others: list[Tensor]
    likeness: list[float | None]
    teacher: list[float | None]
    relational: list[float | None]
    cosines: list[float]  # of all positive pairs
    number: int

    @property
    def logits(self) -> list[Tensor]:
        return [self.own, *self.others]


def log_sum(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(logits)).exp().sum().log()


def cross_entropy_to(anchor: Anchor, weights: Sequence[float]) -> Tensor:
    total = anchor.own.new_zeros(())
    for weight, logit in zip(weights, anchor.logits, strict=True):
        total = total - weight / sum(weights) * (logit - log_sum(anchor.logits))
    return total


def infonce(anchor: Anchor, smoothing: float = 0.0) -> Tensor:
    even = smoothing / len(anchor.logits)
    return cross_entropy_to(anchor, [1 - smoothing + even, *[even for _ in anchor.others]])


def decoupled(anchor: Anchor, sigma: float | None = None) -> Tensor:
    if not anchor.others:
        return 0 * anchor.own
    weight = 1.0
    if sigma:
        raised = [math.exp(cosine / sigma) for cosine in anchor.cosines]
        weight = 2 - raised[anchor.number] / (sum(raised) / len(raised))
    return log_sum(anchor.others) - weight * anchor.own


def hard_negative(anchor: Anchor, alpha: float = 1.0, beta: float = 0.25) -> Tensor:
    if not anchor.others:
        return 0 * anchor.own
    raised = [math.exp(beta * float(logit.detach())) for logit in anchor.others]
    weights = [len(raised) * one / sum(raised) for one in raised]
    denominator = alpha * anchor.own.exp()
    for weight, logit in zip(weights, anchor.others, strict=True):
        denominator = denominator + weight * logit.exp()
    return denominator.log() - anchor.own


def macl(anchor: Anchor, alpha: float = 0.5, alignment: float = 0.0) -> Tensor:
    if not anchor.others:
        return 0 * anchor.own
    probability = anchor.own.exp() / log_sum(anchor.logits).exp()
    return -probability.log() / (1 - probability.detach())


def cwcl(anchor: Anchor, locked: str = "first", kernel: str = "linear", tau_w: float = 0.1) -> Tensor:
    if anchor.first != (locked == "first"):
        return infonce(anchor)
    weight = (lambda cos: (1 + cos) / 2) if kernel == "linear" else (lambda cos: math.exp((cos - 1) / tau_w))
    return cross_entropy_to(anchor, [0.0 if cosine is None else weight(cosine) for cosine in anchor.likeness])


def soft(anchor: Anchor, weight_soft: float = 0.5, temperature: float = 0.05, similarities: str = "cross") -> Tensor:
    cosines = anchor.teacher if similarities == "cross" else anchor.relational
    raised = [0.0 if cosine is None else math.exp(cosine / temperature) for cosine in cosines]
    return (1 - weight_soft) * infonce(anchor) + weight_soft * cross_entropy_to(anchor, raised)


def drrho(anchor: Anchor, reference_scale: float = 5.0) -> Tensor:
    """Each key weighs e^−(R_ij − R_ii), and one that the reference has not seen weighs 1."""
    own = anchor.teacher[0]
    assert own is not None
    excess = [0.0 if cosine is None else reference_scale * (cosine - own) for cosine in anchor.teacher]
    return log_sum([logit - one for logit, one in zip(anchor.logits, excess, strict=True)]) - anchor.own


@dataclass(frozen=True)
class Case:
    name: str
    naive: Callable[..., Tensor]
    options: dict[str, object] = field(default_factory=dict)

    @property
    def objective(self) -> Objective:
        return build(self.name, **self.options)

    def __repr__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def build(name: str, **options: object) -> Objective:
    return build_objective(ObjectiveConfig.model_validate({"name": name, **options}))


CASES = [
    Case("infonce", infonce, {"smoothing": 0.1}),
    Case("decoupled", decoupled),
    Case("decoupled", decoupled, {"sigma": 0.5}),
    Case("hard_negative", hard_negative),
    Case("hard_negative", hard_negative, {"alpha": 0.0, "beta": 1.0}),
    Case("hard_negative", hard_negative, {"alpha": 0.3, "beta": 0.0}),
    Case("macl", macl),
    Case("macl", macl, {"alpha": 1.0, "alignment": 0.2}),
    Case("cwcl", cwcl),
    Case("cwcl", cwcl, {"locked": "second", "kernel": "sharp", "tau_w": 0.3}),
    Case("soft", soft),
    Case("drrho", drrho),
    Case("drrho", drrho, {"reference_scale": 9.0}),
    Case("soft", soft, {"weight_soft": 1.0, "temperature": 0.2, "similarities": "relational"}),
]


@dataclass(frozen=True)
class Problem:
    """Pairs, trained wrong captions for the anchors of x, a frozen queue for those of y, and a teacher's vectors.

    The teacher knows the wrong captions, but not the queue. Rows of the queue spare the anchors of their own group.
    """

    x: Tensor
    y: Tensor
    wrong: Tensor
    queue: Tensor
    teacher: Tensor
    wrong_teacher: Tensor
    groups: Tensor
    queue_groups: Tensor
    scale: Tensor

    @staticmethod
    def of(groups: list[int], extra: bool, scale: float = 5.0) -> "Problem":
        random = torch.Generator().manual_seed(len(groups))

        def unit(*shape: int) -> Tensor:
            return normalize(torch.randn(*shape, generator=random, dtype=torch.float64), dim=-1)

        x, y = unit(2, len(groups), 6)
        rows = 5 if extra else 0
        queue_groups = torch.tensor([0, 50, 3, 51, 52][:rows])
        scale_1 = torch.tensor([scale], dtype=torch.float64)
        teacher, wrong_teacher = unit(2, len(groups), 4), unit(rows, 4)
        wrong, queue = unit(rows, 6), unit(rows, 6)
        return Problem(x, y, wrong, queue, teacher, wrong_teacher, torch.tensor(groups), queue_groups, scale_1)

    def pair(self, tile: int, world: World) -> Pair:
        def numbered(z: Tensor, teacher: Tensor, groups: Tensor | None) -> Rows:
            own = slice(*(len(z) * rank // world.size for rank in (world.rank, world.rank + 1)))
            return replace(Rows.numbered(z, own, groups), extra={"teacher": teacher})

        x, y = (numbered(z, of, self.groups) for z, of in zip((self.x, self.y), self.teacher, strict=True))
        if not len(self.wrong):
            return Pair(x, y, self.scale, None, tile)
        wrong = numbered(self.wrong, self.wrong_teacher, None).negatives(declared=True)
        queue = Rows.frozen(self.queue, self.queue_groups)
        return Pair(x, y, self.scale, None, tile, more_y=(wrong,), more_x=(queue,))

    def solve(self, objective: Objective, tile: int, world: World | None = None, kept: int = KEPT) -> list[Tensor]:
        pair = replace(self.pair(tile, world or World()), kept=kept)
        return parts(contrast(objective, pair, world or World()))

    def naively(self, case: Case) -> list[Tensor]:
        """The loss, and autograd's gradients of x, y, the wrong captions and the scale."""
        leaves = [value.clone().requires_grad_() for value in (self.x, self.y, self.wrong, self.scale)]
        x, y, wrong, scale = leaves
        cosines = (self.x * self.y).sum(dim=1).tolist()
        if case.name == "macl":
            options = {"alpha": 0.5, "alignment": 0.0, **case.options}
            alignment = sum(cosines) / len(cosines)
            scale = scale / (1 + options["alpha"] * (alignment - options["alignment"]))
        total = x.new_zeros(())
        for first, anchors, keys in ((True, x, y), (False, y, x)):
            for i in range(len(x)):
                anchor = self.anchor(first, i, anchors, keys, wrong, scale, cosines)
                total = total + case.naive(anchor, **case.options) / (2 * len(x))
        gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
        return [total.detach(), *gradients]

    def anchor(
        self, first: bool, i: int, anchors: Tensor, keys: Tensor, wrong: Tensor, scale: Tensor, cosines: list[float]
    ) -> Anchor:
        seen = anchors.detach()
        mine, theirs = (self.teacher if first else self.teacher.flip(0)).unbind()
        order = [i, *(j for j in range(len(keys)) if j != i and self.groups[i] != self.groups[j])]
        logits = [(scale * anchors[i] @ keys[j]).squeeze() for j in order]
        likeness: list[float | None] = [float(seen[i] @ seen[j]) for j in order]
        teacher: list[float | None] = [float(mine[i] @ theirs[j]) for j in order]
        relational: list[float | None] = [float(mine[i] @ mine[j]) for j in order]
        if first:
            more = range(len(wrong))
            logits += [(scale * anchors[i] @ wrong[j]).squeeze() for j in more]
            teacher += [float(mine[i] @ self.wrong_teacher[j]) for j in more]
        else:
            more = [j for j in range(len(self.queue)) if self.queue_groups[j] != self.groups[i]]
            logits += [(scale * anchors[i] @ self.queue[j]).squeeze() for j in more]
            teacher += [None for _ in more]
        likeness += [None for _ in more]
        relational += [None for _ in more]
        return Anchor(first, logits[0], logits[1:], likeness, teacher, relational, cosines, i)


def parts(found: Contrast) -> list[Tensor]:
    wrong = found.more_y[0] if found.more_y else found.x_Ad.new_zeros(0, 6)
    return [found.loss, found.x_Ad, found.y_Ad, wrong, found.scale.reshape(1)]


def assert_all_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-9) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
