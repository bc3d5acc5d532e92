"""The sections of a card that describe a model and its run. Each returns lines of Markdown."""

import json
from collections.abc import Iterator

from tercet.data_pipelines.sample import AudioIntake, ImageIntake, Intake, TextIntake
from tercet.eval.tables.formatting import heading, interval, shown
from tercet.eval.tables.table import ResultTable, tabulate
from tercet.models.losses.about import about
from tercet.models.multimodal import Multimodal
from tercet.models.space import SpaceConfig
from tercet.training.card.markdown import UNKNOWN, table
from tercet.training.card.run import RunFacts, SourceFacts, label_of
from tercet.training.config import RunConfig
from tercet.training.memory.config import EMA, EmaConfig

CURATED = ("list", "part", "templates", "captions", "min_words", "neighbors", "clusters", "sound_pairs", "sidecar")


def model_section(model: Multimodal, config: SpaceConfig) -> list[str]:
    rows = []
    for modality, tower in config.model.towers.items():
        weights = sum(one.numel() for one in model.tower(modality).parameters())
        rows.append((modality, f"`{tower.encoder}`", f"{weights / 1e6:,.2f} M", _input(model.tower(modality).intake)))
    line = f"All towers embed into one space of {model.head.dim} dimensions; vectors have length 1."
    return ["## Model", "", line, "", *table(("tower", "encoder", "parameters", "input"), rows)]


def _input(intake: Intake) -> str:
    if isinstance(intake, ImageIntake):
        return f"RGB pictures of {intake.size[0]} × {intake.size[1]} pixels ({intake.resize}, {intake.interpolation})"
    if isinstance(intake, AudioIntake):
        return f"mono sound at {intake.rate:,} Hz, in windows of {intake.seconds:g} s"
    return "text" if isinstance(intake, TextIntake) else f"values of shape {list(intake.shape)}"


def objective_section(model: Multimodal, config: SpaceConfig) -> list[str]:
    rows = []
    for term in config.terms:
        found = about(term.objective.name)
        scale, bias = model.head.temperature(term.name)
        words = f"{found.summary.rstrip('.')} ({found.source})" if found.source else found.summary
        trained = f"{float(scale.detach()):.4g}" + ("" if bias is None else f", bias {float(bias.detach()):.4g}")
        options = term.objective.model_extra or {}
        named = term.objective.name + (f" {options}" if options else "")
        rows.append((term.name, ", ".join(term.between), named, f"{term.weight:g}", trained, words))
    head = ("term", "compares", "objective", "weight", "inverse temperature", "in words")
    return ["## Objective", "", *table(head, rows)]


def data_section(run: RunFacts | None) -> list[str]:
    if run is None:
        return ["## Data", "", f"What the model was trained on is {UNKNOWN}: it was not exported from a run.", ""]
    rows = [(one.name, "training" if one.training else "evaluation", one.label, *_counted(one)) for one in run.sources]
    lines = table(("source", "used for", "data", "samples", "fingerprint", "drawn in training"), rows)
    if any(one.samples is None for one in run.sources):
        lines += ["Where a number is missing, the data are no longer where the run read them.", ""]
    note = "A fingerprint changes when the samples do. Who collected the data, when and how: " + UNKNOWN + "."
    return ["## Data", "", *lines, note, ""]


def _counted(source: SourceFacts) -> tuple[object, ...]:
    return (
        None if source.samples is None else f"{source.samples:,}",
        None if source.fingerprint is None else f"`{source.fingerprint[:16]}`",
        None if source.drawn is None else f"{source.drawn:,}",
    )


def curation_section(run: RunFacts | None) -> list[str]:
    if run is None:
        return ["## Curation", "", f"Whether and how the data were filtered is {UNKNOWN}.", ""]
    lines = []
    for source in run.sources:
        chosen = {key: value for key, value in source.settings.items() if key in CURATED and source.training}
        if chosen:
            lines.append(f"- `{source.name}`: {_in_words(chosen)}")
    if run.config.selection:
        written = run.config.selection.model_dump(mode="json", exclude_defaults=True)
        lines.append(f"- selection while training: {_in_words(written)}")
    if changed := run.config.data.model_dump(mode="json", exclude_defaults=True).get("augment"):
        lines.append(f"- augmentation: {_in_words(changed)}")
    if not lines:
        lines = ["The recipe selects and filters nothing."]
    return ["## Curation", "", *lines, "", f"What was done to the data before this run is {UNKNOWN}.", ""]


