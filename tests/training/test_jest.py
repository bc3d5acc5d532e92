"""Joint example selection against loops over single pairs: scores, chunks, ranks and calibrated temperatures."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, normalize

from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.selection.calibration import calibrated
from tercet.training.selection.candidates import Candidates, Temperature, View
from tercet.training.selection.chunks import ChunkSampler, gumbel
from tercet.training.selection.jest import JestSelection
from tercet.training.selection.measures import measures
from tercet.training.selection.pair_losses import Kind, PairLoss, Sigmoid, SigmoidGradient, Softmax, SoftmaxGradient
from tercet.training.selection.strata import Strata
from tests.training.joint import ITEMS, LONE, SEED, STEP, Naive, rule, super_batch

CRITERIA = ("learnability", "easy_reference", "hard_learner", "gradient_norm")
KINDS: tuple[Kind, ...] = ("softmax", "sigmoid")
STRATA, KEPT = 4, 4


def options(**changes: Any) -> JestSelection:
    return JestSelection(**{"reference": "given", "reference_scale": "own", "n_chunks": 4, "gain": 2.0} | changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_scores_and_samples_of_each_chunk_equal_those_of_a_naive_computation(criterion: Any, kind: Kind) -> None:
    drawn, reference = super_batch(World(), STRATA, KEPT)
    asks = criterion in ("learnability", "easy_reference")
    jest = rule(options(criterion=criterion, pair_loss=kind), reference if asks else None)
    naive, chunks = Naive(criterion, kind), 4
    candidates = Candidates(jest.compare(drawn), chunks)
    sampler = ChunkSampler(candidates, drawn.strata, World(), chunks, 2.0, 0.0)
    noise = gumbel("jest", SEED, STEP, range(ITEMS), chunks)
    before: list[int] = []
    for chunk, expected in enumerate(naive.chunks(STRATA, KEPT, chunks, 2.0, gumbel=True)):
        truth = torch.tensor([naive.score(i, before, alone=chunk == 0) for i in range(ITEMS)], dtype=torch.float64)
        found = candidates.scores() if chunk else candidates.alone()
        assert torch.nonzero(truth.isnan()).flatten().tolist() == list(LONE)
        torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5, equal_nan=True)
        sampler.draw_chunk(chunk, found, noise)
        assert torch.nonzero(sampler.chunk_n == chunk).flatten().tolist() == expected
        before += expected
    kept = jest.choose(drawn)
    assert kept.places.tolist() == sorted(before)
    assert kept.near_ties == 0
    given = torch.tensor([naive.score(i, before) for i in range(ITEMS)], dtype=torch.float64)
    chosen = [i for i in before if i not in LONE]
    left = [i for i in range(ITEMS) if i not in before and i not in LONE]
    independent = Strata(STRATA, KEPT).best(torch.tensor(naive.independent())).places.tolist()
    expected_measures = {
        f"{criterion}_chosen": float(given[chosen].mean()),
        f"{criterion}_left": float(given[left].mean()),
        "near_ties": 0.0,
        "overlap_independent": len({*independent} & {*before}) / len(before),
    } | ({"reference_scale/image-text": 30.0, "reference_scale/audio-text": 30.0} if asks else {})
    assert measures(drawn, kept) == pytest.approx(expected_measures, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_highest_scores_are_taken_without_noise(kind: Kind) -> None:
    drawn, reference = super_batch(World(), STRATA, KEPT)
    naive = Naive("learnability", kind)
    for chunks in (1, 3):
        jest = rule(options(sample="topk", pair_loss=kind, n_chunks=chunks), reference)
        truth = sorted(i for one in naive.chunks(STRATA, KEPT, chunks, 1.0, gumbel=False) for i in one)
        assert jest.choose(drawn).places.tolist() == truth
    jest = rule(options(method="independent", sample="topk", pair_loss=kind), reference)
    kept = jest.choose(drawn)
    assert kept.places.tolist() == Strata(STRATA, KEPT).best(torch.tensor(naive.independent())).places.tolist()
    assert kept.measures["overlap_independent"] == 1


def test_a_taken_back_chunk_leaves_no_trace() -> None:
    drawn, reference = super_batch(World(), STRATA, KEPT)
    candidates = Candidates(rule(options(), reference).compare(drawn), 3)
    for chunk, places in enumerate(([1, 4], [9, 20, 31], [2])):
        candidates.choose(chunk, torch.tensor(places))
    naive = Naive("learnability", "softmax")
    truth = torch.tensor([naive.score(i, [1, 4, 2]) for i in range(ITEMS)], dtype=torch.float64)
    torch.testing.assert_close(candidates.scores(without=1), truth, rtol=1e-5, atol=1e-5, equal_nan=True)


def batch_score(naive: Naive, batch: list[int]) -> float:
    """Of a whole batch, from its definition: every entry of a matrix counts once."""
    total = 0.0
    known = [i for i in batch if i not in LONE]
    for i in known:
        alone, whole = naive.score(i, []), naive.score(i, batch)
        total += whole if naive.kind == "softmax" or naive.criterion == "gradient_norm" else (alone + whole) / 2
    return total / len(known)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("criterion", ["learnability", "hard_learner", "gradient_norm"])
def test_swaps_never_lower_the_score_of_the_batch(criterion: Any, kind: Kind) -> None:
    drawn, reference = super_batch(World(), STRATA, KEPT)
    asked = reference if criterion == "learnability" else None
    naive, scores, batches = Naive(criterion, kind), [], []
    for sweeps in range(5):
        kept = rule(options(criterion=criterion, pair_loss=kind, n_chunks=1, gain=0.1, sweeps=sweeps), asked).choose(
            drawn
        )
        batches.append(kept.places.tolist())
        scores.append(batch_score(naive, batches[-1]))
        counts = np.bincount(np.array(batches[-1]) // (ITEMS // STRATA), minlength=STRATA)
        assert counts.tolist() == [KEPT] * STRATA
    for before, after in pairwise(range(5)):
        assert scores[after] > scores[before] or batches[after] == batches[before]
    assert scores[-1] > scores[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_gibbs_sweep_draws_each_chunk_given_all_others(kind: Kind) -> None:
    drawn, reference = super_batch(World(), STRATA, KEPT)
    naive, chunks = Naive("learnability", kind), 4
    kept = rule(options(pair_loss=kind, sweeps=1, refine="gibbs"), reference).choose(drawn)
    parts = naive.chunks(STRATA, KEPT, chunks, 2.0, gumbel=True)
    noise = gumbel("jest sweep 1", SEED, STEP, range(ITEMS), chunks)
    for chunk in range(chunks):
        others = [i for number, part in enumerate(parts) if number != chunk for i in part]
        wish = torch.tensor([2 * naive.score(i, others) + float(noise[i, chunk]) for i in range(ITEMS)])
        wish[others] = -torch.inf
        parts[chunk] = Strata(STRATA, 1).best(wish.nan_to_num(nan=-1e9)).places.tolist()
    assert kept.places.tolist() == sorted(i for part in parts for i in part)


WAYS: list[dict[str, Any]] = [
    {"n_chunks": 4},
    {"n_chunks": 16, "pair_loss": "sigmoid", "sample": "topk"},
    {"n_chunks": 3, "criterion": "gradient_norm"},
    {"method": "independent", "reference_scale": "calibrated"},
    {"n_chunks": 5, "reference_scale": "calibrated", "pair_loss": "sigmoid"},
    {"n_chunks": 1, "gain": 0.5, "sweeps": 3},
    {"n_chunks": 4, "sweeps": 2, "refine": "gibbs"},
]


def choose(world: World, ways: list[dict[str, Any]]) -> list[Any]:
    torch.set_num_threads(1)
    found = []
    for way in ways:
        drawn, reference = super_batch(world, STRATA, KEPT)
        asks = way.get("criterion") != "gradient_norm"
        kept = rule(options(**way), reference if asks else None).choose(drawn)
        found.append((drawn.batch.ids[kept.places].tolist(), measures(drawn, kept)))
    return found


def test_one_two_and_four_ranks_choose_the_same_samples() -> None:
    alone = choose(World(), WAYS)
    for processes in (2, 4):
        ranks = on_ranks(choose, processes, WAYS)
        for number, (ids, measured) in enumerate(alone):
            assert [id for rank in ranks for id in rank[number][0]] == ids, WAYS[number]
            for rank in ranks:
                assert rank[number][1] == ranks[0][number][1], "the same on all ranks"
                assert rank[number][1] == pytest.approx(measured, rel=1e-5)
    assert len({tuple(ids) for ids, _ in alone}) >= 5


@pytest.mark.parametrize(("kept", "chunks"), [(8, 4), (8, 16), (8, 3), (1, 16), (5, 5)])
def test_chunks_have_equal_sizes_and_take_all_samples_of_a_stratum(kept: int, chunks: int) -> None:
    strata = 16
    shares = torch.stack([Strata(strata, kept).shares(World(), chunk, chunks) for chunk in range(chunks)])
    assert shares.sum(dim=0).tolist() == [kept] * strata
    assert int(shares.max() - shares.min()) <= 1
    sizes = shares.sum(dim=1)
    assert int(sizes.max() - sizes.min()) <= 2
    for rank in range(2):
        half = Strata(strata // 2, kept)
        own = torch.stack([half.shares(World(rank, 2), chunk, chunks) for chunk in range(chunks)])
        assert torch.equal(own, shares[:, rank * strata // 2 : (rank + 1) * strata // 2])


def test_extreme_scales_overflow_nothing() -> None:
    z = normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    groups = torch.arange(6)
    for loss in (Softmax(), Sigmoid(), SoftmaxGradient(), SigmoidGradient()):
        view = View(z, -z, Temperature(1000.0, 0.0), loss, 1.0)
        row_n, column_n = view.sums(slice(0, 6), groups, groups, 2).unbind(1)
        positive_n = view.positives(slice(0, 6))
        for score_n in (loss.given(positive_n, row_n, column_n, 1000.0), loss.alone(positive_n, 1000.0)):
            assert torch.isfinite(score_n).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_above_the_norm_of_the_gradient(kind: Kind) -> None:
    """Autograd differentiates the loss of a pair given others."""
    random = torch.Generator().manual_seed(2)
    bound: PairLoss = {"softmax": SoftmaxGradient(), "sigmoid": SigmoidGradient()}[kind]
    for scale in (1.0, 10.0, 100.0):
        x, y = normalize(torch.randn(2, 7, 3, generator=random, dtype=torch.float64), dim=2)
        for i in range(7):
            own = [x[i].clone().requires_grad_(), y[i].clone().requires_grad_()]
            others = [j for j in range(7) if j != i]
            positive = scale * own[0] @ own[1] - 1
            row, column = scale * (y[others] @ own[0]) - 1, scale * (x[others] @ own[1]) - 1
            gradients = torch.autograd.grad(direct_loss(kind, positive, row, column), own)
            sums = [bound.reduce(one.detach()[None], torch.ones(1, 6, dtype=torch.bool)) for one in (row, column)]
            found = float(bound.given(positive.detach()[None], sums[0], sums[1], scale))
            norm = float(torch.cat(gradients).norm())
            assert norm <= found * (1 + 1e-9)
            assert found <= 8 * norm + 1e-3, "not so loose that it says nothing"


def direct_loss(kind: Kind, positive: Tensor, row: Tensor, column: Tensor) -> Tensor:
    if kind == "sigmoid":
        return -logsigmoid(positive) - logsigmoid(-row).sum() - logsigmoid(-column).sum()
    both = [torch.cat([positive[None], one]).logsumexp(0) - positive for one in (row, column)]
    return torch.stack(both).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [None, 3])
def test_a_calibrated_temperature_fits_the_right_pairs(kind: Kind, every: int | None) -> None:
    """A search over a grid of scales and shares of wrong pairs, once with right pairs only. Loops make the likelihood.

    The scale lies near that of the right pairs alone, although every third pair is wrong.
    """
    random = torch.Generator().manual_seed(5)
    x = torch.randn(60, 6, generator=random, dtype=torch.float64)
    y = x + 0.9 * torch.randn(60, 6, generator=random, dtype=torch.float64)
    if every:
        y[::every] = y[::every].flip(0)
    x, y = (normalize(one, dim=1) for one in (x, y))
    groups, kept = [*range(58), 2, 2], [i for i in range(60) if i != 4]
    cosines = x @ y.T

    def keys(i: int) -> list[int]:
        return [j for j in kept if j == i or groups[j] != groups[i]]

    def both(i: int, scale: float) -> float:
        """The probability of a pair in both directions."""
        return float((scale * cosines[i, keys(i)]).softmax(0)[keys(i).index(i)]) * float(
            (scale * cosines[keys(i), i]).softmax(0)[keys(i).index(i)]
        )

    scales, shares = np.geomspace(1, 100, 60), np.linspace(0, 0.99, 100)
    uniform_m = np.array([len(keys(i)) ** -2.0 for i in kept])
    chances = {scale: np.array([both(i, scale) for i in kept]) for scale in scales}
    scale, wrong = max(
        product(scales, shares),
        key=lambda at: np.log((1 - at[1]) * chances[at[0]] + at[1] * uniform_m).sum(),
    )
    found = calibrated(kind, x, y, torch.arange(60) != 4, torch.tensor(groups))
    if kind == "softmax":
        assert found.scale == pytest.approx(scale, rel=0.05)
        alone = max(scales, key=lambda at: np.log(chances[at][[not every or i % every > 0 for i in kept]]).sum())
        assert found.scale == pytest.approx(alone, rel=0.3), "wrong pairs count little"
        return
    right_m = (1 - wrong) * chances[scale] / ((1 - wrong) * chances[scale] + wrong * uniform_m)

    cosine_e = torch.stack([cosines[i, j] for i in kept for j in keys(i)])
    target_e = torch.tensor([right_m[kept.index(i)] if i == j else 0.0 for i in kept for j in keys(i)])

    def loss(at: tuple[float, float]) -> float:
        return float(binary_cross_entropy_with_logits(at[0] * cosine_e + at[1], target_e.double()))

    best = min(product(np.geomspace(1, 100, 40), np.linspace(-30, 5, 71)), key=loss)
    assert (found.scale, found.bias) == (pytest.approx(best[0], rel=0.15), pytest.approx(best[1], abs=1))
