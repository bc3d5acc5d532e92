"""A model beside the one that is trained, which embeds every batch without gradient: a teacher, or a momentum encoder.

It gets the same pictures, sounds and tokens as the learner. It is always in evaluation mode: without dropout, and
without the masks of augmented spectrograms.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tercet.data_pipelines.sample import Batch, Field
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather
from tercet.models.multimodal import Multimodal
from tercet.training.memory.memory import Memory, StageContext
from tercet.training.memory.names import fields_read


class BatchEncoder(Memory):
    """Offers a vector for each row of the batch, of the fields that terms or other memories read.

    Every rank has the whole model.
    """

    def __init__(self, model: Multimodal, context: StageContext) -> None:
        config, self.world = context.config, context.world
        self.bf16, self.chunk = config.precision == "bf16", config.micro_batch
        read = fields_read(context.name, config.all_memories, config.terms)
        self.fields = {name: field for name, field in context.fields.items() if name in read}
        self.model = model.eval().requires_grad_(False).to(self.world.device)

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        return {name: self._embed(batch, name, field.rows) for name, field in self.fields.items()}

    def _embed(self, batch: Batch, name: str, rows: int) -> Rows:
        """The vectors of all rows of a field of all ranks, in the same order as the learner's."""
        z_nd = embed_in_parts(self.model, batch.fields[name], self.chunk, self.bf16)
        return gather(batch, name, z_nd, rows, self.world)


@torch.no_grad()
def embed_in_parts(model: Multimodal, field: Field, rows: int | None, bf16: bool) -> Tensor:
    """The vectors of all rows of a field on this rank, `rows` at a time; None: all at once."""
    starts = range(0, len(field), rows or max(len(field), 1))
    parts = [torch.zeros(0, model.head.dim, device=field.values.device)]
    with torch.autocast(field.values.device.type, torch.bfloat16, enabled=bf16):
        parts += [model.embed_field(field.rows(start, start + starts.step)) for start in starts]
    return torch.cat(parts)
