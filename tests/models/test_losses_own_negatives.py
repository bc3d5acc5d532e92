"""Local contrasts, keys of a momentum encoder and feature distillation equal loops over items and rows, in fp64.

Items have between no and three wrong captions, so nothing can be found by counting rows. Two items are one sample.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import build_term
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Outcome, Terms, gather
from tercet.models.term_config import TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, DIM = 8, 6
EXISTS = {
    "image": [0, 1, 2, 3, 5, 6, 7],
    "text": [0, 1, 2, 3, 4, 5, 6],
    "text.negative": [0, 0, 0, 1, 2, 2, 4, 5, 5, 6, 6, 6],  # item 3 has none, item 4 has no picture
}
IDS = [0, 1, 2, 3, 4, 2, 6, 7]  # items 2 and 5 are the same sample
GROUPS = [0, 1, 2, 0, 4, 2, 6, 7]
COUNTS = {"text.negative": 3}
LOCAL = {"name": "infonce", "own_negatives_only": True}
TERMS = [
    TermConfig.model_validate(term)
    for term in (
        {"name": "igc", "between": ["image", "text"], "against": {"image": ["text.negative"]}, "weight": 0.7}
        | {"directions": {"image": 1}, "objective": LOCAL},
        {"name": "tgc", "between": ["text", "momentum.text"], "against": {"text": ["text.negative"]}, "weight": 0.3}
        | {"objective": LOCAL},
        {"name": "keys", "between": ["momentum.text", "image"], "against": {"image": ["queue.text"]}},
        {"name": "pull", "between": ["image", "text", "text.negative"], "references": {"teacher": "momentum"}}
        | {"objective": "feature_distillation", "weight": 0.2},
    )
]
SCALES = {"igc": 4.0, "tgc": 10.0, "keys": 6.0, "pull": 1.0}


def vectors_of(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: normalize(torch.randn(len(items), DIM, generator=random, dtype=torch.float64), dim=1)
        for name, items in EXISTS.items()
    }


QUEUE, QUEUED_GROUPS = vectors_of(2)["image"], [90, 2, 91, 0, 92, 93, 6]


def solve(world: World) -> tuple[Outcome, Tensor]:
    own = list(world.share(range(ITEMS)))
    here = {name: torch.tensor([item in own for item in items]) for name, items in EXISTS.items()}
    fields = {
        name: Field(
            name.partition(".")[0], torch.zeros(int(here[name].sum())), torch.tensor(items)[here[name]] - own[0]
        )
        for name, items in EXISTS.items()
    }
    batch = Batch(torch.tensor(IDS)[own], torch.tensor(GROUPS)[own], fields)
    learned, kept = ({name: z[here[name]] for name, z in vectors_of(seed).items()} for seed in (0, 1))
    frozen = {f"momentum.{name}": gather(batch, name, z, COUNTS.get(name, 1), world) for name, z in kept.items()}
    known = Known({**frozen, "queue.text": Rows.frozen(QUEUE, torch.tensor(QUEUED_GROUPS))})
    scales = {name: (torch.tensor([scale], dtype=torch.float64), None) for name, scale in SCALES.items()}
    terms = Terms(TERMS, 3, COUNTS)
    return terms(batch, learned, scales, world, known), terms.item_losses(batch, learned, scales, world, known)


def naive(z: dict[str, Tensor], kept: dict[str, Tensor], scales: dict[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """The loss of each item, by term."""

    def row(of: dict[str, Tensor], name: str, item: int) -> Tensor:
        return of[name][EXISTS[name].index(item)]

    def wrong(item: int) -> Iterator[Tensor]:
        """Wrong captions of the sample, in whichever item they are."""
        for place, other in enumerate(EXISTS["text.negative"]):
            if IDS[other] == IDS[item]:
                yield z["text.negative"][place]

    def cross_entropy(scale: Tensor, anchor: Tensor, keys: list[Tensor]) -> Tensor:
        logits = torch.stack([scale * (anchor * key).sum() for key in keys])
        return logits.exp().sum().log() - logits[0]

    found: dict[str, dict[int, Tensor]] = {name: {} for name in SCALES}
    for item in range(ITEMS):
        pictured, captioned = item in EXISTS["image"], item in EXISTS["text"]
        if pictured and captioned:
            image = row(z, "image", item)
            found["igc"][item] = cross_entropy(scales["igc"], image, [row(z, "text", item), *wrong(item)])
            others = [
                row(kept, "text", other)
                for other in EXISTS["text"]
                if other in EXISTS["image"] and GROUPS[other] != GROUPS[item]
            ]
            others += [key for key, group in zip(QUEUE, QUEUED_GROUPS, strict=True) if group != GROUPS[item]]
            found["keys"][item] = cross_entropy(scales["keys"], image, [row(kept, "text", item), *others])
        if captioned:
            keys = [row(kept, "text", item), *wrong(item)]
            found["tgc"][item] = cross_entropy(scales["tgc"], row(z, "text", item), keys)
        pairs = [
            (one, other)
            for name, items in EXISTS.items()
            for one, other, owner in zip(z[name], kept[name], items, strict=True)
            if owner == item
        ]
        found["pull"][item] = torch.stack([(one - other).square().sum() for one, other in pairs]).sum()
    return found


def test_terms_equal_loops_and_two_processes() -> None:
    z, scales = vectors_of(0), {name: torch.tensor(s, dtype=torch.float64) for name, s in SCALES.items()}
    leaves = [leaf.requires_grad_() for leaf in (*z.values(), *scales.values())]
    items = naive(z, vectors_of(1), scales)
    means = {name: torch.stack(list(losses.values())).mean() for name, losses in items.items()}
    total = torch.stack([term.weight * means[term.name] for term in TERMS]).sum()
    gradients = dict(zip([*z, *scales], torch.autograd.grad(total, leaves, allow_unused=True), strict=True))
    found, losses = solve(World())
    torch.testing.assert_close(found.loss, total.detach(), rtol=1e-9, atol=1e-12)
    assert found.rows.keys() == z.keys(), "rows of memories get no gradient"
    for name, slope in found.rows.items():
        torch.testing.assert_close(slope, gradients[name], rtol=1e-9, atol=1e-12)
    for name in ("igc", "tgc", "keys"):
        torch.testing.assert_close(found.temperatures[name][0].reshape(()), gradients[name], rtol=1e-9, atol=1e-12)
    ranks = on_ranks(solve, 2)
    for name, slope in found.rows.items():
        joined = torch.cat([one.rows[name] for one, _ in ranks])
        torch.testing.assert_close(joined, slope, rtol=1e-9, atol=1e-12)
    for one, rank_losses in ranks:
        torch.testing.assert_close(one.losses, found.losses, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.temperatures, found.temperatures, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(rank_losses, losses, rtol=1e-5, atol=1e-6)
    expected = [
        sum(term.weight * float(items[term.name][item].detach()) for term in TERMS if item in items[term.name])
        / sum(term.weight for term in TERMS if item in items[term.name])
        for item in range(ITEMS)
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"smoothing": 0.1}, {"hardness_mode": "all_negatives", "hardness_strength": 5}]
)
def test_the_objective_passes_the_checks(options: dict[str, object]) -> None:
    check_objective("infonce", own_negatives_only=True, **options)


def test_feature_distillation_passes_the_checks() -> None:
    check_objective("feature_distillation")


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({}, "anchors of `image` need wrong captions of their own"),
        ({"against": {"image": ["text.negative"]}}, "anchors of `text` need wrong captions of their own"),
        (
            {"against": {"image": ["queue.text"]}, "directions": {"image": 1}},
            "and nothing else, such as against: {image:",
        ),
    ],
)
def test_directions_without_wrong_captions_are_refused(term: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_term(TermConfig.model_validate({"between": ["image", "text"], "objective": LOCAL, **term}))
    assert "\n" not in str(caught.value)


def test_a_teacher_of_other_dimensions_is_refused() -> None:
    z, taught = torch.zeros(3, 4), torch.zeros(3, 5)
    batch = Batch(torch.arange(3), torch.arange(3), {n: Field(n, z, torch.arange(3)) for n in ("image", "text")})
    term = TermConfig.model_validate(
        {"between": ["image", "text"], "objective": "feature_distillation", "references": {"teacher": "large"}}
    )
    known = Known({f"large.{name}": Rows.numbered(taught) for name in ("image", "text")})
    with pytest.raises(
        UserError, match=r"vectors of `image` have 5 dimensions, but the joint space has 4; set model.dim"
    ):
        Terms([term], 3)(batch, {"image": z, "text": z}, {"image-text": (torch.ones(1), None)}, World(), known)
