"""The vectors of a reference, read from columns instead of computed in each step."""

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tercet.eval.embedding.fingerprint import weights_digest
from tercet.eval.embedding.vector_column import VectorManifest
from tercet.training.config import RunConfig
from tercet.training.loop.flops import Flops
from tercet.training.memory.memory import StageContext
from tercet.training.memory.vector_columns import VectorColumns
from tercet.training.selection.reference import Reference, ReferenceModel

KEY = "selection.reference_vectors"


class ColumnReference(Reference):
    """A reference whose vectors are read from columns. A model embeds the fields that the columns lack, if any."""

    def __init__(self, folder: str, spec: str | None, fields: Collection[str], context: StageContext) -> None:
        self.columns = VectorColumns(folder, fields, context, KEY)
        self.memory = self.columns.files
        manifest = self.columns.manifest
        self.spec, self.temperatures = manifest.model, manifest.temperatures
        self.model: ReferenceModel | None = None
        self.flops = Flops({})
        for name, reason in self.columns.lacking.items():
            if spec is None:
                raise UserError(
                    f"{KEY}: {folder} has no vectors of `{name}`: {reason}. Set selection.reference to {self.spec}, "
                    f"too, which then embeds `{name}` in each step"
                )
        if spec is not None and self.columns.lacking:
            self.model = ReferenceModel(spec, self.columns.lacking, context)
            self.flops = self.model.flops
            if weights_digest(self.model.model) != manifest.weights:
                raise UserError(
                    f"{KEY}: {folder} has the vectors of {self.spec}, whose weights differ from those of "
                    f"selection.reference, {spec}; name the same model"
                )

    def vectors(self, batch: Batch) -> dict[str, Tensor]:
        return {**self.columns.vectors(batch), **(self.model.vectors(batch) if self.model else {})}


def check_vectors(folder: str, run: RunConfig) -> None:
    """Raises `UserError` if there are no columns in the folder, or if the run cannot read them."""
    VectorManifest.read(Path(folder))
    if run.data.mode == "stream":
        raise UserError(f"{KEY}: vectors are read by sample ids, which a stream lacks; set data.mode=index")
