"""Decides by rules which samples of a score table to train on, and writes the decision as a group of the table.

While it runs, the verdict of each rule is kept in SCORES/.NAME, so that the same command continues after a kill. They
are removed when the decision is complete. It depends on the rules and the scores, and neither on workers nor on memory.
"""

import json
import re
from collections.abc import Sequence
from shutil import rmtree

from xxhash import xxh3_64_hexdigest

from tercet.data_pipelines.curate.database import Engine, Scores
from tercet.data_pipelines.curate.decision import COLUMNS, Decision, StageOfRules
from tercet.data_pipelines.curate.rules.stages import SelectionStage
from tercet.data_pipelines.curate.score_group import MANIFEST, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.curate.selected import Selected, StageCount
from tercet.errors import UserError


def select(
    table: ScoreTable, name: str, stages: Sequence[SelectionStage], workers: int = 1, memory: str = "4GB"
) -> Selected:
    """Writes the decision `name`, or what is missing of it."""
    scores = Scores(table, without=name)
    work = table.folder / f".{name}"
    if work.exists() and not (table.folder / name / MANIFEST).is_file():
        rmtree(work)  # verdicts of a decision that somebody removed before it was complete
    group = table.begin_group(name, _request(scores, stages), COLUMNS)
    found = Selected.read(group.folder)
    if found is None:
        found = _decide(Decision(scores, group, work, Engine(work / "scratch", memory), workers), stages)
        found.save()
        group.finish()
        rmtree(work, ignore_errors=True)
    return found


def _decide(decision: Decision, stages: Sequence[SelectionStage]) -> Selected:
    samples = sum(decision.group.samples.values())
    rows, entered, counts, judged = None, samples, list[StageCount](), list[StageOfRules]()
    for number, stage in enumerate(stages, start=1):
        judged.append(StageOfRules(stage, decision.folder / str(number), rows, entered))
        counts.append(_not_empty(decision, judged[-1]))
        rows, entered = judged[-1].kept_rows, counts[-1].kept
    decision.write(judged)
    for one in judged:
        for at, rule in enumerate(one.stage.rules):
            rule.rule.after(decision.entering(one, at), decision.rows(), decision.group.folder)
    (epoch,) = decision.query(f"SELECT CAST(sum(count) AS BIGINT) AS samples FROM ({decision.rows()})")
    return Selected(decision.group.folder, samples, entered, epoch["samples"], tuple(counts))


def _not_empty(decision: Decision, stage: StageOfRules) -> StageCount:
    count = decision.judge(stage)
    if not count.kept:
        rmtree(decision.group.folder)  # other rules may then use the name
        rmtree(decision.folder)
        dropped = ", ".join(f"`{one.rule}` drops {one.alone:,} of {count.entered:,}" for one in count.rules)
        raise UserError(f"{stage.stage.name}: no sample is kept; loosen a rule ({dropped})")
    return count


def _request(scores: Scores, stages: Sequence[SelectionStage]) -> dict[str, object]:
    """What determines the decision: the rules, and the files of the groups that they read."""
    rules = [[stage.name, [rule.to_json() for rule in stage.rules]] for stage in stages]
    read = {name for stage in stages for rule in stage.rules for name in rule.rule.reads}
    read |= {name for name in scores.groups if re.search(rf"\b{name}\b[\\\"\s]*\.", json.dumps(rules))}
    return {"rules": rules, **{f"group {name}": _digest(one) for name, one in scores.groups.items() if name in read}}


def _digest(group: ScoreGroup) -> str:
    files = [path for source in group.sources for path in group.files(source)]
    facts = [[path.parent.name, path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return xxh3_64_hexdigest(json.dumps(facts).encode())
