"""Prints what mining found: the scores, and how many candidates each rule dropped."""

from collections.abc import Iterable, Iterator
from itertools import chain

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tercet.plural import number_of
from tercet.training.mining.config import MiningConfig
from tercet.training.mining.mined import QUANTILES, Mined, Spread

KINDS = {"group": "same group", "text": "shared caption"}


def render(sources: Iterable[Mined], config: MiningConfig) -> Group:
    """The tables of all sources for a rich console."""
    return Group(*chain.from_iterable(_parts(mined, config) for mined in sources))


def _parts(mined: Mined, config: MiningConfig) -> Iterator[Table | Text]:
    yield _scores(mined)
    yield _candidates(mined, config)
    if mined.short:
        words = (
            f"{mined.short:,} samples have fewer than {config.num_negatives} negatives, {mined.empty:,} of them none: "
            f"relax a rule, or raise range_max ({config.depth})\n"
        )
        yield Text(words, style="yellow")


def _scores(mined: Mined) -> Table:
    about = mined.about
    title = f"{about.name} · {about.query} → {about.to} · {number_of(mined.samples, 'sample')}"
    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    own = f"positive: the sample's own {about.to}; of several, the least similar"
    table.caption, table.caption_justify = Text(own, style="dim"), "left"
    table.add_column("cosine", no_wrap=True)
    for name in ("count", "mean", "std", *QUANTILES):
        table.add_column(name, justify="right", no_wrap=True)
    for name, spread in mined.scores.items():
        table.add_row(name, f"{spread.count:,}", *_numbers(spread))
    return table


def _numbers(spread: Spread) -> list[str]:
    values = (spread.mean, spread.std, *(spread.quantiles.get(name) for name in QUANTILES))
    return ["–" if value is None else f"{value:.3f}" for value in values]


def _candidates(mined: Mined, config: MiningConfig) -> Table:
    """What became of the candidates, in all, of each sample, and as a share of those that were compared."""
    counts = dict(mined.candidates)
    compared, negatives = counts.pop("compared"), counts.pop("negatives")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("candidates", no_wrap=True)
    for name in ("count", "each sample", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [
        ("compared", compared, ""),
        *((_reason(name, config), -count, "dim") for name, count in counts.items() if count),
    ]
    for name, count, style in [*rows, ("negatives", negatives, "bold")]:
        each, share = count / max(mined.samples, 1), abs(count) / max(compared, 1)
        table.add_row(name, f"{count:,}", f"{each:,.1f}", f"{share:.2%}", style=style)
    return table


def _reason(name: str, config: MiningConfig) -> str:
    """What drops a candidate, in words, with the value of the option."""
    kind = name.removeprefix("equal ")
    if kind != name:
        return KINDS.get(kind, f"same {kind} file")
    if name == "range_max":
        return f"range_max {config.depth}"
    value = getattr(config, name, None)
    return name if value is None else f"{name} {value:g}"
