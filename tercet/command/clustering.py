"""`tercet data cluster`: its arguments and the few lines that run it."""

from argparse import Namespace
from pathlib import Path

from tercet.command.models import DATA, MODEL
from tercet.command.options import READ_AS, data_of, takes_overrides, takes_plugins
from tercet.command.output import show
from tercet.parser import Parser


def declare(verb: Parser) -> None:
    verb.add_argument("model", metavar="MODEL", help=MODEL)
    takes_overrides(verb, READ_AS)
    verb.add_argument("--data", metavar="D", help=DATA)
    text = "instead of --data: what the run was trained on (train), or what it held out (val)"
    verb.add_argument("--split", choices=("train", "val"), help=text)
    verb.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the column")
    verb.add_argument("--clusters", type=int, metavar="K", required=True, help="how many clusters")
    text = "the modality whose vectors are grouped (default: pictures, else sounds, else captions)"
    verb.add_argument("--among", metavar="MODALITY", help=text)
    verb.add_argument("--within", type=Path, metavar="DIR", help="divide the clusters of an earlier column further")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the first centroids (default: 0)")
    takes_plugins(verb)
    verb.add_argument("--json", action="store_true", help="print JSON instead of text for people")
    verb.epilog = "under torchrun, processes share the work (docs/negatives.md)"
    verb.set_defaults(verb=cluster)


def cluster(arguments: Namespace) -> int:
    from tercet.api.cluster import cluster

    found = cluster(
        arguments.model,
        data_of(arguments),
        arguments.out,
        clusters=arguments.clusters,
        split=arguments.split,
        among=arguments.among,
        within=arguments.within,
        seed=arguments.seed,
    )
    show(arguments, found.to_json(), str(found))
    return 0
