"""The verdicts of all rules of a selection, and the decision that follows from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.data_pipelines.curate.database import Engine, Part, Scores, quoted
from tercet.data_pipelines.curate.entering import Entering
from tercet.data_pipelines.curate.rules.stages import SelectionStage
from tercet.data_pipelines.curate.score_group import PART, Columns, ScoreColumn, ScoreGroup
from tercet.data_pipelines.curate.selected import StageCount
from tercet.data_pipelines.progress import with_progress

COLUMNS: Columns = {
    "keep": ScoreColumn("bool", "whether the sample is trained on"),
    "count": ScoreColumn("int32", "how often it is in an epoch; 0 if it is dropped"),
    "probability": ScoreColumn("double", "with which the rules keep it; 0 or 1 without rules that draw"),
    "why": ScoreColumn("string", "the first rule that drops it; null if it is kept"),
}


@dataclass(frozen=True)
class StageOfRules:
    """A stage, what entered it, and the folder with the verdicts of its rules. `rows`: null for all samples."""

    stage: SelectionStage
    folder: Path
    rows: Path | None
    entered: int

    def rule_folder(self, at: int) -> Path:
        return self.folder / f"{at + 1}-{self.stage.rules[at].name}"

    def verdict(self, at: int) -> Path:
        return self.rule_folder(at) / "verdict.parquet"

    @property
    def kept_rows(self) -> Path:
        return self.folder / "kept.parquet"

    def together(self, inside: str = "true") -> str:
        """A query: a bit for each rule that drops the sample, and the products of probabilities and counts."""
        places = range(len(self.stage.rules))
        each = " UNION ALL ".join(
            f"SELECT *, {at} AS rule FROM read_parquet({quoted(self.verdict(at))}) WHERE {inside}" for at in places
        )
        products = (
            " * ".join(f"max({name}) FILTER (rule = {at})" for at in places) + f" AS {name}"
            for name in ("probability", "count")
        )
        bits = "bit_or(CASE WHEN keep THEN 0 ELSE CAST(1 AS BIGINT) << rule END) AS dropped"
        return f"SELECT source, id, {bits}, {', '.join(products)} FROM ({each}) GROUP BY source, id"


@dataclass(frozen=True)
class Decision:
    """A group of the table that is being written. `folder`: where the verdicts are kept until it is complete."""

    scores: Scores
    group: ScoreGroup
    folder: Path
    engine: Engine
    workers: int

    def entering(self, stage: StageOfRules, at: int) -> Entering:
        folder, rule = stage.rule_folder(at), stage.stage.rules[at]
        folder.mkdir(parents=True, exist_ok=True)
        return Entering(self.scores, stage.rows, stage.entered, folder, rule.label, self.engine, self.workers)

    def judge(self, stage: StageOfRules) -> StageCount:
        """Applies the rules of a stage, except those that an earlier call applied."""
        for at, rule in enumerate(stage.stage.rules):
            if not stage.verdict(at).is_file():
                entering = self.entering(stage, at)
                entering.write(rule.rule.decide(entering), stage.verdict(at))
        if not stage.kept_rows.is_file():
            self._all().write(f"SELECT source, id FROM ({stage.together()}) WHERE dropped = 0", stage.kept_rows)
        found = self.query(f"SELECT dropped, count(*) AS samples FROM ({stage.together()}) GROUP BY dropped")
        return StageCount.of(stage.stage, stage.entered, {row["dropped"]: row["samples"] for row in found})

    def write(self, stages: Sequence[StageOfRules]) -> None:
        """A part at a time. Verdicts are sorted, so that DuckDB reads the rows of the part alone."""
        for source in self.group.samples:
            missing = self.group.missing(source)
            for ids in with_progress(missing, "writing the decision", len(missing)):
                sql = self._of_part(Part(source, ids.start), stages)
                self.group.write(source, ids, self._all().query(f"{sql} ORDER BY id"))

    def rows(self) -> str:
        """A query for the whole decision, once it is written."""
        return " UNION ALL ".join(
            f"SELECT {quoted(name)} AS source, * FROM read_parquet({quoted(self.group.glob(name))})"
            for name in self.group.sources
        )

    def query(self, sql: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self._all().query(sql).to_pylist()
        return found

    def _of_part(self, part: Part, stages: Sequence[StageOfRules]) -> str:
        keyed = [f"{name}.key" for name in self.scores.keyed()]
        samples = self._all().select({"key": f"coalesce({', '.join(keyed)}, NULL)" if keyed else "NULL"}, part)
        inside = f"source = {quoted(part.source)} AND id BETWEEN {part.first} AND {part.first + PART - 1}"
        joined = "".join(
            f" LEFT JOIN ({stage.together(inside)}) AS stage{number} USING (source, id)"
            for number, stage in enumerate(stages)
        )
        reasons = " ".join(
            f"WHEN (stage{number}.dropped >> {at}) & 1 = 1 THEN {quoted(reason)}"
            for number, stage in enumerate(stages)
            for at, reason in enumerate(_reasons(stage.stage, len(stages)))
        )
        products = (
            " * ".join(f"coalesce(stage{number}.{name}, 1)" for number in range(len(stages))) + f" AS {name}"
            for name in ("probability", "count")
        )
        values = f"SELECT id, key, CASE {reasons} END AS why, {', '.join(products)} FROM ({samples}){joined}"
        count = "CASE WHEN why IS NULL THEN count ELSE 0 END AS count"
        return f"SELECT id, key, why IS NULL AS keep, {count}, probability, why FROM ({values})"

    def _all(self) -> Entering:
        """All samples of the table."""
        return Entering(self.scores, None, 0, self.folder, self.group.name, self.engine)


def _reasons(stage: SelectionStage, stages: int) -> Iterator[str]:
    return (rule.label if stages == 1 else f"{stage.name}: {rule.label}" for rule in stage.rules)
