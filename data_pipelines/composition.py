"""What the batches of a source are composed of: samples with their neighbours, or clusters. Imports no torch."""

from typing import Literal

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit

EPISODE = "episode"  # in place of a folder: what the last episode of the run found


class NeighborsConfig(Config):
    """Samples share a batch with some of their neighbours in a graph, which are hard negatives.

    The options that say which neighbours are eligible have the names of sentence-transformers' `mine_hard_negatives`.
    """

    graph: str = Field(
        description="folder of a neighbour graph, such as `tercet data mine` writes; or `episode`: the graph of the "
        "run's own vectors, made anew at each episode"
    )
    compare: tuple[str, ...] = Field(
        (),
        max_length=2,
        description="of `graph: episode`: whose vectors are alike, such as [image], or the picture of one sample and "
        "the caption of the other: [image, text]; default: the first modality that episodes embed",
    )
    num_negatives: int = Field(1, gt=0, description="how many neighbours a sample brings into its batch")
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of a batch that is brought in as neighbours; default: every other sample brings "
        "`num_negatives`, so that with 1 it is half",
    )
    range_min: int = Field(0, ge=0, description="leave out as many of the best neighbours: they may be matches")
    range_max: int | None = Field(None, gt=0, description="consider only this many of the best; default: all")
    min_score: float | None = Field(None, description="leave out neighbours with a lower score")
    max_score: float | None = Field(None, description="leave out neighbours with a higher score: they may be matches")
    absolute_margin: float | None = Field(
        None, description="the score must be below that of the sample's own pair by at least this much"
    )
    relative_margin: float | None = Field(
        None, description="as `absolute_margin`, but as a share of the score of the own pair: 0.05 allows up to 95 %"
    )
    sampling_strategy: Literal["random", "top"] = Field(
        "random", description="draw anew among the eligible neighbours each time, or take the best ones"
    )

    @model_validator(mode="after")
    def _compares_at_episodes(self) -> "NeighborsConfig":
        if self.compare and self.graph != EPISODE:
            raise Misfit("compare", f"applies to `graph: {EPISODE}` only; leave it out")
        margin = "absolute_margin" if self.absolute_margin is not None else "relative_margin"
        if self.graph == EPISODE and len(self.compare) < 2 and getattr(self, margin) is not None:
            raise Misfit(
                margin, "needs the score of the sample's own pair; compare two modalities, such as [image, text]"
            )
        return self

    @model_validator(mode="after")
    def _leaves_some(self) -> "NeighborsConfig":
        if self.range_max is not None and self.range_max <= self.range_min:
            raise Misfit("range_max", f"is {self.range_max}, so no rank is left from `range_min` on; raise it")
        most = self.num_negatives / (1 + self.num_negatives)
        if self.share is not None and self.share > most:
            raise Misfit(
                "share",
                f"is {self.share:g}, but samples that bring {self.num_negatives} each fill at most {most:.3g} of a "
                "batch; raise `num_negatives`, or lower the share",
            )
        return self

    def tuples(self, per_batch: int) -> int:
        """How many samples of a batch bring neighbours."""
        most = per_batch // (1 + self.num_negatives)
        return most if self.share is None else min(most, round(self.share * per_batch / self.num_negatives))


class ClustersConfig(Config):
    """Batches follow clusters of samples: each batch comes from one, or has all of them in equal numbers."""

    column: str = Field(
        description="folder of a column with the cluster of each sample, such as `tercet data cluster` writes; or "
        "`episode`: the clusters that a memory of the kind `prototypes` finds anew at each episode"
    )
    of: str = Field(
        "",
        description="of `column: episode`: the memory and whose clusters, such as prototypes.text; default: the first "
        "such memory, and the first modality that episodes embed",
    )
    name: str = Field("label", description="which values of the column: whole numbers; below 0, a sample has none")
    mix: Literal["between_batches", "within_batches"] = Field(
        "between_batches", description="each batch comes from a single cluster, or mixes all clusters"
    )
    weights: Literal["proportional", "equal"] = Field(
        "proportional", description="how often a cluster comes: by its size, or as often as any other"
    )
    min_size: int | None = Field(
        None, gt=0, description="clusters with fewer samples are small; default, and least: what a batch takes from one"
    )
    small: Literal["merge", "drop"] = Field(
        "merge", description="make one cluster of all small ones, or leave their samples out"
    )

    @model_validator(mode="after")
    def _is_of_an_episode(self) -> "ClustersConfig":
        if self.of and self.column != EPISODE:
            raise Misfit("of", f"applies to `column: {EPISODE}` only; leave it out")
        return self

    @model_validator(mode="after")
    def _changes_something(self) -> "ClustersConfig":
        if self.mix == "within_batches" and self.weights == "proportional":
            raise Misfit(
                "weights", "is `proportional`, which mixed batches are without clusters; set it to `equal`, or `mix` "
                "to `between_batches`"
            )  # fmt: skip
        return self


def check_composition(
    source: str, neighbors: NeighborsConfig | None, clusters: ClustersConfig | None, *, stream: bool, mixed: bool,
    ends: bool,
) -> None:  # fmt: skip
    """Refuses neighbours and clusters that cannot have the same places in every batch.

    `mixed`: batches mix several sources. `ends`: some source does not repeat.
    """
    key = f"{source}.{'clusters' if clusters else 'neighbors'}"
    if neighbors and clusters:
        raise Misfit(key, "does not work together with `neighbors`; leave one of them out")
    if (neighbors or clusters) and stream:
        raise Misfit(key, "needs samples with ids: set `mode: index`, or leave it out")
    if clusters and clusters.mix == "between_batches" and mixed:
        raise Misfit(key, "takes each batch from one cluster, but batches mix sources; set data.mix=between_batches")
    if (neighbors or clusters) and mixed and ends:
        raise Misfit(
            key,
            "needs as many samples of this source in every batch, but a source ends; set `repeat: true` on all "
            "sources, or data.mix=between_batches",
        )
