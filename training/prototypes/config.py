"""The memories of a recipe that have clusters: `prototypes` and `clustered_queue`. Imports no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tercet.configs.base import Misfit
from tercet.data_pipelines.composition import EPISODE
from tercet.errors import UserError, did_you_mean
from tercet.modality import MODALITIES, modality_of_vectors
from tercet.models.term_config import TermConfig
from tercet.training.memory.config import MemoryConfig, check_encoder, check_trained, memory

if TYPE_CHECKING:
    from tercet.training.config import RunConfig
    from tercet.training.memory.memory import Memory, StageContext

FEATURES = "features"  # what teaches a field, if it is no field


@memory("prototypes")
class PrototypesConfig(MemoryConfig):
    """Clusters of the samples, found anew at each episode, for terms with the objective `prototype` (ProtoCLIP)."""

    clusters: int = Field(gt=0, description="how many clusters K-means finds")
    taught_by: dict[str, str] = Field(
        {},
        description="whose clusters each field learns: {image: text, text: image}; default: in a term of two fields, "
        "each learns those of the other one",
    )
    features: str | None = Field(
        None,
        description="folder of a column with a vector of each sample by another model; all fields learn its clusters",
    )
    feature: str = Field("vector", description="the name of the vectors in the column `features`")
    dims: int | None = Field(
        None, gt=0, description="cluster only this many principal components of `features`; default: the vectors"
    )
    iterations: int = Field(20, gt=0, description="at most; K-means ends when no sample changes its cluster")
    restarts: int = Field(1, gt=0, description="how often K-means begins anew; the best result is kept")
    start: Literal["k-means++", "random"] = Field(
        "k-means++", description="the first centroids; random samples are quicker for thousands of clusters"
    )
    spherical: bool = Field(False, description="give centroids length 1, so that samples are compared by cosine")

    uses_episodes: ClassVar[bool] = True
    offers_prototypes: ClassVar[bool] = True

    def teachers(self, name: str, terms: Iterable[TermConfig]) -> dict[str, str]:
        """Whose clusters each modality learns in the terms of a stage that use the memory `name`."""
        compared = dict.fromkeys(modality_of_vectors(field) for term in using(name, terms) for field in term.between)
        if self.features:
            return dict.fromkeys(compared, FEATURES)
        if self.taught_by:
            return dict(self.taught_by)
        return dict(zip(compared, reversed(compared), strict=True)) if len(compared) == 2 else {}

    def check(self, name: str, run: "RunConfig") -> None:
        key = f"memories.{name}"
        if self.dims and not self.features:
            raise Misfit(f"{key}.dims", "applies to `features` only; leave it out")
        if self.features and self.taught_by:
            raise Misfit(f"{key}.taught_by", "and `features` are both given; keep one of them")
        terms, teachers = using(name, run.terms), self.teachers(name, run.terms)
        for term in terms:
            for field in term.between:
                if modality_of_vectors(field) not in teachers and term.shares.get(field, 1):
                    raise Misfit(
                        f"{key}.taught_by",
                        f"does not say whose clusters `{field}` learns in the term {term.name}; write it as "
                        "{image: text, text: image}",
                    )
        if run.episodes is None:
            return
        if not terms and name not in [memory for memory, _ in batch_clusters(run).values()]:
            raise Misfit(key, f"is used by no term; add one with `prototypes: {name}`, or set `episodes` to null")
        embedded = run.episodes.embedded(run.terms)
        for field in (*teachers, *teachers.values()):
            if field not in (*embedded, FEATURES):
                raise Misfit(
                    f"{key}.taught_by", f"has `{field}`, which episodes do not embed; {did_you_mean(field, embedded)}"
                )

    def check_files(self, name: str) -> None:
        if self.features and not Path(self.features).is_dir():
            raise UserError(f"memories.{name}.features: the folder {self.features} does not exist")

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.prototypes.memory import ClusterMemory

        teachers = self.teachers(context.name, context.config.terms)
        wanted = {whose for memory, whose in batch_clusters(context.config).values() if memory == context.name}
        return ClusterMemory(self, teachers, wanted, context.sources, context.world)


def batch_clusters(run: "RunConfig") -> dict[str, tuple[str, str]]:
    """By source, if its batches are composed of clusters of the last episode: the memory and whose clusters these
    are."""
    found = {}
    for source, config in run.data.train.items():
        if config.clusters and config.clusters.column == EPISODE:
            name, _, whose = config.clusters.of.partition(".")
            name = name or next((one for one, kind in run.memories.items() if isinstance(kind, PrototypesConfig)), "")
            memory = run.memories.get(name)
            teaches = isinstance(memory, PrototypesConfig) and memory.features
            found[source] = name, whose or (FEATURES if teaches else next(iter(_embedded(run)), ""))
    return found


def check_batch_clusters(run: "RunConfig") -> None:
    """Refuses batches of clusters that no memory finds at episodes."""
    able = {name: config for name, config in run.memories.items() if isinstance(config, PrototypesConfig)}
    for source, (name, whose) in batch_clusters(run).items():
        key = f"data.train.{source}.clusters.of"
        if not able:
            raise Misfit(
                f"data.train.{source}.clusters.column",
                f"is `{EPISODE}`, but no memory finds clusters then; add memories: {{prototypes: {{clusters: 100}}}}",
            )
        if name not in able:
            raise Misfit(key, f"is `{name}`, but no memory of this name finds clusters; {did_you_mean(name, able)}")
        known = [FEATURES] if able[name].features else list(_embedded(run))
        if run.terms and whose not in known:
            raise Misfit(key, f"has `{whose}`, which episodes do not embed; {did_you_mean(whose, known)}")


def _embedded(run: "RunConfig") -> tuple[str, ...]:
    return run.episodes.embedded(run.terms) if run.episodes else tuple(MODALITIES)


def using(name: str, terms: Iterable[TermConfig]) -> list[TermConfig]:
    """The terms that compare rows with the clusters of a memory."""
    return [term for term in terms if term.prototypes == name]


@memory("clustered_queue")
class ClusteredQueueConfig(MemoryConfig):
    """A queue of vectors by a momentum encoder that groups its vectors while it trains (BECLR).

    Terms name it twice: `prototypes: NAME` for its clusters, and `against: {image: [NAME.image]}` for its vectors.
    """

    field: str = Field(description="the field whose vectors are kept and grouped, such as image")
    encoder: str = Field(description="the memory of the kind `momentum` whose vectors are kept")
    clusters: int = Field(gt=0, description="how many clusters the vectors are divided into")
    size: int = Field(8192, gt=0, description="how many vectors are kept, over all ranks together")
    start: int | float = Field(
        0,
        ge=0,
        description="steps before its clusters are used; below 1, a share of the stage's steps. Not before it is full",
    )
    decay: float = Field(0.9, ge=0, lt=1, description="how much of a centroid stays at each step")
    entropy: float = Field(
        0.05, gt=0, description="of the transport that divides new vectors evenly; the higher, the more evenly"
    )

    offers_prototypes: ClassVar[bool] = True

    @property
    def fields_offered(self) -> tuple[str, ...]:
        return (self.field,)

    @property
    def reads(self) -> tuple[str, ...]:
        return (f"{self.encoder}.{self.field}",)

    def check(self, name: str, run: "RunConfig") -> None:
        check_trained(f"memories.{name}.field", [self.field], run)
        check_encoder(name, self.encoder, run)
        if self.clusters > self.size:
            raise Misfit(
                f"memories.{name}.clusters", f"is {self.clusters:,}, more than the vectors that it keeps, `size`"
            )

    def build(self, context: "StageContext") -> "Memory":
        from tercet.training.prototypes.clustered_queue import ClusteredQueue

        return ClusteredQueue(self, context)
