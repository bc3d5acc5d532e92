"""The recipe key `memories`: each memory's config, under the memory's name. Imports no torch.

A memory's config names what it offers to the loss and builds the memory when a stage begins.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from tercet.configs.base import Config, Misfit
from tercet.configs.registry import Registry
from tercet.errors import UserError, did_you_mean
from tercet.modality import MODALITIES, modality_of

if TYPE_CHECKING:
    from tercet.training.config import RunConfig
    from tercet.training.memory.memory import Memory, StageContext

EMA = "ema"  # the name of the memory whose weights evaluation uses

Kind = TypeVar("Kind", bound="type[MemoryConfig]")
_kinds: Registry[type["MemoryConfig"]] = Registry("memory")


class MemoryConfig(Config):
    """The base of every memory's config. Validating it returns the config of the registered `kind`."""

    kind: str = Field("", description="the registered memory; default: its key in the recipe")
    embeds_batches: ClassVar[bool] = False  # a vector for each row of the batch, of any field of a term
    in_joint_space: ClassVar[bool] = False  # these vectors can be compared with those of the model
    offers_prototypes: ClassVar[bool] = False  # clusters of samples, for `prototypes` of a term
    uses_episodes: ClassVar[bool] = False  # computes from the vectors of many samples
    uses_selection: ClassVar[bool] = False  # needs what a selection leaves out

    @property
    def fields_offered(self) -> tuple[str, ...]:
        """The frozen vectors that terms may use; a recipe names them `NAME.FIELD`."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The vectors of other memories that it uses, as `NAME.FIELD`."""
        return ()

    def check(self, name: str, run: "RunConfig") -> None:
        """Raises `Misfit` if the memory cannot work in this run, or in this stage of it."""

    def check_files(self, name: str) -> None:
        """Raises `UserError` if something that the memory reads does not exist."""

    def build(self, context: "StageContext") -> "Memory":
        raise NotImplementedError(f"{type(self).__name__} builds no memory")

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, raw: Any, handler: ModelWrapValidatorHandler["MemoryConfig"]) -> "MemoryConfig":
        if cls is not MemoryConfig or not isinstance(raw, Mapping):
            return handler(raw)
        try:
            kind = _kinds.get(str(raw.get("kind")))
        except UserError as error:
            raise Misfit("kind", f"is an {error}; --plugin FILE.py may bring more") from None
        for key in raw:
            if key not in kind.model_fields:
                raise Misfit(
                    key, f"is not an option of the memory `{raw['kind']}`; {did_you_mean(key, kind.model_fields)}"
                )
        for key, field in kind.model_fields.items():
            if field.is_required() and key not in raw:
                raise Misfit(key, f"is missing: {field.description}")
        return kind.model_validate(raw)


def memory(kind: str) -> Callable[[Kind], Kind]:
    """Registers the config of a kind of memory."""
    return _kinds.register(kind)


class AverageConfig(MemoryConfig):
    """Options of averages of the weights."""

    decay: float = Field(0.999, gt=0, lt=1, description="how much of the average stays at each step")


@memory("ema")
class EmaConfig(AverageConfig):
    """An exponential moving average of the weights. Evaluation uses it in place of the weights."""

    def check(self, name: str, run: "RunConfig") -> None:
        if name != EMA:
            raise Misfit(f"memories.{name}", f"is an average of the weights; a run has one, so name it `{EMA}`")

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.memory.ema import Ema

        return Ema(context.engine, self.decay)


@memory("momentum")
class MomentumConfig(AverageConfig):
    """A momentum encoder (MoCo, He et al. 2020): a moving average of the weights that embeds every batch.

    Terms compare fields with its vectors, `between: [image, momentum.text]`, or learn from them, `references: {teacher:
    momentum}`. A queue keeps them with `encoder: momentum`.
    """

    embeds_batches: ClassVar[bool] = True
    in_joint_space: ClassVar[bool] = True

    last: float | None = Field(
        None,
        gt=0,
        le=1,
        description="the decay at the end of the stage, which rises to it along half a cosine; 1: the copy stops, "
        "as in DINO; default: `decay`",
    )

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.memory.momentum import Momentum

        return Momentum(self.decay, self.decay if self.last is None else self.last, context)


class NegativesConfig(MemoryConfig):
    """Options of memories that offer extra negatives."""

    fields: tuple[str, ...] = Field(min_length=1)

    @property
    def fields_offered(self) -> tuple[str, ...]:
        return self.fields

    def check(self, name: str, run: "RunConfig") -> None:
        check_trained(f"memories.{name}.fields", self.fields, run)


@memory("queue")
class QueueConfig(NegativesConfig):
    """The vectors of the last steps, as extra negatives (MoCo, He et al. 2020): `against: {text: [queue.image]}`."""

    fields: tuple[str, ...] = Field(min_length=1, description="the fields whose vectors are kept, as [image, text]")
    size: int = Field(4096, gt=0, description="how many vectors of each field are kept, over all ranks together")
    encoder: str = Field(
        "", description="the memory of the kind `momentum` whose vectors are kept; default: the trained model's own"
    )
    start: int | float | None = Field(
        None,
        ge=0,
        description="steps before its vectors are used; below 1, a share of the stage's steps. A model that changes "
        "quickly can tell its old vectors from new ones, and training against them too early does harm. Default: 0.5, "
        "and 0 with an `encoder`, which changes slowly",
    )

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(f"{self.encoder}.{field}" for field in self.fields) if self.encoder else ()

    def check(self, name: str, run: "RunConfig") -> None:
        super().check(name, run)
        if self.encoder:
            check_encoder(name, self.encoder, run)

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.memory.vector_queue import VectorQueue, origin_of

        start = (0.0 if self.encoder else 0.5) if self.start is None else self.start
        first = round(start if start >= 1 else start * context.config.steps)
        origin, device = origin_of(context), context.world.device
        return VectorQueue(self.fields, self.size, first, context.dim, origin, device, self.encoder)


