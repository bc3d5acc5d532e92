"""The names in a recipe's `memories`, and those of the vectors that memories offer to terms. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tercet.configs.base import Misfit
from tercet.errors import did_you_mean
from tercet.modality import MODALITIES, field_behind, modality_of, of_memory, projector_of
from tercet.models.term_config import TermConfig
from tercet.training.memory.config import MemoryConfig

NAME = re.compile(r"[a-z][a-z0-9_]*")


def with_kinds(raw: Any) -> Any:
    """Memories as a recipe writes them, each with its `kind`. A memory set to null is left out."""
    if not isinstance(raw, Mapping):
        return raw
    given = {name: values for name, values in raw.items() if values is not None}
    return {name: {"kind": name, **values} if isinstance(values, Mapping) else values for name, values in given.items()}


def check_names(names: Mapping[str, MemoryConfig]) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise Misfit(f"memories.{name}", "is not a valid name: use lower-case letters, digits and underscores")
        if name in MODALITIES:
            raise Misfit(f"memories.{name}", f"has the name of a modality; choose another, such as `{name}_memory`")


def check_offered(memories: Mapping[str, MemoryConfig], terms: Sequence[TermConfig]) -> None:
    """Refuses names of vectors and of models in terms that no memory offers."""
    known = offers(memories, terms)
    clustered = [name for name, config in memories.items() if config.offers_prototypes]
    sides = [name for name in known if memories[modality_of(name)].in_joint_space]
    for term in terms:
        for name in term.between:
            if of_memory(name) and name not in sides:
                hint = did_you_mean(name, sides) if sides else "add one, as memories: {momentum: {decay: 0.999}}"
                raise Misfit(f"terms.{term.name}.between", f"has `{name}`, which no momentum encoder embeds; {hint}")
        for anchor, names in term.against.items():
            for name in names:
                if modality_of(name) not in MODALITIES and name not in known:
                    hint = did_you_mean(name, known) if known else "add a memory, as memories: {queue: {fields: […]}}"
                    raise Misfit(f"against.{anchor}", f"of {term.name} has `{name}`, which no memory offers; {hint}")
        check_projected(memories, term)
        check_references(memories, term)
        if term.prototypes and term.prototypes not in clustered:
            hint = did_you_mean(term.prototypes, clustered) if clustered else "add one of the kind `prototypes`"
            raise Misfit(
                f"terms.{term.name}.prototypes",
                f"is `{term.prototypes}`, but no memory of this name has clusters; {hint}",
            )


def check_projected(memories: Mapping[str, MemoryConfig], term: TermConfig) -> None:
    """Refuses vectors of the joint space where a term compares those of its own projector."""
    for anchor, names in term.against.items():
        for name in filter(of_memory, names):
            if not memories[modality_of(name)].in_joint_space and term.vectors_of(name) != name:
                raise Misfit(
                    f"terms.{term.name}.against.{anchor}",
                    f"has `{name}`, vectors of the joint space, but the term projects `{field_behind(name)}`; remove "
                    "it, or list the other fields in `projector.fields`",
                )


def check_references(memories: Mapping[str, MemoryConfig], term: TermConfig) -> None:
    able = [name for name, config in memories.items() if config.embeds_batches]
    for key, name in term.references.items():
        if name not in able:
            hint = (
                did_you_mean(name, able) if able else f"add one, as memories: {{{name}: {{kind: teacher, model: …}}}}"
            )
            raise Misfit(
                f"terms.{term.name}.references.{key}",
                f"is `{name}`, but no memory of this name embeds the rows of a batch; {hint}",
            )


def offers(memories: Mapping[str, MemoryConfig], terms: Sequence[TermConfig] = ()) -> list[str]:
    """The names of all frozen vectors that these memories offer to terms.

    A momentum encoder offers vectors of all fields of the batch that the terms use.
    """
    fields = sorted({name for term in terms for name in term.fields if not of_memory(name)})
    offered = {name: fields if one.in_joint_space else one.fields_offered for name, one in memories.items()}
    return [f"{name}.{field}" for name, those in offered.items() for field in those]


def fields_read(name: str, memories: Mapping[str, MemoryConfig], terms: Sequence[TermConfig]) -> set[str]:
    """The fields whose vectors by the memory `name` terms or other memories use."""
    read = [
        *(one for term in terms for one in term.fields),
        *(one for config in memories.values() for one in config.reads),
    ]
    return {field_behind(one) for one in read if of_memory(one) and modality_of(one) == name}


def projectors_read(
    name: str, field: str, memories: Mapping[str, MemoryConfig], terms: Sequence[TermConfig]
) -> set[str]:
    """The projectors through which terms use what the momentum encoder `name` makes of a field; the empty name is the
    joint space. Other memories have no projectors."""
    if not memories[name].in_joint_space:
        return {""}
    vectors = f"{name}.{field}"
    used = {projector_of(term.vectors_of(one)) for term in terms for one in term.fields if one == vectors}
    return used | {"" for config in memories.values() if vectors in config.reads}
