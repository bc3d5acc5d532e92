"""The memories of a recipe that read what a teacher said about stored views. Imports no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tercet.configs.base import Misfit
from tercet.training.memory.config import MemoryConfig, memory

if TYPE_CHECKING:
    from tercet.training.config import RunConfig
    from tercet.training.memory.memory import Memory, StageContext


class StoredConfig(MemoryConfig):
    """Options of memories that read a folder of stored views."""

    folder: str = Field(description="the folder that `tercet embed MODEL --views RECIPE --out FOLDER` wrote")
    embeds_batches: ClassVar[bool] = True

    def check(self, name: str, run: "RunConfig") -> None:
        if run.data.views is None:
            raise Misfit(f"memories.{name}", "needs the views that its folder was written for; set data.views.count")

    def check_files(self, name: str) -> None:
        from tercet.eval.embedding.view_column import ViewManifest

        ViewManifest.read(Path(self.folder))


@memory("stored_teacher")
class StoredTeacherConfig(StoredConfig):
    """A fixed model whose vectors of all views of the data are stored (MobileCLIP, Vasu et al. 2024).

    `tercet embed MODEL --views RECIPE` writes them, and objectives learn from them: `references: {teacher: NAME}`.
    """

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.stored.teacher import StoredTeacher

        return StoredTeacher(self.folder, context)


@memory("stored_classes")
class StoredClassesConfig(StoredConfig):
    """The scores that a fixed model gave to a list of texts for all views of the data (CED, Dinkel et al. 2024).

    `tercet embed MODEL --views RECIPE --classes FILE` writes them. A term learns them: `{between: [audio], objective:
    prototype, prototypes: NAME}`.
    """

    temperature: float = Field(0.05, gt=0, description="divides the stored cosines; use the teacher's own")
    embeds_batches: ClassVar[bool] = False
    offers_prototypes: ClassVar[bool] = True

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.stored.classes import StoredClasses

        return StoredClasses(self.folder, self.temperature, context)
