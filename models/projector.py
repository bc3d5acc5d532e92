"""Projections that only some terms use, beside that into the joint space (Chen et al. 2020).

A loss that asks for more than pictures and captions agree on, such as that two views of a picture are alike, would
shape the joint space itself. Through a projector, it shapes the towers only. SLIP (Mu et al. 2022) and CLIP-rocket
(Fini et al. 2023) project the output of the towers by MLPs with batch norm. Here layer norm takes its place, so that a
vector depends on its own row alone, and not on what else is in the batch, the chunk or the process.

Shapes: n rows, D features of a tower, d dimensions of the projector, K prototypes.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tercet.data_pipelines.seeding import keyed
from tercet.errors import UserError
from tercet.modality import field_behind, modality_of
from tercet.models.losses.objective import Objective
from tercet.models.projector_config import ProjectorConfig
from tercet.models.term_config import TermConfig


class Projector(nn.Module):
    """An MLP for each modality, from its features, or from vectors of the joint space, to unit vectors.

    With prototypes, which all modalities share, the output are the cosines with them. With teachers, the
    output is what an MLP for each makes of the features, side by side in the order of their names, of any length.
    """

    def __init__(self, config: ProjectorConfig, widths: Mapping[str, int], joint: int) -> None:
        super().__init__()
        dim = config.dim or joint
        self.dim, self.reads_vectors, self.unit = config.width(joint), config.input == "vectors", not config.teachers
        self.mlps = nn.ModuleDict(
            {
                modality: SideBySide(width, config) if config.teachers else mlp(width, config, dim)
                for modality, width in widths.items()
            }
        )
        drawn_Kd = torch.randn(config.prototypes, dim) if config.prototypes else None
        self.prototypes = None if drawn_Kd is None else nn.Parameter(normalize(drawn_Kd, dim=1))

    def forward(self, modality: str, features_nD: Tensor) -> Tensor:
        projected: Tensor = self.mlps[modality](features_nD)
        if not self.unit:
            return projected
        z_nd = normalize(projected, dim=-1)
        return z_nd if self.prototypes is None else z_nd @ normalize(self.prototypes, dim=1).T


class SideBySide(nn.Module):
    """An MLP for each teacher."""

    def __init__(self, width: int, config: ProjectorConfig) -> None:
        super().__init__()
        self.mlps = nn.ModuleDict({name: mlp(width, config, dim) for name, dim in sorted(config.teachers.items())})

    def forward(self, features_nD: Tensor) -> Tensor:
        return torch.cat([one(features_nD) for one in self.mlps.values()], dim=-1)


def mlp(width: int, config: ProjectorConfig, dim: int) -> nn.Sequential:
    widths = [width, *[config.hidden] * (config.layers - 1)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        norm = nn.LayerNorm(after) if config.norm == "layer" else nn.Identity()
        layers += [nn.Linear(before, after), norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], dim))


def build_projectors(
    terms: Sequence[TermConfig], widths: Mapping[str, int], joint: int, seed: int
) -> Iterator[tuple[str, Projector]]:
    """Each projector by its name. `widths`: those of the features of each tower. `joint`: that of the joint space.

    The initial weights of a projector depend on its name and the seed, and not on what else the model has.
    """
    for owner in terms:
        if owner.projector is None or owner.projector.of:
            continue
        name, config = owner.name, owner.projector
        uses = [term for term in terms if term.projector_name == name]
        modalities = sorted({modality for term in uses for modality in projected_modalities(term)} & widths.keys())
        given = {modality: joint if config.input == "vectors" else widths[modality] for modality in modalities}
        torch.manual_seed(int(keyed(f"projector {name}", seed).integers(2**63)))
        yield name, Projector(config, given, joint)


def projected_modalities(term: TermConfig) -> set[str]:
    return {modality_of(field_behind(name)) for name in term.compared if term.vectors_of(name) != name}


def owner_of(term: TermConfig, terms: Sequence[TermConfig]) -> tuple[str, ProjectorConfig | None]:
    """The name of the term whose projector this one uses, and its options."""
    name = term.projector_name
    return name, next((one.projector for one in terms if name and one.name == name), None)


def check_prototypes(term: TermConfig, objective: Objective, terms: Sequence[TermConfig]) -> None:
    """Raises a UserError if an objective of learned prototypes has none, or another objective has some."""
    owner, config = owner_of(term, terms)
    learned = config is not None and config.prototypes is not None
    kept = [name for name in term.between if term.vectors_of(name) == name]
    if objective.reads_cosines and (not learned or kept):
        raise UserError(
            f"terms.{term.name}.projector: `{term.objective.name}` needs learned prototypes for all of its fields; add "
            "them, such as projector: {prototypes: 3000}"
        )
    if learned and not (objective.reads_cosines or objective.may_read_cosines):
        raise UserError(
            f"terms.{owner}.projector.prototypes: `{term.objective.name}` of the term `{term.name}` compares vectors, "
            "not cosines with prototypes; use an objective such as swav, or remove them"
        )
    if config is not None and config.teachers and not objective.free_references:
        raise UserError(
            f"terms.{owner}.projector.teachers: `{term.objective.name}` of the term `{term.name}` compares vectors of "
            "length 1; use the objective multi_teacher, or remove them"
        )


def width_of(term: TermConfig, terms: Sequence[TermConfig], joint: int) -> int:
    """The dimensions of the vectors that a term compares."""
    owner, config = owner_of(term, terms)
    if config is None:
        return joint
    width = config.width(joint)
    kept = [name for name in term.compared if term.vectors_of(name) == name]
    if kept and width != joint:
        key = "prototypes" if config.prototypes else "teachers" if config.teachers else "dim"
        raise UserError(
            f"terms.{owner}.projector.{key} is {width}, but the term `{term.name}` also compares `{kept[0]}`, which "
            f"has the {joint} dimensions of the joint space; remove projector.{key}, or project all fields"
        )
    return width
