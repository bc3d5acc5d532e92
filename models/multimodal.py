"""The whole model: takes a batch, returns unit vectors by field and temperatures by term."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tercet.data_pipelines.sample import Batch, Field, Intake, TextIntake, channels_first, modality_of
from tercet.errors import UserError
from tercet.modality import (
    MODALITIES,
    are_tokens,
    are_unnormalised,
    field_of,
    of_memory,
    projector_of,
    tokens_of,
    unnormalised_of,
)
from tercet.models.config import ModelConfig
from tercet.models.encoders.encoder import Encoder, build_encoder, check_batchnorm
from tercet.models.encoders.image import ImageEncoder
from tercet.models.head import Head, module_name
from tercet.models.losses import build_objective
from tercet.models.projector import build_projectors, check_prototypes, width_of
from tercet.models.reduction import Reduction
from tercet.models.term_config import TermConfig
from tercet.models.tuning.positions import TABLE
from tercet.models.tuning.tune import tune

DIM = 512  # of the joint space, if neither the recipe nor a tower sets it


class Multimodal(nn.Module):
    """One encoder per modality, and the head.

    Every call runs the tower of every field exactly once, on a dummy row if the rank has no rows of the field. Ranks
    that make different calls would hang. All projectors of a field use the same pass.
    """

    def __init__(
        self,
        towers: Mapping[str, Encoder],
        head: Head,
        terms: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        """`outputs`: the names of the vectors and tokens that terms compare, such as `image` and `image@views`."""
        super().__init__()
        self.towers = nn.ModuleDict(towers)
        self.head = head
        self.terms, self.outputs = tuple(terms), tuple(outputs)
        self.fields = tuple(dict.fromkeys(map(field_of, outputs)))
        self.reduction: Reduction | None = None  # for rows of pictures that are `reduced`

    def tower(self, modality: str) -> Encoder:
        tower = self.towers[modality]
        assert isinstance(tower, Encoder)
        return tower

    @property
    def intakes(self) -> dict[str, Intake]:
        return {modality: self.tower(modality).intake for modality in self.towers}

    @property
    def scales(self) -> dict[str, float]:
        """The inverse temperature of each modality and text, where a term of that name compares them."""
        named = {m: [term for term in (f"{m}-text", f"text-{m}") if term in self.terms] for m in self.towers}
        return {m: float(self.head.temperature(found[0])[0].detach()) for m, found in named.items() if found}

    def forward(
        self, batch: Batch, bf16: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor | None]]]:
        """Unit vectors `[n, d]` by field, with one dummy row for an empty field, and (scale, bias) by term.

        Vectors of a term with its own projector have the name `projected(FIELD, TERM)`. Tokens that terms compare are
        unit vectors `[n, L, d]` under the name `tokens_of(FIELD)`, padded with zero vectors. Vectors before
        normalisation have the name `unnormalised_of(FIELD)`. `bf16` runs the towers in bf16, whatever the precision of
        the run.
        """
        vectors: dict[str, Tensor] = {}
        with torch.autocast(batch.ids.device.type, torch.bfloat16) if bf16 else nullcontext():
            for name in self.fields:
                vectors |= self._outputs_of(name, batch.fields[name])
        return vectors, {term: self.head.temperature(term) for term in self.terms}

    @torch.no_grad()
    def check_sizes(self, intakes: Mapping[str, Intake]) -> None:
        """Checks that the towers accept the image sizes of all fields."""
        for name, intake in intakes.items():
            tower = self.tower(modality_of(name))
            if intake == tower.intake:
                continue
            side, patch = intake.shape[0], tower.patch if isinstance(tower, ImageEncoder) else None
            if patch and side % patch:
                raise UserError(
                    f"fields.{name}.size is {side}; set it to a multiple of the tower's patches of {patch} pixels"
                )
            device = next(tower.parameters()).device
            values = torch.zeros(1, *intake.shape, dtype=getattr(torch, intake.dtype), device=device)
            try:
                tower(channels_first(values, intake))
            except (RuntimeError, AssertionError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"fields.{name}.size: the {modality_of(name)} tower does not accept {side} pixels "
                    f"({reason}); remove `size`, or choose a tower that accepts images of several sizes"
                ) from None

    @property
    def tokens(self) -> tuple[str, ...]:
        """The fields of which terms also compare the tokens."""
        return tuple(dict.fromkeys(field_of(name) for name in self.outputs if are_tokens(name)))

    def fitted(self, name: str, theirs: Tensor, shape: torch.Size) -> Tensor:
        """A tensor of weights that were trained with other inputs, in the shape that it has in this model: position
        embeddings are interpolated, stretched or cut. A tensor that does not fit stays as it is."""
        tower = self.tower(name.split(".")[1]) if name.startswith("towers.") and TABLE.search(name) else None
        if tower is None or theirs.shape == shape or theirs.shape[-1] != shape[-1]:
            return theirs
        found = tower.fit_positions(theirs, shape[-2])
        return theirs if found is None else found

    def encode(self, field: Field) -> Tensor:
        """The vectors of a field in the joint space."""
        vectors: Tensor = self.head(field.modality, self._features(field))
        return vectors

    def _features(self, field: Field) -> Tensor:
        if field.reduced is not None:
            return self._at_two_sizes(field, field.reduced)
        features: Tensor = self._cached(field) if field.cached else self.tower(field.modality)(*self._inputs(field))
        return features

    def _cached(self, field: Field) -> Tensor:
        """The stored outputs of the tower, with one dummy row for an empty field."""
        return field.values if len(field) else field.values.new_zeros(1, field.values.shape[1])

    def _at_two_sizes(self, field: Field, reduced_n: Tensor) -> Tensor:
        """Runs the tower once on the rows of full size, and once on those that are reduced, or on dummy rows."""
        assert self.reduction is not None
        full, small = field.where(~reduced_n), field.where(reduced_n)
        (values, *rest), (values_of_small, *_) = self._inputs(full), self._inputs(small)
        tower = self.tower(field.modality)
        full_fD, small_sD = tower(values, *rest), tower(self.reduction(values_of_small), *rest)
        place_n = torch.zeros(max(len(field), 1), dtype=torch.int64, device=full_fD.device)
        place_n[: len(field)][~reduced_n] = torch.arange(len(full), device=full_fD.device)
        place_n[: len(field)][reduced_n] = len(full_fD) + torch.arange(len(small), device=full_fD.device)
        return torch.cat([full_fD, small_sD])[place_n]

    def _inputs(self, field: Field) -> tuple[Any, ...]:
        return field.inputs if len(field) else self.tower(field.modality).dummy(field.values.device)

    def _outputs_of(self, name: str, field: Field) -> dict[str, Tensor]:
        """The vectors and the tokens of a field that terms compare, from one pass."""
        wanted, modality = [output for output in self.outputs if field_of(output) == name], field.modality
        if name not in self.tokens:
            features = self._features(field)
            return {output: self._vectors(output, modality, features) for output in wanted}
        encoded = self.tower(modality).tokens(*self._inputs(field))
        return {
            output: self.head.tokens(modality, encoded.tokens, encoded.counts, projector_of(output))
            if are_tokens(output)
            else self._vectors(output, modality, encoded.vectors)
            for output in wanted
        }

    def _vectors(self, output: str, modality: str, features: Tensor) -> Tensor:
        if are_unnormalised(output):
            return self.head.project(modality, features)
        vectors: Tensor = self.head(modality, features, projector_of(output))
        return vectors

    @torch.no_grad()
    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors for evaluation, by field. Clips may have any length; empty fields are left out."""
        return {name: self.embed_field(rows) for name, rows in batch if len(rows)}

    @torch.no_grad()
    def embed_towers(self, batch: Batch) -> dict[str, Tensor]:
        """What the towers return for evaluation, before the projection, by field."""
        return {
            name: rows.values if rows.cached else self.tower(rows.modality).embed(rows.values, rows.lengths)
            for name, rows in batch
            if len(rows)
        }

    def embed_field(self, field: Field) -> Tensor:
        return self.embed_by(field, [""])[""]

    def tokens_by(self, field: Field, projector: str) -> Tensor:
        """The tokens of a field through this projector, or in the joint space; those of a dummy row if it is empty."""
        encoded = self.tower(field.modality).tokens(*self._inputs(field))
        return self.head.tokens(field.modality, encoded.tokens, encoded.counts, projector)

    def embed_by(self, field: Field, projectors: Sequence[str]) -> dict[str, Tensor]:
        """The unit vectors of a field by the name of the projector; the empty name is that of the joint space."""
        cached = field.cached
        features = field.values if cached else self.tower(field.modality).embed(field.values, field.lengths)
        return {name: self.head(field.modality, features, name) for name in projectors}

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        intake = self.tower("text").intake
        assert isinstance(intake, TextIntake)
        device = next(self.parameters()).device
        tokens = intake.tokenize(texts).to(device)
        return self.embed_field(Field("text", tokens, torch.arange(len(tokens), device=device)))


