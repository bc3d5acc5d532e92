"""All terms of a step: each field's vectors gathered once, each term's pair drawn from them, one gradient per row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.config import TermConfig
from tercet.models.losses import Objective, build_objective
from tercet.models.losses.kernel import Pair, Side, contrast


@dataclass(frozen=True)
class Gathered:
    """A field's rows of all ranks, in the order of their items over all ranks."""

    z_Nd: Tensor
    item_N: Tensor
    group_N: Tensor
    rank_N: Tensor


@dataclass(frozen=True)
class Outcome:
    """The losses over all ranks, and the weighted total's gradients: own rows by field, scale and bias by term."""

    loss: Tensor
    losses: dict[str, Tensor]
    rows: dict[str, Tensor]
    temperatures: dict[str, tuple[Tensor, Tensor]]


def gather(batch: Batch, name: str, z_nd: Tensor, world: World) -> Gathered:
    """Every rank holds equally many items, so a field is padded to one row an item and travels in one shape."""
    capacity, field = len(batch), batch.fields[name]
    z_bd = z_nd.new_zeros(capacity, z_nd.shape[1])
    z_bd[: len(z_nd)] = z_nd
    mark_b3 = torch.full((capacity, 3), -1, dtype=torch.int64, device=z_nd.device)
    mark_b3[: len(z_nd), 0] = field.item + world.rank * capacity
    mark_b3[: len(z_nd), 1] = batch.groups[field.item]
    mark_b3[: len(z_nd), 2] = world.rank
    z_Nd, mark_N3 = world.gather(z_bd), world.gather(mark_b3)
    exists_N = mark_N3[:, 0] >= 0
    return Gathered(z_Nd[exists_N], *mark_N3[exists_N].T)


def side(rows: Gathered, other: Gathered, rank: int) -> tuple[Side, Tensor]:
    """The rows whose item has the other field too, and which of this rank's rows they are."""
    paired_N = torch.isin(rows.item_N, other.item_N)
    rank_N = rows.rank_N[paired_N]
    before, own = int((rank_N < rank).sum()), int((rank_N == rank).sum())
    return Side(rows.z_Nd[paired_N], rows.group_N[paired_N], slice(before, before + own)), paired_N[rows.rank_N == rank]


class Terms:
    """What a step trains."""

    def __init__(self, configs: Sequence[TermConfig], tile: int) -> None:
        self.configs, self.tile = tuple(configs), tile
        self.objectives: dict[str, Objective] = {term.name: build_objective(term.objective) for term in configs}

    @torch.no_grad()
    def __call__(
        self,
        batch: Batch,
        vectors: Mapping[str, Tensor],
        temperatures: Mapping[str, tuple[Tensor, Tensor | None]],
        world: World,
    ) -> Outcome:
        """`vectors` holds exactly the rows that exist, by field."""
        fields = {name: gather(batch, name, z_nd, world) for name, z_nd in vectors.items()}
        rows = {name: torch.zeros_like(z_nd) for name, z_nd in vectors.items()}
        losses, slopes = {}, {}
        for term in self.configs:
            one, other = term.between
            x, own_x = side(fields[one], fields[other], world.rank)
            y, own_y = side(fields[other], fields[one], world.rank)
            scale, bias = temperatures[term.name]
            result = contrast(self.objectives[term.name], Pair(x, y, scale, bias, self.tile), world)
            rows[one][own_x] += term.weight * result.x_Ad
            rows[other][own_y] += term.weight * result.y_Ad
            losses[term.name] = result.loss
            slopes[term.name] = (term.weight * result.scale, term.weight * result.bias)
        total = torch.stack([term.weight * losses[term.name] for term in self.configs]).sum()
        return Outcome(total, losses, rows, slopes)
