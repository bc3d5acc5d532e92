"""Objectives over sequences of tokens equal loops over pairs and paths, on one process and on two.

Shapes: L tokens of a row, d dimensions.
"""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tercet import loss
from tercet.data_pipelines.sample import Batch, Field
from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import tokens_of
from tercet.models.losses.objective import build_objective
from tercet.models.losses.sequence import OfTokens, SequenceDistance, time_warping
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import ObjectiveConfig, TermConfig
from tercet.testing import check_objective, on_ranks

ITEMS, DIM = 10, 4
EXISTS = {"audio": [0, 2, 3, 4, 5, 6, 8], "text": [0, 1, 2, 3, 5, 6, 8, 9]}
LENGTHS = {"audio": [3, 1, 4, 2, 5, 3, 2], "text": [2, 3, 4, 1, 2, 1, 3, 5]}  # the ranks have other longest rows
GROUPS = torch.tensor([0, 1, 2, 0, 3, 4, 2, 5, 6, 7])
SCALE = torch.tensor([4.0], dtype=torch.float64)
KINDS = (
    {"name": "sequence", "points": 4},
    {"name": "sequence", "distance": "dtw", "smoothing": 0.2},
    {"name": "sequence", "distance": "dtw", "smoothing": 0},
    {"name": "segment_attention", "segments": 3, "attention": 0.3},
)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def random_vectors(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, DIM, generator=random, dtype=torch.float64), dim=-1)


def rows() -> dict[str, Tensor]:
    """The vectors of all rows, and their tokens, padded with zeros."""
    found = {}
    for place, (field, items) in enumerate(EXISTS.items()):
        found[field] = random_vectors(len(items), seed=place)
        tokens = random_vectors(len(items), max(LENGTHS[field]), seed=2 + place)
        for row, length in enumerate(LENGTHS[field]):
            tokens[row, length:] = 0
        found[tokens_of(field)] = tokens
    return found


def solve(world: World, kind: dict[str, object], anchors_at_once: int = 2) -> Outcome:
    own, whole = list(world.share(range(ITEMS))), rows()
    fields, here = {}, {}
    for field, items in EXISTS.items():
        kept = [row for row, item in enumerate(items) if item in own]
        fields[field] = Field(field, torch.zeros(len(kept)), torch.tensor([items[row] - own[0] for row in kept]))
        longest = max(LENGTHS[field][row] for row in kept)
        here |= {field: whole[field][kept], tokens_of(field): whole[tokens_of(field)][kept, :longest]}
    return Terms([term(kind, anchors_at_once)], 3)(
        Batch(torch.tensor(own), GROUPS[own], fields), here, {"t": (SCALE, None)}, world
    )


def term(kind: dict[str, object], anchors_at_once: int = 2) -> TermConfig:
    objective = ObjectiveConfig.model_validate(kind | {"anchors_at_once": anchors_at_once})
    return TermConfig(name="t", between=("audio", "text"), objective=objective, directions={"audio": 3.0, "text": 1.0})


def solve_all(world: World) -> list[Outcome]:
    return [solve(world, kind) for kind in KINDS]


def interpolated(tokens_Ld: Tensor, share: float) -> Tensor:
    place = share * (len(tokens_Ld) - 1)
    low = min(math.floor(place), max(len(tokens_Ld) - 2, 0))
    return torch.lerp(tokens_Ld[low], tokens_Ld[min(low + 1, len(tokens_Ld) - 1)], place - low)


