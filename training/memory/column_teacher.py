"""A fixed teacher whose vectors of the training samples were computed once and are read from columns.

The teacher saw each sample as in evaluation: the centre of the picture, where the learner sees a random crop. It may
have another tokenizer, if each sample has one caption.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tercet.eval.embedding.vector_column import VectorManifest
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory, StageContext
from tercet.training.memory.names import fields_read
from tercet.training.memory.vector_columns import VectorColumns


class ColumnTeacher(Memory):
    """Offers a stored vector for each row of the batch, of the fields that terms read. A checkpoint has a fingerprint
    of the files."""

    def __init__(self, folder: str, context: StageContext) -> None:
        key, self.world = f"memories.{context.name}.vectors", context.world
        read = fields_read(context.name, context.config.all_memories, context.config.terms)
        self.rows = {name: field.rows for name, field in context.fields.items() if name in read}
        self.columns = VectorColumns(folder, self.rows, context, key)
        for name, reason in self.columns.lacking.items():
            raise UserError(f"{key}: {folder} has no vectors of `{name}`: {reason}. Set `model` instead of `vectors`")

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        found = self.columns.vectors(batch)
        return {name: gather(batch, name, z_nd, self.rows[name], self.world) for name, z_nd in found.items()}

    def state(self) -> Iterator[SavedTensor]:
        return self.columns.files.state()

    def restore(self, saved: SavedMemory) -> None:
        self.columns.files.restore(saved)


def check_vectors(key: str, folder: str) -> None:
    """Refuses a folder without vectors."""
    try:
        VectorManifest.read(Path(folder))
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
