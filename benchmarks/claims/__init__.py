"""Small experiments that show whether a method does what its paper claims. Each module of this folder is one claim.

`tercet bench claims NAME…` tests claims, and `tercet bench claims` lists them. Finished runs are kept: a second call
makes only those that are missing.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from tercet.benchmarks.claims.experiment.claim import Claim
from tercet.benchmarks.claims.experiment.outcome import outcome
from tercet.benchmarks.claims.experiment.runs import numbers
from tercet.benchmarks.table import BenchRow
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.errors import UserError, did_you_mean
from tercet.parser import Parser

FEWEST_SEEDS = 3  # with two, the interval is so wide that it says nothing


def run(arguments: Sequence[str]) -> list[BenchRow]:
    parser = Parser(prog="tercet bench claims", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims to test (default: list all)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each arm (default: 5)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the finished runs (default: in the cache)")
    options = parser.parse_args(arguments)
    if options.seeds < FEWEST_SEEDS:
        raise UserError(f"--seeds is {options.seeds}; give {FEWEST_SEEDS} or more")
    claims = {name: load_claim(name) for name in options.names}
    if not claims:
        return [listed(name, load_claim(name)) for name in claim_names()]
    folder = options.out or cache_folder() / "claims"
    seeds = range(options.seeds)
    return [outcome(name, claim, numbers(name, claim, seeds, folder)) for name, claim in claims.items()]


def claim_names() -> list[str]:
    folder = str(Path(__file__).resolve().parent)
    return sorted(module.name for module in iter_modules([folder]) if not module.ispkg)


def load_claim(name: str) -> Claim:
    if name not in claim_names():
        raise UserError(f"unknown claim `{name}`; {did_you_mean(name, claim_names())}")
    claim: Claim = import_module(f"{__name__}.{name}").CLAIM
    return claim


def listed(name: str, claim: Claim) -> BenchRow:
    return BenchRow(name, target=f"{claim.says} ({claim.source})", beyond=claim.to_json())
