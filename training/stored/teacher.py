"""A fixed teacher whose vectors of all views of the data are stored (MobileCLIP, Vasu et al. 2024)."""

from collections.abc import Mapping

import torch
from torch.nn.functional import normalize

from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tercet.eval.embedding.vector_column import CAPTION
from tercet.eval.embedding.view_column import SEED
from tercet.modality import modality_of
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather
from tercet.training.memory.memory import StageContext
from tercet.training.memory.names import fields_read
from tercet.training.stored.views import StoredViews


class StoredTeacher(StoredViews):
    """Offers a stored vector for each row of the batch, of the fields that terms read."""

    def __init__(self, folder: str, context: StageContext) -> None:
        read = fields_read(context.name, context.config.all_memories, context.config.terms)
        modalities = {modality_of(name) for name in read}
        marks = {CAPTION if name == "text" else SEED for name in modalities}
        super().__init__(folder, context, sorted(read), sorted(modalities | marks))

    def _check(self, context: StageContext) -> None:
        if self.manifest.classes:
            raise UserError(
                f"{self.key}: {self.folder} has scores of classes and no vectors; use the kind `stored_classes`, or "
                "write a folder without --classes"
            )
        super()._check(context)

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        found = {}
        for name, field in self.fields.items():
            z_nd = torch.from_numpy(self.stored(batch, name, [field.modality])[field.modality]).to(self.world.device)
            found[name] = gather(batch, name, normalize(z_nd.float(), dim=1), field.rows, self.world)
        return found
