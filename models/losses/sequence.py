"""Contrast of sequences of token vectors, where order counts, instead of one vector for each row.

    sequence            S_ij = −s · d(x_i, y_j), d a distance between two sequences of tokens
                        (SCAV, Tsiamas et al. 2024)
    segment_attention   S_ij = s · Σ_t a_ijt ⟨x_it, y_j⟩, a the attention of y_j over the segments x_it of x_i
                        (CoLLAP, Wu et al. 2024)

The loss is InfoNCE over S in both directions. The abstracts of both papers name these parts, but not their details.
These are our choices:

- d is half the squared Euclidean distance, as a mean over the places of the sequences. Sequences of one token then give
  plain InfoNCE. `euclidean` interpolates both sequences at the same number of places. `dtw` aligns them by dynamic time
  warping, with the soft minimum of Cuturi & Blondel (2017), and divides by the length of the longer sequence.
- SCAV's Wasserstein distance is left out, because the abstract does not say what has mass and where it moves. So is its
  normalisation of the rows and columns of the distances.
- A segment is the mean of a stretch of consecutive tokens. CoLLAP embeds each part of a song by itself. The attention
  is the softmax of the cosines between the text and the segments.

These objectives do not use the tiled kernel. Each rank compares its own rows of the first field with all rows of the
second, `anchors_at_once` rows at a time: once for S, and once more for the gradients. Every rank stores S, so memory
grows with N². A chunk of A anchors needs a few times A · N · L · M numbers with `dtw`, A · N · S with attention.

Shapes: N rows of all ranks, A anchors of a chunk, L and M tokens of the longest rows, P places, S segments, d
dimensions.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize, pad

from tercet.distributed import World
from tercet.modality import tokens_of
from tercet.models.losses.anchors import Anchors, Side
from tercet.models.losses.kernel import Pair
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.pairs import Part, parts
from tercet.models.losses.problem import Problem, Solution

FAR = 1e6  # the cost of places outside of the grid of a dynamic time warping


@dataclass(frozen=True)
class OfTokens(Objective):
    """Options of both objectives that compare tokens."""

    anchors_at_once: Annotated[
        int, Field(gt=0, description="how many rows of the first field are compared at a time; lower it to save memory")
    ] = 32

    refused: ClassVar[tuple[str, ...]] = ("against",)

    @abstractmethod
    def similarities(self, x: Tensor, y: Tensor) -> Tensor:
        """The similarity `[A, N]` of each row of x to each of y: tokens `[…, L, d]`, or vectors `[…, d]`."""

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        for part in self._parts(problem):
            similarity_NN = self._all_similarities(part.pair, problem.world)
            # InfoNCE does not depend on their mean, but the gradient of the scale would lose digits to it.
            similarity_NN = (similarity_NN - similarity_NN.mean()).requires_grad_()
            scale = problem.scale.detach().reshape(()).requires_grad_()
            with torch.enable_grad():
                directions = self._directions(part.pair, scale * similarity_NN, scale)
                loss = part.weight * self.loss(directions)
            slope_NN, scale_slope = torch.autograd.grad(loss, (similarity_NN, scale))
            x_slope, y_slope = self._row_slopes(part.pair, slope_NN, problem.world)
            whole.loss, whole.scale = whole.loss + loss.detach(), whole.scale + scale_slope
            for name, rows_n, slope in ((part.x, part.x_n, x_slope), (part.y, part.y_n, y_slope)):
                whole.rows[tokens_of(name) if name in problem.tokens else name][rows_n] += slope
            whole.anchors += [anchors.detach() for anchors in directions]
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for part in self._parts(problem):
            logits_NN = problem.scale * self._all_similarities(part.pair, problem.world)
            directions = self._directions(part.pair, logits_NN, problem.scale)
            loss_N = torch.stack([self.weighted(anchors) for anchors in directions]).sum(dim=0)
            yield part.pair.x.item_N, loss_N * len(loss_N), part.weight

    def _parts(self, problem: Problem) -> Iterator[Part]:
        """The pairs of rows to compare, with tokens in place of vectors where the objective uses them."""
        yield from parts(self, replace(problem, fields={**problem.fields, **problem.tokens}))

    @torch.no_grad()
    def _all_similarities(self, pair: Pair, world: World) -> Tensor:
        """`[N, N]`. Each rank computes the rows of its own anchors."""
        similarity_NN = pair.x.z_Nd.new_zeros(len(pair.x), len(pair.y))
        for chunk in self._chunks(pair):
            similarity_NN[chunk] = self.similarities(pair.x.z_Nd[chunk], pair.y.z_Nd)
        return world.sum(similarity_NN)

    def _directions(self, pair: Pair, logits_NN: Tensor, scale: Tensor) -> list[Anchors]:
        """The anchors of both fields. Keys of an anchor's own group do not repel it, unless they are its own."""
        other_NN = pair.x.item_N[:, None] != pair.y.item_N
        closed_NN = other_NN & (pair.x.group_N[:, None] == pair.y.group_N)
        open_NN = logits_NN.masked_fill(closed_NN, -torch.inf)
        sides: tuple[Side, Side] = ("x", "y")
        return [
            Anchors(
                side,
                pair.x if side == "x" else pair.y,
                {"lse": open_NN.logsumexp(dim=dim)},
                logits_NN.diagonal(),
                (other_NN & ~closed_NN).sum(dim=dim),
                closed_NN.sum(dim=dim),
                scale,
                share,
            )
            for side, dim, share in zip(sides, (1, 0), pair.shares, strict=True)
            if share
        ]

    def _row_slopes(self, pair: Pair, slope_NN: Tensor, world: World) -> tuple[Tensor, Tensor]:
        """The gradients of this rank's own rows. Those of y come from the anchors of all ranks."""
        x_slopes, y_slope = [torch.zeros_like(pair.x.z_Ad[:0])], torch.zeros_like(pair.y.z_Nd)
        for chunk in self._chunks(pair):
            x, y = (z.detach().requires_grad_() for z in (pair.x.z_Nd[chunk], pair.y.z_Nd))
            with torch.enable_grad():
                similarity_AN = self.similarities(x, y)
            x_slope, further = torch.autograd.grad(similarity_AN, (x, y), slope_NN[chunk])
            x_slopes.append(x_slope)
            y_slope += further
        return torch.cat(x_slopes), world.sum(y_slope)[pair.y.own]

    def _chunks(self, pair: Pair) -> Iterator[slice]:
        own = pair.x.own
        for start in range(own.start, own.stop, self.anchors_at_once):
            yield slice(start, min(start + self.anchors_at_once, own.stop))


