"""Which tokens terms compare that a momentum encoder makes."""

from collections.abc import Sequence

from tercet.modality import field_behind, modality_of, of_memory, projector_of, tokens_of
from tercet.models.losses.objective import build_objective
from tercet.models.term_config import TermConfig


def tokens_read(memory: str, terms: Sequence[TermConfig]) -> list[tuple[str, str]]:
    """The fields whose tokens by this memory terms compare, each with the name of a projector, empty for none."""
    found = {
        (field_behind(name), projector_of(term.vectors_of(tokens_of(name))))
        for term in terms
        for name in build_objective(term.objective).tokens(term.between)
        if of_memory(name) and modality_of(name) == memory
    }
    return sorted(found)
