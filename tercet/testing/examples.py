"""Example problems, on which any objective can be checked and measured.

Most objectives compare two fields of one row per item. They need no entry in `EXAMPLES`: what they read beside the rows
is made from their own `references`, `values`, `columns`, `averages` and `prototypes`. A plugin may add an entry for its
objective: `EXAMPLES["mine"] = Example(between=("image", "text", "audio"))`.

Shapes: N rows of all ranks, S samples, K clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.data_pipelines.seeding import keyed
from tercet.distributed import World
from tercet.modality import is_negative
from tercet.models.losses.objective import Objective, build_objective, objective_names
from tercet.models.losses.problem import LABEL, Problem, Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.term_config import ObjectiveConfig, TermConfig

REFERENCE_DIM = 4
CLUSTERS = 6  # of which the last has no centroid


@dataclass(frozen=True)
class Example:
    """The fields of a term, how many rows of each an item has at most, if several, and options of the objective.

    `numbered`: the fields whose rows have a number each. `columns`: between which numbers the values of samples lie
    that a memory keeps; all are the first value if this is left out. `references`: those that the objective may have.
    `aligned`: whether references together have the dimensions of the rows. `against`, `directions` and `projector` are
    those of the term. `objective`: its name, if the example has another. `tiled`: whether its memory grows linearly
    with the batch.
    """

    between: tuple[str, ...] = ("image", "text")
    against: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    directions: Mapping[str, float] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    numbered: tuple[str, ...] = ()
    columns: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    aligned: bool = False
    projector: Mapping[str, object] = field(default_factory=dict)
    objective: str = ""
    tiled: bool = True

    @property
    def fields(self) -> tuple[str, ...]:
        """Those that the term compares, and its extra negatives."""
        return (*self.between, *(name for names in self.against.values() for name in names))


LISTS = Example(rows={"text": 3}, numbered=("text",))
EXAMPLES = {
    "align_uniform": Example(("image", "text", "audio")),
    "alip": Example(("image", "text", "text.synthetic")),
    "feature_distillation": Example(("image", "text", "audio"), aligned=True),
    "graded_list": LISTS,
    "infonce_guide": Example(objective="infonce", references=("guide",), options={"margin": 0.1}),
    "infonce_hardness": Example(
        objective="infonce",
        options={"hardness_mode": "in_batch_negatives", "hardness_strength": 3.0, "top_k": 8},
    ),
    "infonce_own_negatives": Example(
        against={"image": ("text.negative",)},
        directions={"image": 1.0},
        rows={"text.negative": 3},
        objective="infonce",
        options={"own_negatives_only": True},
    ),
    "isogclr": Example(
        options={"tau": 0.2, "temperatures": [0.1, 0.3]},
        columns={"temperature": (0.1, 0.3), "log_u": (-1.0, 1.0), "slope": (-1.0, 1.0)},
    ),
    "listwise": LISTS,
    "masked_prediction": Example(("image", "momentum.image"), aligned=True),
    "matryoshka": Example(options={"dims": [32, 128]}),
    "multi_positive": Example(rows={"text": 3}),
    "patch_groups": Example(rows={"text": 2}, options={"threshold": 0.3}),
    "multi_teacher": Example(references=("clip", "dino"), aligned=True),
    "poly_view": Example(("image", "text", "audio")),
    "primary_component": Example(options={"components": 4}),
    "prototype": Example(options={"temperature": 0.2}),
    "random_alignment": Example(("image", "text", "audio")),
    "segment_attention": Example(tiled=False),
    "self_distillation": Example(
        ("image", "momentum.image"),
        rows={"image": 3, "momentum.image": 2},
        aligned=True,
        projector={"layers": 1, "prototypes": 24},
    ),
    "sequence": Example(tiled=False),
    "similarity_distillation": Example(references=("teacher_2",)),
    "structure_distillation": Example(("image", "text", "audio")),
    "swav": Example(projector={"layers": 1, "prototypes": 24}),
    "symile": Example(("image", "text", "audio")),
}


def example_of(name: str) -> Example:
    return EXAMPLES.get(name, Example())


def build_example(name: str, **options: object) -> Objective:
    """The objective with the options of its example, and others."""
    example = example_of(name)
    config = {"name": example.objective or name, **example.options, **options}
    return build_objective(ObjectiveConfig.model_validate(config))


def chosen_objectives(names: Sequence[str]) -> list[str]:
    """These objectives or examples, each of which must exist; for `all`, every one."""
    if "all" in names:
        return sorted({*objective_names(), *EXAMPLES})
    for name in names:
        build_example(name)
    return list(names)


@dataclass(frozen=True)
class Beside:
    """What an objective reads of each of so many samples beside their rows. All processes make the same."""

    objective: Objective
    example: Example
    samples: int

    @property
    def references(self) -> tuple[str, ...]:
        return (*self.objective.references, *self.example.references)

    def reference(self, name: str, field: str, width: int) -> Tensor:
        """The unit vectors of another model `[S, 4]`, or its part of `width` if the example is `aligned`."""
        dim = width // max(len(self.references), 1) if self.example.aligned else REFERENCE_DIM
        vectors = keyed(f"{name} of {field}", 0).standard_normal((self.samples, dim))
        return normalize(torch.from_numpy(vectors), dim=1)

    def value(self, name: str) -> Tensor:
        """A number of each sample, from 0 to 2 `[S]`."""
        return 2 * torch.from_numpy(keyed(name, 0).random(self.samples))

    def column(self, name: str, field: str) -> Tensor:
        """A value of each sample that a memory keeps `[S]`."""
        first = self.objective.columns[name]
        if name not in self.example.columns:
            return torch.full((self.samples,), first, dtype=torch.float64)
        low, high = self.example.columns[name]
        return low + (high - low) * torch.from_numpy(keyed(f"{name} of {field}", 0).random(self.samples))

    def label(self, field: str) -> Tensor:
        """The cluster of each sample, −1 if it has none `[S]`."""
        return torch.from_numpy(keyed(f"clusters of {field}", 0).integers(-1, CLUSTERS, size=self.samples))

    def prototypes(self, field: str, like: Tensor) -> Prototypes:
        """The clusters that rows of a field, such as `like`, are compared with."""
        shapes = (CLUSTERS, like.shape[1]), (CLUSTERS, REFERENCE_DIM)
        random = keyed(f"centroids of {field}", 0)
        centroid_Kd, teacher_Ke = (torch.from_numpy(random.standard_normal(shape)).to(like) for shape in shapes)
        exists_K = torch.arange(CLUSTERS, device=like.device) < CLUSTERS - 1
        return Prototypes(normalize(centroid_Kd, dim=1) / 2, exists_K, normalize(teacher_Ke, dim=1))

    def numbers(self, field: str) -> Tensor:
        """A whole number from 0 to 4 for each row that a sample may have `[S, rows]`."""
        shape = self.samples, self.example.rows.get(field, 1)
        return torch.from_numpy(keyed(f"numbers of {field}", 0).integers(5, size=shape)).double()

    def with_extra(self, field: str, rows: Rows) -> Rows:
        """The rows of a field with all that the objective reads of them."""
        by_sample = {
            **{name: self.reference(name, field, rows.z_Nd.shape[-1]) for name in self.references},
            **{name: self.value(name) for name in self.objective.values},
            **{name: self.column(name, field) for name in self.objective.columns},
        }
        id_N = rows.id_N.cpu()
        extra = {name: value_S[id_N] for name, value_S in by_sample.items()}
        if self.objective.prototypes:
            extra[LABEL] = self.label(field)[id_N]
        if field in self.example.numbered:
            extra["number"] = self.numbers(field)[id_N, rows.number_N.cpu()]
        return replace(rows, extra={**rows.extra, **{name: value_N.to(rows.z_Nd) for name, value_N in extra.items()}})

    def problem(
        self,
        fields: Mapping[str, Rows],
        scale: Tensor,
        bias: Tensor | None,
        tile: int,
        world: World,
        seed: int = 0,
        tokens: Mapping[str, Rows] | None = None,
        unnormalised: Mapping[str, Rows] | None = None,
    ) -> Problem:
        """A problem over the rows of all fields of the example, with all that the objective reads."""
        against, directions = self.example.against, self.example.directions
        further = {name for names in against.values() for name in names}
        return Problem(
            {name: self.with_extra(name, rows) for name, rows in fields.items() if name not in further},
            scale,
            bias,
            tile,
            world,
            against={
                anchor: {name: fields[name].negatives(declared=is_negative(name)) for name in names}
                for anchor, names in against.items()
            },
            shares=TermConfig(between=self.example.between, directions=dict(directions)).shares,
            counts=dict(self.example.rows),
            averages={name: torch.tensor(value).to(scale) for name, value in self.objective.averages.items()},
            seed=seed,
            tokens=tokens or {},
            unnormalised=unnormalised or {},
            references=tuple(sorted(self.references)),
            prototypes={
                name: self.prototypes(name, rows.z_Nd) for name, rows in fields.items() if self.objective.prototypes
            },
        )
