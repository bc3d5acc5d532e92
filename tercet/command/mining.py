"""`tercet data mine`: its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.models import DATA, MODEL
from tercet.command.options import READ_AS, data_of, takes_overrides, takes_plugins
from tercet.command.output import show
from tercet.parser import Parser

NUMBERS = {  # options of mining by their names in Python, with a metavar and the help
    "num_negatives": ("N", "negatives of each sample, at most (default: 3)"),
    "range_min": ("N", "skip this many of the nearest candidates (default: 0)"),
    "range_max": ("N", "consider only this many of the nearest (default: range_min + 10 × num_negatives)"),
    "max_score": ("S", "drop candidates with a larger cosine"),
    "min_score": ("S", "drop candidates with a smaller cosine"),
    "absolute_margin": ("M", "drop candidates with a larger cosine than the positive's minus M"),
    "relative_margin": ("M", "the same with a share of the positive's cosine, such as 0.05"),
    "seed": ("N", "of random sampling (default: 0)"),
}
CHOICES = {
    "sampling_strategy": (
        ("top", "random"),
        "take the nearest candidates that are left, or random ones (default: top)",
    ),
    "output_format": (
        ("triplet", "n-tuple", "labeled-pair", "labeled-list"),
        "also write a table of captions and paths",
    ),
}
SWITCHES = {
    "output_scores": "write cosines into the table, in place of labels",
    "use_faiss": "search approximately, with faiss; for millions of samples",
}
OPTIONS = ("query", "to", *NUMBERS, *CHOICES, *SWITCHES)


def declare(verb: Parser) -> None:
    verb.add_argument("model", metavar="MODEL", help=MODEL)
    takes_overrides(verb, READ_AS)
    verb.add_argument("--data", metavar="D", help=f"{DATA} (default: what the run held out)")
    text = "instead of --data: what the run was trained on (train), or what it held out (val)"
    verb.add_argument("--split", choices=("train", "val"), help=text)
    verb.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the neighbour graph")
    text = "the modality of the samples that get negatives (default: pictures, else sounds, else captions)"
    verb.add_argument("--from", dest="query", metavar="MODALITY", help=text)
    verb.add_argument("--to", metavar="MODALITY", help="the modality of the candidates (default: the same)")
    for name, (metavar, text) in NUMBERS.items():
        verb.add_argument(_flag(name), metavar=metavar, help=text)
    for name, (choices, text) in CHOICES.items():
        verb.add_argument(_flag(name), choices=choices, help=text)
    for name, text in SWITCHES.items():
        verb.add_argument(_flag(name), action="store_true", default=None, help=text)
    text = "the file of the table, .jsonl or .csv (default: DIR/negatives.jsonl)"
    verb.add_argument("--table", type=Path, metavar="FILE", help=text)
    text = "folder that keeps embeddings and searches for the next call (default: the cache)"
    verb.add_argument("--cache-folder", type=Path, metavar="DIR", help=text)
    text = "cut all vectors to their first N dimensions, for models trained by matryoshka"
    verb.add_argument("--dims", type=int, metavar="N", help=text)
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of tables for people")
    verb.epilog = "the same command resumes; under torchrun, processes share the work (docs/negatives.md)"
    verb.set_defaults(verb=mine)


def mine(arguments: Namespace) -> int:
    from tercet.api.mine import mine

    options = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    found = mine(
        arguments.model,
        data_of(arguments),
        arguments.out,
        split=arguments.split,
        table=arguments.table,
        cache_folder=arguments.cache_folder,
        dims=arguments.dims,
        **options,
    )
    show(arguments, found.to_json(), found)
    return 0


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