@objective("sequence")
class SequenceDistance(OfTokens):
    """InfoNCE over distances of sequences of tokens, where order counts (SCAV, Tsiamas et al. 2024)."""

    distance: Annotated[
        Literal["euclidean", "dtw"],
        Field(description="euclidean compares both sequences at the same places, dtw aligns them first and is slower"),
    ] = "euclidean"
    points: Annotated[
        int,
        Field(
            ge=2,
            description="of euclidean: how many places from the first token to the last, interpolated between tokens; "
            "with more places than tokens, every token counts",
        ),
    ] = 32
    smoothing: Annotated[
        float, Field(ge=0, description="of dtw: the temperature of its soft minimum; 0: plain dynamic time warping")
    ] = 0.1

    def tokens(self, between: Sequence[str]) -> Sequence[str]:
        return between

    def similarities(self, x: Tensor, y: Tensor) -> Tensor:
        if self.distance == "dtw":
            return -time_warping(x, y, self.smoothing)
        x_AD, y_ND = (resampled(z_nLd, self.points).flatten(1) / self.points**0.5 for z_nLd in (x, y))
        squares_AN = x_AD.square().sum(dim=1)[:, None] + y_ND.square().sum(dim=1)
        similarity_AN: Tensor = x_AD @ y_ND.T - squares_AN / 2
        return similarity_AN