def paths(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    """All monotone paths from (0, 0) to the last tokens."""
    if (rows, columns) == (1, 1):
        yield [(0, 0)]
        return
    for down, right in ((1, 0), (0, 1), (1, 1)):
        if rows - down > 0 and columns - right > 0:
            for path in paths(rows - down, columns - right):
                yield [*path, (rows - 1, columns - 1)]


def naive_similarity(kind: dict[str, object], x_Ld: Tensor, y: Tensor) -> Tensor:
    """Of one sequence and another; of one sequence and a vector for `segment_attention`."""
    if kind["name"] == "segment_attention":
        parts: dict[int, list[Tensor]] = {}
        for place, token in enumerate(x_Ld):
            parts.setdefault(place * 3 // len(x_Ld), []).append(token)
        cosines = torch.stack([normalize(torch.stack(part).mean(0), dim=0) @ y for part in parts.values()])
        return (cosines.div(0.3).softmax(0) * cosines).sum()
    if kind.get("distance") == "dtw":
        cost = torch.stack([torch.stack([1 - a @ b for b in y]) for a in x_Ld])
        totals = torch.stack([torch.stack([cost[place] for place in path]).sum() for path in paths(*cost.shape)])
        smoothing = float(str(kind["smoothing"]))
        least = -smoothing * torch.logsumexp(-totals / smoothing, 0) if smoothing else totals.min()
        return -least / max(cost.shape)
    places = [share / 3 for share in range(4)]
    gaps = [(interpolated(x_Ld, place) - interpolated(y, place)).square().sum() for place in places]
    return -torch.stack(gaps).mean() / 2


def naive(kind: dict[str, object], z: dict[str, Tensor], scale: Tensor) -> Tensor:
    both = [item for item in EXISTS["audio"] if item in EXISTS["text"]]
    values = []
    for item in both:
        row = EXISTS["audio"].index(item)
        x = z["audio tokens"][row, : LENGTHS["audio"][row]]
        for other in both:
            column = EXISTS["text"].index(other)
            tokens = z["text tokens"][column, : LENGTHS["text"][column]]
            y = z["text"][column] if kind["name"] == "segment_attention" else tokens
            values.append(naive_similarity(kind, x, y))
    logits = scale * torch.stack(values).reshape(len(both), -1)
    same = GROUPS[both][:, None].eq(GROUPS[both]) & ~torch.eye(len(both), dtype=torch.bool)
    logits, label = logits.masked_fill(same, -torch.inf), torch.arange(len(both))
    return 0.75 * cross_entropy(logits, label) + 0.25 * cross_entropy(logits.T, label)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("anchors_at_once", [1, 3, 100])
def test_loss_and_gradients_equal_a_loop(kind: dict[str, object], anchors_at_once: int) -> None:
    z = {field: values.clone().requires_grad_() for field, values in rows().items()}
    scale = SCALE.clone().requires_grad_()
    expected = naive(kind, z, scale)
    expected.backward()  # type: ignore[no-untyped-call]
    found = solve(World(), kind, anchors_at_once)
    torch.testing.assert_close(found.loss, expected.detach(), **CLOSE)
    torch.testing.assert_close(found.temperatures["t"][0].reshape(1), scale.grad, **CLOSE)
    for field, values in z.items():
        torch.testing.assert_close(found.rows[field], gradient(values), **CLOSE)


def gradient(values: Tensor) -> Tensor:
    return torch.zeros_like(values) if values.grad is None else values.grad


def test_two_processes_equal_one() -> None:
    ranks = on_ranks(solve_all, 2)
    for index, kind in enumerate(KINDS):
        one = solve(World(), kind)
        for rank in ranks:
            torch.testing.assert_close(rank[index].loss, one.loss, **CLOSE)
            torch.testing.assert_close(rank[index].temperatures, one.temperatures, **CLOSE)
        for name in one.rows:
            both = torch.cat([rank[index].rows[name] for rank in ranks])
            torch.testing.assert_close(both, one.rows[name], **CLOSE)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_slope_of_time_warping_is_that_of_finite_differences(smoothing: float) -> None:
    x, y = random_vectors(2, 3).requires_grad_(), random_vectors(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: time_warping(x, y, smoothing), (x, y))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_rows_of_one_token_have_the_loss_of_infonce(kind: dict[str, object]) -> None:
    """Half a squared distance of unit vectors is one minus their cosine."""
    x, y = random_vectors(6), random_vectors(6, seed=1)
    items = torch.arange(6)
    batch = Batch(items, items, {name: Field(name, torch.zeros(6), items) for name in ("audio", "text")})
    vectors = {"audio": x, "audio tokens": x[:, None], "text": y, "text tokens": y[:, None]}
    found = Terms([term(kind)], 3)(batch, vectors, {"t": (SCALE, None)}, World())
    plain = term(kind).model_copy(update={"objective": ObjectiveConfig(name="infonce")})
    expected = Terms([plain], 3)(batch, vectors, {"t": (SCALE, None)}, World())
    torch.testing.assert_close(found.loss, expected.loss, **CLOSE)
    torch.testing.assert_close(found.temperatures, expected.temperatures, **CLOSE)
    torch.testing.assert_close(found.anchors["t"][1].lse - found.anchors["t"][1].positive,
                               expected.anchors["t"][1].lse - expected.anchors["t"][1].positive, **CLOSE)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: "-".join(map(str, kind.values())))
def test_sequences_that_differ_only_in_order_are_told_apart(kind: dict[str, object]) -> None:
    """Sequences in pairs, the second of which has the tokens of the first in reverse: pooled vectors cannot differ."""
    objective = build_objective(ObjectiveConfig.model_validate(kind))
    assert isinstance(objective, OfTokens)
    random = torch.Generator().manual_seed(5)
    first = random_vectors(20, 6)
    both = torch.stack([first, first.flip(1)], dim=1).flatten(0, 1)
    noisy = normalize(both + 0.3 * torch.randn(both.shape, generator=random, dtype=torch.float64), dim=-1)
    scores = objective.similarities(noisy, both)
    wrong = torch.arange(40) ^ 1  # the same tokens in the other order
    assert (scores.diagonal() > scores[torch.arange(40), wrong]).all()
    pooled = both.mean(1)
    torch.testing.assert_close(pooled, pooled[wrong])
    assert (scores.argmax(1) == torch.arange(40)).all()


@pytest.mark.long
def test_order_is_learned_from_tokens_and_not_from_pooled_vectors() -> None:
    """Two linear towers learn on sequences in pairs that differ in order only. The second modality is rotated."""
    told_apart = {}
    for name in ("sequence", "infonce"):
        towers = learned_from_swapped(name)
        x, y = (normalize(tokens @ tower, dim=-1) for tokens, tower in zip(swapped(seed=9), towers, strict=True))
        if name == "sequence":
            scores = SequenceDistance(points=6).similarities(x, y)
        else:
            scores = normalize(x.mean(1), dim=1) @ normalize(y.mean(1), dim=1).T
        own, other = scores.diagonal(), scores[torch.arange(len(x)), torch.arange(len(x)) ^ 1]
        told_apart[name] = float((own > other + 1e-9).double().mean())
    assert told_apart["sequence"] > 0.95
    assert told_apart["infonce"] == 0  # both scores are equal, so chance is all that is left


def swapped(seed: int) -> tuple[Tensor, Tensor]:
    """Sequences of six tokens of two modalities. Rows 2k and 2k + 1 differ in order only."""
    tokens = random_vectors(32, 6, seed=seed)
    both = torch.stack([tokens, tokens.flip(1)], dim=1).flatten(0, 1)
    rotation, _ = torch.linalg.qr(random_vectors(DIM, seed=1))
    return both, both @ rotation


def learned_from_swapped(name: str) -> list[Tensor]:
    """Trains a linear tower for each modality, on tokens or on the means of tokens."""
    towers = [random_vectors(DIM, seed=seed).requires_grad_() for seed in (3, 4)]
    optimizer = torch.optim.Adam(towers, lr=0.03)
    objective = {"name": name} | ({"points": 6} if name == "sequence" else {})
    config = TermConfig(name="t", between=("audio", "text"), objective=ObjectiveConfig.model_validate(objective))
    terms = Terms([config], 64)
    for step in range(60):
        rows = swapped(seed=100 + step)
        items = torch.arange(64)
        batch = Batch(items, items, {name: Field(name, torch.zeros(64), items) for name in ("audio", "text")})
        vectors = {}
        for field, tokens, tower in zip(("audio", "text"), rows, towers, strict=True):
            unit = normalize(tokens @ tower, dim=-1)
            vectors |= {field: normalize(unit.mean(1), dim=1), tokens_of(field): unit}
        found = terms(batch, {key: value.detach() for key, value in vectors.items()}, {"t": (3 * SCALE, None)}, World())
        optimizer.zero_grad()
        torch.autograd.backward(list(vectors.values()), [found.rows[key] for key in vectors])
        optimizer.step()
    return [tower.detach() for tower in towers]


def test_a_batch_without_pairs_has_no_loss() -> None:
    fields = {name: Field(name, torch.zeros(1), torch.tensor([item])) for item, name in enumerate(("audio", "text"))}
    vectors = {name: random_vectors(1, 3) for name in ("audio tokens", "text tokens")}
    vectors |= {name: random_vectors(1) for name in fields}
    batch = Batch(torch.arange(2), torch.arange(2), fields)
    for kind in KINDS:
        found = Terms([term(kind)], 3)(batch, vectors, {"t": (SCALE, None)}, World())
        assert float(found.loss) == 0
        assert all(not rows.any() for rows in found.rows.values())


def test_the_losses_of_items_are_those_of_their_anchors() -> None:
    for kind in KINDS:
        batch = Batch(torch.arange(ITEMS), GROUPS, {
            field: Field(field, torch.zeros(len(items)), torch.tensor(items)) for field, items in EXISTS.items()
        })  # fmt: skip
        losses = Terms([term(kind)], 3).item_losses(batch, rows(), {"t": (SCALE, None)}, World())
        both = sorted(set(EXISTS["audio"]) & set(EXISTS["text"]))
        assert torch.isfinite(losses).nonzero().flatten().tolist() == both
        torch.testing.assert_close(losses[both].mean(), solve(World(), kind).loss.to(losses), rtol=1e-5, atol=1e-6)


def test_extra_negatives_and_plain_vectors_are_refused() -> None:
    values = {"between": ["audio", "text"], "objective": "sequence", "against": {"audio": ["text.negative"]}}
    with pytest.raises(UserError, match=r"terms.audio-text.against: `sequence` takes no extra negatives; remove it"):
        Terms([TermConfig.model_validate(values)], 3)
    with pytest.raises(UserError, match="the loss `sequence` compares tokens of rows, not vectors; train it with a"):
        loss("sequence")
    with pytest.raises(UserError, match=r"objective.of: `sequence` cannot be used on prefixes; choose another"):
        build_objective(ObjectiveConfig.model_validate({"name": "matryoshka", "of": "sequence", "dims": [2]}))


def test_more_points_than_tokens_change_little() -> None:
    x, y = random_vectors(5, 4), random_vectors(5, 4, seed=1)
    few, many = (SequenceDistance(points=points).similarities(x, y) for points in (400, 4000))
    torch.testing.assert_close(few, many, rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_they_meet_the_contract_of_objectives(kind: dict[str, Any]) -> None:
    check_objective(**{"objective" if key == "name" else key: value for key, value in kind.items()})