@memory("unselected")
class UnselectedConfig(NegativesConfig):
    """The samples that a selection left out of the step, as extra negatives: `against: {image: [unselected.text]}`."""

    uses_selection: ClassVar[bool] = True
    fields: tuple[str, ...] = Field(min_length=1, description="the fields whose vectors are used, as [image, text]")

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.memory.unselected import Unselected

        return Unselected(self.fields, context.dim, context.world.device)


@memory("noise")
class NoiseConfig(NegativesConfig):
    """Random vectors near the anchors, as extra negatives (DCLR, Zhou et al. 2022): `against: {text: [noise.text]}`."""

    fields: tuple[str, ...] = Field(min_length=1, description="the fields whose anchors get noise, as [text]")
    size: int = Field(256, gt=0, description="how many vectors each field has, new in each step")
    ascents: int = Field(4, ge=0, description="how often the vectors move towards the anchors; 0: plain Gaussian noise")
    rate: float = Field(0.1, gt=0, description="how far they move each time; the vectors have length 1")

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.memory.noise import Noise

        seed, device = context.config.seed, context.world.device
        return Noise(self.fields, self.size, self.ascents, self.rate, context.dim, seed, device)


@memory("cartography")
class CartographyConfig(MemoryConfig):
    """How sure the model is of each training sample over the whole run (dataset cartography, Swayamdipta et al. 2020).

    At the end, `columns/NAME` of the run's folder holds `count`, `confidence` and `variability` of every sample.
    """

    term: str = Field("", description="the term whose probabilities are recorded; default: the first one of the stage")

    def check(self, name: str, run: "RunConfig") -> None:
        terms = [term.name for term in run.terms]
        if self.term and terms and self.term not in terms:
            raise Misfit(f"memories.{name}.term", f"`{self.term}` is not trained; {did_you_mean(self.term, terms)}")
        if run.data.mode == "stream":
            raise Misfit(f"memories.{name}", "needs stable sample ids, which a stream lacks; set data.mode=index")

    def build(self, context: "StageContext") -> "Memory":
        from tercet.models.losses import build_term
        from tercet.training.memory.cartography import Cartography

        terms = {term.name: term for term in context.config.terms}
        term = terms[self.term or next(iter(terms))]
        objective = build_term(term)
        if not objective.probabilities:
            raise UserError(
                f"cartography records the probability of positives, and `{term.objective.name}` of the term "
                f"`{term.name}` has none; set `term` of the memory to another term"
            )
        return Cartography(term.name, objective, context.sources, context.world)


@memory("teacher")
class TeacherConfig(MemoryConfig):
    """A fixed model that embeds every batch, for objectives that learn from it: `references: {teacher: NAME}`.

    Its vectors may also come from a folder, computed once.
    """

    model: str = Field(
        "",
        description="the MODEL: a run, an exported folder, open_clip:NAME/TAG, open_clip:NAME/FILE, "
        "laion_clap:FILE or hf:FOLDER. It must take pictures of the same size, captions of the same tokenizer and "
        "sounds of the same rate as the run's",
    )
    vectors: str = Field(
        "",
        description="in place of `model`: a folder of its vectors, which `tercet embed MODEL --data D --format column` "
        "wrote. The model's tokenizer and the size of its pictures may then be other than those of the run",
    )
    embeds_batches: ClassVar[bool] = True

    @model_validator(mode="after")
    def _has_one_origin(self) -> "TeacherConfig":
        if not (self.model or self.vectors):
            raise Misfit("model", "is missing: the MODEL that teaches; or set `vectors` to a folder of its vectors")
        if self.model and self.vectors:
            raise Misfit("vectors", "does not go with `model`: the vectors come from one of them; remove the other")
        return self

    def check(self, name: str, run: "RunConfig") -> None:
        if self.vectors and run.data.mode == "stream":
            raise Misfit(f"memories.{name}.vectors", "is read by sample ids, which a stream lacks; set data.mode=index")

    def check_files(self, name: str) -> None:
        from tercet.training.memory.column_teacher import check_vectors
        from tercet.training.memory.teacher import check_model

        if self.vectors:
            check_vectors(f"memories.{name}.vectors", self.vectors)
        else:
            check_model(f"memories.{name}.model", self.model)

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.memory.column_teacher import ColumnTeacher
        from tercet.training.memory.teacher import Teacher

        return ColumnTeacher(self.vectors, context) if self.vectors else Teacher(self.model, context)


def check_trained(key: str, fields: Iterable[str], run: "RunConfig") -> None:
    """Refuses fields that no term trains in the joint space, because a step has vectors of others only."""
    joint = {name for term in run.terms for name in term.fields if term.vectors_of(name) == name}
    trained = {field for field in joint if modality_of(field) in MODALITIES}
    for field in fields:
        if run.terms and field not in trained:
            hint = did_you_mean(field, trained) if trained else "add a term without a projector"
            raise Misfit(key, f"`{field}` is not trained; {hint}")


def check_encoder(name: str, encoder: str, run: "RunConfig") -> None:
    """Refuses a memory whose `encoder` does not name a momentum encoder."""
    able = [other for other, config in run.memories.items() if config.in_joint_space]
    if encoder not in able:
        hint = did_you_mean(encoder, able) if able else f"add one, as memories: {{{encoder}: {{kind: momentum}}}}"
        raise Misfit(
            f"memories.{name}.encoder", f"is `{encoder}`, but no memory of this name is a momentum encoder; {hint}"
        )