@objective("segment_attention")
class SegmentAttention(OfTokens):
    """InfoNCE of vectors with segments of the other field, weighted by attention (CoLLAP, Wu et al. 2024)."""

    segments: Annotated[
        int, Field(gt=0, description="how many segments the tokens of a row of the first field are divided into")
    ] = 8
    attention: Annotated[
        float,
        Field(gt=0, description="temperature of the softmax over segments; the lower, the more the best ones count"),
    ] = 0.1

    def tokens(self, between: Sequence[str]) -> Sequence[str]:
        return between[:1]

    def similarities(self, x: Tensor, y: Tensor) -> Tensor:
        segment_ASd = segmented(x, self.segments)
        cosine_ANS = torch.einsum("ASd,Nd->ANS", segment_ASd, y)
        exists_A1S = (segment_ASd != 0).any(dim=2)[:, None]
        weight_ANS = (cosine_ANS / self.attention).masked_fill(~exists_A1S, -torch.inf).softmax(dim=2)
        return (weight_ANS * cosine_ANS).sum(dim=2)


def lengths(tokens_nLd: Tensor) -> Tensor:
    """How many tokens each row has `[n]`. Padding is zero vectors."""
    return (tokens_nLd != 0).any(dim=2).sum(dim=1)


def resampled(tokens_nLd: Tensor, points: int) -> Tensor:
    """The sequences at `points` places, evenly from the first token to the last `[n, P, d]`."""
    last_n1 = lengths(tokens_nLd)[:, None] - 1
    place_nP = last_n1 * torch.linspace(0, 1, points, dtype=tokens_nLd.dtype, device=tokens_nLd.device)
    token_L = torch.arange(tokens_nLd.shape[1], device=tokens_nLd.device)
    weight_nPL = (1 - (place_nP[..., None] - token_L).abs()).clamp(min=0)
    return weight_nPL @ tokens_nLd


def segmented(tokens_nLd: Tensor, segments: int) -> Tensor:
    """The means of equal stretches of tokens as unit vectors `[n, S, d]`; zero where a row has too few tokens."""
    token_L = torch.arange(tokens_nLd.shape[1], device=tokens_nLd.device)
    segment_nL = torch.div(token_L * segments, lengths(tokens_nLd)[:, None], rounding_mode="floor")
    member_nSL = segment_nL[:, None] == torch.arange(segments, device=tokens_nLd.device)[:, None]
    return normalize(member_nSL.to(tokens_nLd.dtype) @ tokens_nLd, dim=2)


def time_warping(x_ALd: Tensor, y_NMd: Tensor, smoothing: float) -> Tensor:
    """The mean cost of the best alignment of each two sequences `[A, N]`, a cost being half a squared distance.

    The cost up to tokens i and j is that of the two plus the least up to (i − 1, j), (i, j − 1) or (i − 1, j − 1). All
    with the same k = i + j are computed at once.
    """
    rows, columns = x_ALd.shape[1], y_NMd.shape[1]
    i_L = torch.arange(rows, device=x_ALd.device)
    j_KL = torch.arange(rows + columns - 1, device=x_ALd.device)[:, None] - i_L
    cost_ANLM = 1 - torch.einsum("ALd,NMd->ANLM", x_ALd, y_NMd)
    cost_ANKL = cost_ANLM[:, :, i_L, j_KL.clamp(0, columns - 1)]
    outside_KL = (j_KL < 0) | (j_KL >= columns)
    total_ANL = cost_ANKL[:, :, 0].masked_fill(outside_KL[0], FAR)
    before_ANL, found = torch.full_like(total_ANL, FAR), [total_ANL]
    for cost_ANL, outside_L in zip(cost_ANKL.unbind(dim=2)[1:], outside_KL[1:], strict=True):
        steps = torch.stack([shifted(before_ANL), shifted(total_ANL), total_ANL])
        least_ANL = steps.amin(dim=0) if smoothing == 0 else -smoothing * (steps / -smoothing).logsumexp(dim=0)
        before_ANL, total_ANL = total_ANL, (cost_ANL + least_ANL).masked_fill(outside_L, FAR)
        found.append(total_ANL)
    x_length_A1, y_length_N = lengths(x_ALd)[:, None], lengths(y_NMd)
    a_A1, n_N = (torch.arange(len(z), device=z.device) for z in (x_ALd, y_NMd))
    end_AN = torch.stack(found)[x_length_A1 + y_length_N - 2, a_A1[:, None], n_N, x_length_A1 - 1]
    return end_AN / torch.maximum(x_length_A1, y_length_N)


def shifted(total_ANL: Tensor) -> Tensor:
    """The costs of the token before."""
    return pad(total_ANL, (1, 0), value=FAR)[..., :-1]
