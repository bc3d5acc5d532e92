"""A fixed model that embeds every batch beside the one that is trained: a teacher or a guide.

Both must read the same input.
"""

from collections.abc import Iterator, Mapping

from tercet.data_pipelines.fields import FieldSpec
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.multimodal import Multimodal
from tercet.models.same_input import difference
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.batch_encoder import BatchEncoder
from tercet.training.memory.memory import SavedMemory, StageContext
from tercet.training.memory.unchanged import fixed_weights
from tercet.training.pretrained import load_model, pretrained


class Teacher(BatchEncoder):
    """A fixed model. A checkpoint has the fingerprint of the weights."""

    def __init__(self, spec: str, context: StageContext) -> None:
        super().__init__(load_once(spec, context.world), context)
        key = f"memories.{context.name}.model"
        check_intakes(f"{key}: {spec}", self.model, self.fields)
        self.weights = fixed_weights(key, spec, self.model)

    def state(self) -> Iterator[SavedTensor]:
        return self.weights.state()

    def restore(self, saved: SavedMemory) -> None:
        self.weights.restore(saved)


def load_once(spec: str, world: World) -> Multimodal:
    """Loads the model. The first rank downloads it if necessary."""
    first = load_model(spec) if world.first else None
    world.wait_for_all()
    return first or load_model(spec)


def check_model(key: str, spec: str) -> None:
    """Refuses a teacher that does not exist, or whose towers are unknown. Loads no weights."""
    try:
        found = pretrained(spec)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    if not found.model:
        raise UserError(f"{key}: {spec} holds weights without their architecture; name it: open_clip:NAME/{spec}")


def check_intakes(where: str, model: Multimodal, fields: Mapping[str, FieldSpec]) -> None:
    """Refuses a model that cannot read the learner's batches."""
    for name, field in fields.items():
        if field.modality not in model.intakes:
            raise UserError(f"{where} has no {field.modality} tower, which `{name}` needs; use another model")
        fault = difference(model.intakes[field.modality], field.intake)
        if fault:
            raise UserError(f"{where} {fault} of `{name}`; use a model with the input of the run, or change the run's")