def _in_words(values: object) -> str:
    """Settings on one line, as YAML also reads them."""
    return f"`{json.dumps(values, ensure_ascii=False).replace('`', chr(39))}`"


def training_section(run: RunFacts | None, averaged: bool) -> list[str]:
    if run is None:
        return ["## Training", "", f"How the model was trained is {UNKNOWN}.", ""]
    config, progress = run.stage, run.progress
    optimizer = config.optimizer
    facts = {
        "steps": f"{progress.step:,}",
        "samples trained on": f"{progress.samples:,}",
        "batch size": f"{config.batch_size:,}",
        "optimizer": f"{optimizer.name}, peak learning rate {optimizer.lr:g}, betas {optimizer.betas[0]:g} and "
        f"{optimizer.betas[1]:g}, weight decay {optimizer.weight_decay:g}",
        "schedule": f"{config.schedule.name}, warm-up {config.schedule.warmup:g}",
        "precision": config.precision,
        "weights in this folder": _weights(config, averaged),
        "initial weights": _initial(config),
        "seed": str(config.seed),
    }
    if run.config.stages:
        facts["stages"] = f"{len(run.config.stages)}, of {', '.join(f'{one:,}' for one in run.config.lengths)} steps"
    if progress.plan:
        facts["digest of the order of samples"] = f"`{progress.plan}`"
    return ["## Training", "", *table(("what", "value"), facts.items())]


def _weights(config: RunConfig, averaged: bool) -> str:
    average = config.all_memories.get(EMA)
    if average is None:
        return "those of the last step"
    assert isinstance(average, EmaConfig)
    return f"averages over the steps, decay {average.decay:g}" if averaged else "those of the last step, not averages"


def _initial(config: RunConfig) -> str:
    if config.init:
        return f"`{label_of(config.init)}`"
    named = [
        f"{name}: `{one.options['pretrained']}`"
        for name, one in config.model.towers.items()
        if one.options.get("pretrained")
    ]
    return ", ".join(named) or "as the encoders start (towers of Hugging Face: their own weights; others: random)"


def evaluation_section(run: RunFacts | None, averaged: bool) -> list[str]:
    if run is None or not run.results:
        return ["## Evaluation", "", "No evaluation is recorded.", ""]
    lines = [
        "95 % intervals are in brackets. They treat groups of samples, such as captions of one picture, as one.",
        "",
    ]
    if not averaged:
        lines = ["These are results of the averaged weights, and not of those in this folder.", "", *lines]
    for found in tabulate(run.results):
        lines += [f"### {found.title}: {found.dataset}", "", *([f"{found.note}.", ""] if found.note else [])]
        headings = [_heading(found, metric) for metric in found.metrics]
        rows = [(subject, *_values(found, subject)) for subject in found.subjects]
        lines += table(("what", *headings, "n"), rows)
    return ["## Evaluation", "", *lines]


def _heading(found: ResultTable, metric: str) -> str:
    """The metric and, if it is the same for all rows, the score of chance."""
    chance = found.shared_chance(metric)
    return heading(metric) + ("" if chance is None else f" (chance {shown(chance, metric)})")


def _values(found: ResultTable, subject: str) -> Iterator[object]:
    """The value of each metric with its interval and, where rows differ, the score of chance; then how many items."""
    results = found.of(subject)
    for metric in found.metrics:
        result = results.get(metric)
        if result is None:
            yield None
            continue
        own = f", chance {shown(result.chance, metric)}" if found.shared_chance(metric) is None else ""
        beside = ("no interval" if result.low is None else interval(result)) + own
        yield f"{shown(result.value, metric)} ({beside})"
    yield next(iter(results.values())).n
