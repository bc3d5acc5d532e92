"""Patch groups: a caption, and the patches of its picture that show what it says (DreamLIP, Zheng et al. 2024).

The cosines of a caption t and the patches v_m of its own picture become weights: from 0 for the least cosine to 1 for
the greatest; those below `threshold` are 0. The weighted mean of the patches is the caption's group:

    g = Σ_m a_m v_m / ‖Σ_m a_m v_m‖,    a_m = (⟨t, v_m⟩ − least) / (greatest − least), or 0 below the threshold

The loss is InfoNCE between all captions and all groups of the batch, in both directions. An item may have several
captions, each with its own group of patches; they repel each other, too. Captions of other samples of the same `group`
do not. The weights and the patches get a gradient, as in the authors' code.

Every rank forms the groups of its own captions; then the tiled kernel compares rows of all ranks.

Shapes: N captions of all ranks, A of them this rank's own, L patches of a picture, d dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from tercet.modality import tokens_of
from tercet.models.losses.anchors import Tile
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.pairs import losses_of_items, solve_pairs
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows

LEAST = 1e-10  # the range of cosines that counts as none
SAMPLE, GROUP = "sample", "group"  # in the `extra` of rows, whose items are single captions


@objective("patch_groups")
class PatchGroups(Objective):
    """InfoNCE of captions with the patches of their picture that match them best (DreamLIP, Zheng et al. 2024).

    The first field of the term has tokens, such as image; the second has captions, such as several sentences of each.
    """

    threshold: Annotated[
        float, Field(ge=0, lt=1, description="patches do not count whose weight, from 0 to 1, is lower")
    ] = 0.1

    refused: ClassVar[tuple[str, ...]] = ("against",)

    def tokens(self, between: Sequence[str]) -> Sequence[str]:
        return between[:1]

    def dropped(self, tile: Tile) -> Tensor:
        """Captions of other samples of the anchor's group."""
        one, other = tile.anchors.extra, tile.keys.extra
        return (one[GROUP][:, None] == other[GROUP]) & (one[SAMPLE][:, None] != other[SAMPLE])

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        formed = Formed.of(problem, self.threshold)
        if not len(formed.captions):
            return whole
        found = solve_pairs(self, formed.problem(problem))
        slope_Ad, text_Ad = (found.rows[name] for name in problem.fields)
        patch_slope, caption_slope = torch.autograd.grad(formed.group_Ad, (formed.patch_PLd, formed.text_Ad), slope_Ad)
        first, second = problem.fields
        whole.rows[tokens_of(first)] += patch_slope
        whole.rows[second][formed.own_n] += caption_slope + text_Ad
        whole.add(replace(found, rows={}))
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        """An item's loss is the sum over its captions, so that the mean over items is that of the term."""
        formed = Formed.of(problem, self.threshold)
        for _, loss_N, weight in losses_of_items(self, formed.problem(problem)) if len(formed.captions) else ():
            items, index_N = torch.unique(formed.captions.item_N, return_inverse=True)
            loss = loss_N.new_zeros(len(items)).index_add_(0, index_N, loss_N)
            yield items, loss * len(items) / len(loss_N), weight


@dataclass(frozen=True)
class Formed:
    """The captions whose item has patches, and the group of each.

    `group_Ad` are those of own captions, with a graph to the own patches `patch_PLd` and captions `text_Ad`. `own_n`:
    which of this rank's rows of the second field these captions are.
    """

    captions: Rows
    group_Nd: Tensor
    group_Ad: Tensor
    patch_PLd: Tensor
    text_Ad: Tensor
    own_n: Tensor

    @staticmethod
    def of(problem: Problem, threshold: float) -> "Formed":
        first, second = problem.fields
        patches, every = problem.tokens[first], problem.fields[second]
        chosen_N = torch.isin(every.item_N, patches.item_N)
        captions = every.pick(chosen_N)
        patch_PLd, text_Ad = (rows.z_Ad.detach().requires_grad_() for rows in (patches, captions))
        row_A = torch.searchsorted(patches.item_N[patches.own], captions.item_N[captions.own])  # the item's first row
        with torch.enable_grad():
            group_Ad = grouped(patch_PLd[row_A], text_Ad, threshold)
        group_Nd = torch.zeros_like(captions.z_Nd)
        group_Nd[captions.own] = group_Ad.detach()
        return Formed(captions, problem.world.sum(group_Nd), group_Ad, patch_PLd, text_Ad, chosen_N[every.own])

    def problem(self, problem: Problem) -> Problem:
        """Groups and captions as pairs, each an item of its own."""
        rows, number_N = self.captions, torch.arange(len(self.captions), device=self.group_Nd.device)
        alone = replace(rows, item_N=number_N, group_N=number_N, extra={SAMPLE: rows.item_N, GROUP: rows.group_N})
        first, second = problem.fields
        fields = {first: replace(alone, z_Nd=self.group_Nd), second: alone}
        return replace(problem, fields=fields, counts={}, paired={}, tokens={})


def grouped(patch_ALd: Tensor, text_Ad: Tensor, threshold: float) -> Tensor:
    """The group of each caption `[A, d]`. Padding is zero vectors."""
    cosine_AL = torch.einsum("ALd,Ad->AL", patch_ALd, text_Ad)
    exists_AL = (patch_ALd != 0).any(dim=2)
    least_A1 = cosine_AL.masked_fill(~exists_AL, torch.inf).amin(dim=1, keepdim=True)
    greatest_A1 = cosine_AL.masked_fill(~exists_AL, -torch.inf).amax(dim=1, keepdim=True)
    range_A1 = greatest_A1 - least_A1
    weight_AL = torch.where(range_A1 > LEAST, (cosine_AL - least_A1) / range_A1.clamp(min=LEAST), 1.0)
    weight_AL = weight_AL.masked_fill(~exists_AL | (weight_AL < threshold), 0.0)
    return normalize(torch.einsum("AL,ALd->Ad", weight_AL, patch_ALd), dim=1)
