"""The pages of `data check` and `data stats`. Keys, captions and file names are untrusted input, and always escaped."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Template

from tercet.data_pipelines.survey.findings import Findings
from tercet.data_pipelines.survey.plots import DECIBELS, LOGARITHMIC, PlotSpec, plot
from tercet.data_pipelines.survey.stats import Stats
from tercet.page.write import environment, write_page
from tercet.plural import number_of

SHARDS = 50  # of a page; JSON has all
MEASURES = {
    "image.shorter": PlotSpec("Shorter side of pictures", "px", whole=True),
    "image.aspect": PlotSpec("Width to height of pictures", axis=LOGARITHMIC),
    "image.bytes": PlotSpec("Files of pictures", "kB", 1e-3),
    "audio.seconds": PlotSpec("Duration of sounds", "s"),
    "audio.loudness": PlotSpec("Loudness of sounds", "dBFS", axis=DECIBELS),
    "audio.bytes": PlotSpec("Files of sounds", "kB", 1e-3),
    "text.words": PlotSpec("Length of captions", "words", whole=True),
    "text.characters": PlotSpec("Length of captions", "characters", whole=True),
    "text.captions": PlotSpec("Captions of a sample", whole=True),
}
SHARED = {"image": "the same picture", "audio": "the same sound", "text": "a caption", "group": "a group"}


def write_check(path: Path, name: str, findings: Findings, max_bad: float, listing: str) -> Path:
    page = _template("check.html").render(
        name=name,
        found=findings,
        clean=findings.clean(max_bad),
        verdict=findings.verdict(max_bad),
        listing=listing,
        most=SHARDS,
        number_of=number_of,
    )
    return write_page(path, page)


def write_stats(path: Path, name: str, stats: Stats, orders: Mapping[str, object] | None = None) -> Path:
    """`orders`: a neighbour graph or clusters of the data, by what they are; the page has the line of each."""
    measured = [(of, measure) for of, measure in MEASURES.items() if of in stats.tally.values]
    page = _template("stats.html").render(
        name=name,
        stats=stats,
        orders={of: str(order) for of, order in (orders or {}).items()},
        tally=stats.tally,
        plots=[plot(stats.tally.values[of], measure) for of, measure in measured],
        shared=[(words, stats.shared[of]) for of, words in SHARED.items() if of in stats.shared],
    )
    return write_page(path, page)


def share(part: int, whole: int) -> str:
    """In per cent; a small share is not rounded to 0 %, nor a large one to 100 %."""
    percent = 100 * part / (whole or 1)
    if 0 < percent < 0.01:
        return "< 0.01 %"
    return "> 99.99 %" if 99.99 < percent < 100 else f"{percent:.2f} %".replace(".00 %", " %")


def size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} TB"


def duration(seconds: float) -> str:
    for unit, length in (("s", 60), ("min", 60)):
        if seconds < length:
            return f"{seconds:.3g} {unit}"
        seconds /= length
    return f"{seconds:,.1f} h"


FILTERS = {"share": share, "bytes": size, "duration": duration}


def _template(name: str) -> Template:
    return environment("tercet.data_pipelines.survey", FILTERS).get_template(name)
