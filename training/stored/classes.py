"""The scores that a fixed teacher gave to a list of classes for every view of the data (CED, Dinkel et al. 2024).

The classes are texts. Their vectors are the prototypes of a term with the objective `prototype`, and the learner finds
them as likely as the teacher did: p is the softmax of the stored cosines / temperature, and 0 for all other classes.

Where this differs from CED: its teacher is a classifier of sounds with a probability for each class by itself, and the
student has a linear layer of its own. Here the teacher compares sounds with texts, so probabilities add up to 1, and
the student learns to place its vectors among those of the texts.

Shape letters: n rows of a field on this rank, N of all ranks, T classes, k of them stored.
"""

from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tercet.eval.embedding.view_column import CLASS, CLASSES, SCORE, SEED, VECTORS
from tercet.models.losses.problem import Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather
from tercet.training.memory.memory import StageContext
from tercet.training.stored.views import StoredViews


class StoredClasses(StoredViews):
    """Offers the vectors of the classes, and how likely each is for each row of the batch."""

    def __init__(self, folder: str, temperature: float, context: StageContext) -> None:
        used = {name for term in context.config.terms if term.prototypes == context.name for name in term.between}
        columns = [SEED, *(name + part for name in sorted(used) for part in (CLASS, SCORE))]
        super().__init__(folder, context, sorted(used), columns)
        self.temperature = temperature
        class_Td = load_file(self.folder / CLASSES)[VECTORS].to(self.world.device)
        if class_Td.shape[1] != context.dim:
            raise UserError(
                f"{self.key}: the classes in {self.folder} have {class_Td.shape[1]} dimensions, but the joint space "
                f"has {context.dim}; set model.dim={class_Td.shape[1]}"
            )
        exists_T = torch.ones(len(class_Td), dtype=torch.bool, device=class_Td.device)
        self._prototypes = Prototypes(class_Td, exists_T, class_Td)
        self._likely: dict[str, Tensor] = {}  # of the current batch `[N, T]`

    def _check(self, context: StageContext) -> None:
        if not self.manifest.classes:
            raise UserError(
                f"{self.key}: {self.folder} has vectors and no scores of classes; use the kind `stored_teacher`, or "
                "write a folder with --classes FILE"
            )
        super()._check(context)

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        """No vectors, but reads what `prototypes` returns in this step."""
        for name, field in self.fields.items():
            read = self.stored(batch, name, [name + CLASS, name + SCORE])
            class_nk = torch.from_numpy(read[name + CLASS]).long()
            p_nk = torch.softmax(torch.from_numpy(read[name + SCORE]).float() / self.temperature, dim=1)
            p_nT = torch.zeros(len(p_nk), len(self._prototypes.centroid_Kd)).scatter_(1, class_nk, p_nk)
            self._likely[name] = gather(batch, name, p_nT.to(self.world.device), field.rows, self.world).z_Nd
        return {}

    def prototypes(self, field: str, rows: Rows, frozen: Mapping[str, Rows]) -> tuple[Prototypes, Tensor]:
        return self._prototypes, self._likely[field]
