"""A model beside the one that is trained, which embeds every batch without gradient: a teacher, or a momentum encoder.

It gets the same pictures, sounds and tokens as the learner. It is always in evaluation mode: without dropout, and
without the masks of augmented spectrograms.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field
from tercet.modality import projected, tokens_of
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather, own_rows, stays_apart
from tercet.models.multimodal import Multimodal
from tercet.training.memory.memory import Memory, StageContext
from tercet.training.memory.names import fields_read, projectors_read
from tercet.training.memory.tokens import tokens_read


class BatchEncoder(Memory):
    """Offers a vector for each row of the batch, of the fields that terms or other memories read.

    Every rank has the whole model.
    """

    def __init__(self, model: Multimodal, context: StageContext) -> None:
        config, self.world = context.config, context.world
        self.bf16, self.chunk = config.precision == "bf16", config.micro_batch
        read = fields_read(context.name, config.all_memories, config.terms)
        self.fields = {name: field for name, field in context.fields.items() if name in read}
        self.projectors = {
            name: sorted(projectors_read(context.name, name, config.all_memories, config.terms)) for name in self.fields
        }
        self.tokens = tokens_read(context.name, config.terms)
        self.apart = stays_apart(config.terms)
        self.model = model.eval().requires_grad_(False).to(self.world.device)

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        found = {}
        for name, field in self.fields.items():
            embedded = embed_by_parts(self.model, batch.fields[name], self.projectors[name], self.chunk, self.bf16)
            for projector, z_nd in embedded.items():
                vectors = projected(name, projector) if projector else name
                found[vectors] = self._rows(batch, vectors, z_nd, field.rows, projector)
        for name, projector in self.tokens:
            tokens = projected(tokens_of(name), projector) if projector else tokens_of(name)
            z_nLd = tokens_by_parts(self.model, batch.fields[name], projector, self.chunk, self.bf16)
            found[tokens] = self._rows(batch, tokens, z_nLd, self.fields[name].rows, projector)
        return found

    def _rows(self, batch: Batch, name: str, z_nd: Tensor, rows: int, projector: str) -> Rows:
        if projector in self.apart:
            return own_rows(batch, name, z_nd, self.world)
        return gather(batch, name, z_nd, rows, self.world)


@torch.no_grad()
def tokens_by_parts(model: Multimodal, field: Field, projector: str, rows: int | None, bf16: bool) -> Tensor:
    """The tokens of all rows of a field on this rank, `rows` at a time. A rank without rows has none."""
    starts = range(0, max(len(field), 1), rows or max(len(field), 1))
    with torch.autocast(field.values.device.type, torch.bfloat16, enabled=bf16):
        parts = [model.tokens_by(field.rows(start, start + starts.step), projector) for start in starts]
    return torch.cat(parts)[: len(field)]


def embed_in_parts(model: Multimodal, field: Field, rows: int | None, bf16: bool) -> Tensor:
    """The vectors of all rows of a field on this rank, `rows` at a time; None: all at once."""
    return embed_by_parts(model, field, [""], rows, bf16)[""]


@torch.no_grad()
def embed_by_parts(
    model: Multimodal, field: Field, projectors: Sequence[str], rows: int | None, bf16: bool
) -> dict[str, Tensor]:
    """The same through each of these projectors; the empty name is that of the joint space."""
    starts = range(0, len(field), rows or max(len(field), 1))
    with torch.autocast(field.values.device.type, torch.bfloat16, enabled=bf16):
        parts = [model.embed_by(field.rows(start, start + starts.step), projectors) for start in starts]
    widths = {name: model.head.projector(name).dim if name else model.head.dim for name in projectors}
    empty = {name: torch.zeros(0, width, device=field.values.device) for name, width in widths.items()}
    return {name: torch.cat([part[name] for part in parts or [empty]]) for name in projectors}
