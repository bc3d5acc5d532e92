"""Options of all softmax objectives: which keys repel an anchor, and how much.

Hard negatives: `hardness_mode` adds the constant `hardness_strength` · cos to the logits of some negatives, so that
the most similar repel more (Lan et al. 2025). `top_k` keeps only the most similar ones (UniME, Gu et al. 2025).
With `own_negatives_only`, other items do not repel at all: an anchor is compared with its own key and its own wrong
captions (the local contrasts of DeGLA, Hu et al. 2025). An item without any has a loss of 0, and counts in the mean.

False negatives: a key that is as similar to the anchor as the anchor's own key is perhaps no negative. `margin` drops
keys above a threshold from the cosine c of the anchor and its own key, which `margin_strategy` defines:

    absolute    c − margin            UniME drops keys above c + 0.1, so margin = −0.1
    relative    c − |c| · margin      e.g. 0.05: what is above 95 % of c

`max_similarity` drops keys that are almost the same as the anchor's own key.

With `references: {guide: NAME}`, all of these cosines are those of another model, as in GISTEmbed (Solatorio 2024).
Samples of one `group`, such as those with equal captions or pictures, never repel each other anyway.

Own keys and declared negatives, such as wrong captions, are never dropped. The names and formulas are those of
sentence-transformers. There, hardness weighs only one direction, and GISTEmbed also contrasts anchors with anchors and
keys with keys. Here such cosines of the guide can drop a key, but rows of one field do not repel each other.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.modality import is_negative
from tercet.models.losses.anchors import Tile
from tercet.models.losses.objective import Objective
from tercet.models.losses.rows import Rows
from tercet.models.losses.tiles import ROUNDING
from tercet.models.term_config import TermConfig

GUIDE = "guide"
Compared = Literal["anchor-key", "anchor-anchor", "key-key"]


@dataclass(frozen=True)
class Softmax(Objective):
    """Options of all softmax objectives."""

    hardness_mode: Annotated[
        Literal["in_batch_negatives", "hard_negatives", "all_negatives"] | None,
        Field(
            description="which negatives get more weight: in_batch_negatives are the keys of other items, a queue, and "
            "wrong captions of other items; hard_negatives are the anchor's own wrong captions"
        ),
    ] = None
    hardness_strength: Annotated[
        float,
        Field(
            ge=0,
            description="how much more: in_batch_negatives 9 (Lan et al. 2025), hard_negatives 5 (EmbeddingGemma 2025)",
        ),
    ] = 0.0
    margin: Annotated[
        float | None,
        Field(
            description="drops keys that are as similar to the anchor as its own key, less this margin; default: 0 "
            "with a guide, and otherwise no key is dropped"
        ),
    ] = None
    margin_strategy: Annotated[
        Literal["absolute", "relative"],
        Field(description="the threshold: absolute, c − margin; relative, c − |c| · margin; c is the own cosine"),
    ] = "absolute"
    margin_between: Annotated[
        tuple[Compared, ...],
        Field(
            description="which cosines may drop a key; anchor-anchor compares both items in the anchor's field, "
            "key-key the own key with the key: use these if cosines within a field are as low as those between fields"
        ),
    ] = ("anchor-key",)
    max_similarity: Annotated[
        float | None,
        Field(description="drops keys whose cosine to the own key is higher, such as 0.95 for near duplicates"),
    ] = None
    top_k: Annotated[
        int | None,
        Field(gt=0, description="how many of the remaining keys repel an anchor, the most similar ones; null: all"),
    ] = None

    own_negatives_only: Annotated[
        bool,
        Field(description="compares an anchor only with its own key and its own wrong captions, not with other items"),
    ] = False

    optional_references: ClassVar[tuple[str, ...]] = (GUIDE,)

    def check(self, term: TermConfig) -> None:
        super().check(term)
        if self.own_negatives_only:
            check_own_negatives(term)
        if self.hardness_strength and self.hardness_mode is None:
            raise UserError(
                f"terms.{term.name}.objective.hardness_strength has no effect without `hardness_mode`; set it to "
                "in_batch_negatives, hard_negatives or all_negatives"
            )

    @property
    def hardest(self) -> int | None:
        return self.top_k

    def log_weights(self, tile: Tile) -> Tensor | None:
        mode = self.hardness_mode
        if mode is None or not self.hardness_strength or (mode == "hard_negatives" and not tile.keys.declared):
            return None
        weight_AK = tile.logits.detach() * (self.hardness_strength / tile.scale)
        if not tile.keys.declared or mode == "all_negatives":
            return weight_AK
        own_AK = tile.anchors.id_N[:, None] == tile.keys.id_N
        return weight_AK.masked_fill(own_AK if mode == "in_batch_negatives" else ~own_AK, 0.0)

    def excluded(self, tile: Tile) -> Tensor | None:
        return tile.anchors.id_N[:, None] != tile.keys.id_N if self.own_negatives_only else None

    def dropped(self, tile: Tile) -> Tensor | None:
        guided = GUIDE in tile.anchors.extra
        margin = 0.0 if guided and self.margin is None and self.max_similarity is None else self.margin
        if guided and GUIDE not in tile.keys.extra:
            return None  # extra negatives that the guide has not seen
        masks = []
        if margin is not None:
            cosine_A1 = own_cosines(tile, guided)
            limit_A1 = cosine_A1 - margin * (cosine_A1.abs() if self.margin_strategy == "relative" else 1)
            compared = [cosines(tile, pair, guided) for pair in self.margin_between]
            # Keys that are the same as the own key are dropped, however their cosines are rounded.
            masks += [cosine_AK > limit_A1 - ROUNDING for cosine_AK in compared if cosine_AK is not None]
        if self.max_similarity is not None:
            cosine_AK = cosines(tile, "key-key", guided)
            masks += [] if cosine_AK is None else [cosine_AK > self.max_similarity]
        return reduce(torch.logical_or, masks) if masks else None


def check_own_negatives(term: TermConfig) -> None:
    """Refuses a direction whose anchors have no wrong captions, so that its loss is always 0, or other negatives."""
    for anchor in (name for name in term.between if not term.shares or term.shares[name]):
        names = term.against.get(anchor, ())
        if not names or not all(map(is_negative, names)):
            raise UserError(
                f"terms.{term.name}.objective.own_negatives_only: anchors of `{anchor}` need wrong captions of their "
                f"own, and nothing else, such as against: {{{anchor}: [text.negative]}}; or leave them out by "
                "`directions`"
            )


def cosines(tile: Tile, pair: Compared, guided: bool) -> Tensor | None:
    """The cosines `[A, K]` of rows of the anchors' items and of the keys' items, by the guide or the learner. None if
    the tile has no such rows."""
    if pair == "anchor-key" and not guided:
        return tile.logits.detach() / tile.scale
    one = tile.own if pair == "key-key" else tile.anchors
    other = tile.partners if pair == "anchor-anchor" else tile.keys
    return None if one is None or other is None else vectors(one, guided) @ vectors(other, guided).T


def own_cosines(tile: Tile, guided: bool) -> Tensor:
    """The cosine of each anchor and its own key `[A, 1]`."""
    assert tile.positive is not None  # each item has one row of each field
    assert tile.own is not None
    if not guided:
        return tile.positive.detach() / tile.scale
    return (vectors(tile.anchors, guided) * vectors(tile.own, guided)).sum(dim=1, keepdim=True)


def vectors(rows: Rows, guided: bool) -> Tensor:
    return rows.extra[GUIDE] if guided else rows.z_Nd.detach()