def build_model(config: ModelConfig, terms: Sequence[TermConfig], seed: int) -> Multimodal:
    """A new model for these terms. Its initial weights depend only on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = {modality: build_encoder(modality, tower) for modality, tower in config.towers.items()}
        for modality, tower in config.towers.items():
            if tower.grad_checkpointing:
                towers[modality].checkpoint_gradients()
        widths = {modality: None if tower.projects else tower.width for modality, tower in towers.items()}
        width, objectives = joint_width(config, towers), {term.name: build_objective(term.objective) for term in terms}
        for term in terms:
            check_prototypes(term, objectives[term.name], terms)
            objectives[term.name].check_width(term.name, width_of(term, terms, width))
        head = Head(widths, width, objectives)
        tune(towers, head, config)
        features = {modality: tower.width for modality, tower in towers.items()}
        for name, projector in build_projectors(terms, features, width, seed):
            head.projectors[module_name(name)] = projector
    for field in sorted({field for term in terms for field in term.fields if modality_of(field) in MODALITIES}):
        modality = modality_of(field)
        if modality not in towers:
            raise UserError(f"a term uses `{field}`, but the model has no {modality} tower; add model.{modality}")
    return Multimodal(towers, head, [term.name for term in terms], outputs_of(terms))


def outputs_of(terms: Sequence[TermConfig]) -> list[str]:
    """The names of all vectors and tokens that terms compare, of fields of the batch."""
    vectors = {term.vectors_of(name) for term in terms for name in term.fields if modality_of(name) in MODALITIES}
    tokens, unnormalised = set(), set()
    for term in terms:
        kind = build_objective(term.objective)
        tokens |= {term.vectors_of(tokens_of(one)) for one in kind.tokens(term.between) if not of_memory(one)}
        unnormalised |= {unnormalised_of(field) for field in term.between if kind.unnormalised}
    return [*sorted(vectors), *sorted(tokens), *sorted(unnormalised)]


@torch.no_grad()
def check_trainable(model: Multimodal, config: ModelConfig) -> None:
    """Rejects towers that can be evaluated but not trained, and those without the tokens that a term compares."""
    for modality, config_of_tower in config.towers.items():
        check_batchnorm(model.tower(modality), config_of_tower)
    for modality in sorted({modality_of(field) for field in model.tokens}):
        tower = model.tower(modality)
        if config.towers[modality].patch_dropout:
            raise UserError(
                f"model.{modality}.patch_dropout: a term compares the tokens of pictures, and some would be left out; "
                "set it to 0"
            )
        tower.tokens(*tower.dummy(next(tower.parameters()).device))


def joint_width(config: ModelConfig, towers: Mapping[str, Encoder]) -> int:
    """`dim`, or the width that the towers project into, or `DIM`. All towers that project must have this width, unless
    an MLP follows them."""
    alone = {modality for modality, tower in config.towers.items() if tower.projection is None}
    projected = {name: tower.width for name, tower in towers.items() if tower.projects and name in alone}
    if config.dim is None and len(set(projected.values())) > 1:
        widths = ", ".join(f"{name} `{config.towers[name].encoder}` {width}" for name, width in projected.items())
        raise UserError(
            f"the towers project into spaces of different dimensions ({widths}); choose towers of one width"
        )
    width = config.dim or next(iter(projected.values()), DIM)
    for modality, theirs in projected.items():
        if theirs != width:
            encoder = config.towers[modality].encoder
            raise UserError(
                f"model.dim is {width}, but the {modality} tower `{encoder}` projects into {theirs} dimensions; "
                f"remove model.dim, or set it to {theirs}"
            )
    return width
