"""The config of a term's own projection. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tercet.configs.base import Config, Misfit

SHARING = ("of", "fields")  # the options of a term that shares a projector


class ProjectorConfig(Config):
    """A term's own projection, beside that into the joint space: an MLP for each modality of the term.

    Evaluation does not use it.
    """

    layers: int = Field(2, ge=1, description="how many linear layers, with a norm and a ReLU after each but the last")
    hidden: int = Field(4096, gt=0, description="width between the layers")
    dim: int | None = Field(
        None, gt=0, description="dimensions of its vectors, such as 256; default: those of the joint space"
    )
    teachers: dict[str, Annotated[int, Field(gt=0)]] = Field(
        {},
        description="an MLP for each teacher of `multi_teacher`, in place of one, by the names in `references`, each "
        "with the dimensions of the teacher's vectors: {clip: 512, dino: 768}",
    )
    norm: Literal["layer", "none"] = Field(
        "layer",
        description="norm after each layer but the last. Batch norm is left out: its statistics would depend on the "
        "number of processes and on `micro_batch`",
    )
    prototypes: int | None = Field(
        None,
        gt=0,
        description="how many prototypes it learns: its output is the cosine with each of them, in place of a vector, "
        "for objectives such as swav and self_distillation",
    )
    input: Literal["features", "vectors"] = Field(
        "features",
        description="what it projects: features, the output of the tower (and of its adapter), or vectors, the unit "
        "vectors of the joint space",
    )
    fields: tuple[str, ...] = Field(
        (), description="project only these fields of the term; the others are in the joint space; default: all"
    )
    of: str | None = Field(
        None,
        description="share the projector of this term, which sets its options; `projector: NAME` is short for this",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, raw: Any) -> Any:
        return {"of": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _shares_all_options(self) -> "ProjectorConfig":
        for name, info in type(self).model_fields.items() if self.of else ():
            if name not in SHARING and getattr(self, name) != info.default:
                raise Misfit(name, f"is an option of the projector of `{self.of}`; set it there, and remove it here")
        return self

    @model_validator(mode="after")
    def _puts_out_one_kind(self) -> "ProjectorConfig":
        for name, value in (("dim", self.dim), ("prototypes", self.prototypes)):
            if self.teachers and value is not None:
                raise Misfit(name, "does not work with `teachers`, which says the dimensions of each; remove it")
        return self

    def width(self, joint: int) -> int:
        """How many numbers it puts out for a row. `joint`: dimensions of the joint space."""
        return self.prototypes or sum(self.teachers.values()) or self.dim or joint

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits the options of a projector that is shared."""
        written = self._without_idle_fields(handler)
        return {key: value for key, value in written.items() if not self.of or key in SHARING}
