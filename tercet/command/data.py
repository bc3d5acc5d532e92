"""`tercet data …`: each verb, with its arguments and the few lines that run it."""

import argparse
from argparse import Namespace
from pathlib import Path

from tercet.command import clustering, converting, mining, reducing, rewriting, voices
from tercet.command.options import output_file, processes, takes_many, takes_overrides, takes_plugins
from tercet.command.parser import Verbs, add_verb
from tercet.command.tables import COLUMNS, reading_of, roles_of
from tercet.command.verbs import print_json
from tercet.errors import UserError
from tercet.system import cores


def add_verbs(within: Verbs) -> None:
    _generate(add_verb(within, "generate", "write shards of generated pictures, sounds and captions"))
    _pack(add_verb(within, "pack", "pack a folder or a table of files into shards; the same command resumes it"))
    converting.declare(
        add_verb(within, "convert", "write a table of a published test: SugarCrepe, SugarCrepe++, ARO or Winoground")
    )
    _index(add_verb(within, "index", "index shards: record where each sample is, and print what they hold"))
    _check(
        add_verb(
            within, "check", "read and decode every sample of shards, a table or a folder, and report what is broken"
        )
    )
    _stats(add_verb(within, "stats", "describe a data set: sizes, durations, captions, languages, duplicates"))
    rewriting.declare(
        add_verb(
            within,
            "rewrite",
            "write wrong captions or rewrites of captions, by a language model or by rules, as a sidecar",
        )
    )
    voices.declare(
        add_verb(within, "voices", "write captions of how voices sound: pitch, loudness, jitter, shimmer, and labels")
    )
    _leaks(
        add_verb(within, "leaks", "find pictures, sounds and captions that are in both training and evaluation data")
    )
    mining.declare(add_verb(within, "mine", "find hard negatives for every sample: the nearest ones that differ"))
    reducing.declare(
        add_verb(within, "reduce", "choose queries and hard candidates of a data set, for retrieval that is cheaper")
    )
    clustering.declare(
        add_verb(within, "cluster", "group the samples by the vectors of a model, for batches from clusters")
    )


def _generate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the shards")
    takes_overrides(verb, "settings, such as train=2000 seed=7 (docs/builtin.md)")
    verb.set_defaults(verb=generate)


def generate(arguments: Namespace) -> int:
    from tercet.configs.base import build
    from tercet.configs.layers import PLAIN, parse_override
    from tercet.data_pipelines.builtin.config import WorldConfig
    from tercet.data_pipelines.builtin.dataset import generate

    settings = PLAIN.stack([parse_override(text) for text in arguments.overrides])
    out: Path = generate(build(WorldConfig, settings, lambda key: "command line"), arguments.out)
    print(f"shards: {out}")
    return 0


def _pack(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", type=Path, metavar="SOURCE", help="a folder, or a CSV, TSV, JSONL or Parquet table")
    verb.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the shards")
    takes_overrides(verb, COLUMNS)
    verb.add_argument("--size", metavar="PX", help="shrink larger pictures so that their shorter side has this length")
    verb.add_argument("--quality", metavar="Q", help="JPEG quality of shrunk pictures (default: 92)")
    verb.add_argument("--rate", metavar="HZ", help="resample sounds to this rate, and write FLAC")
    verb.add_argument("--seconds", metavar="S", help="cut longer sounds to this length, from their start")
    limit = verb.add_mutually_exclusive_group()
    limit.add_argument("--shard-mb", metavar="MB", help="megabytes of source files in a shard (default: 256)")
    limit.add_argument("--shard-samples", metavar="N", help="samples in a shard, instead of --shard-mb")
    verb.add_argument(
        "--max-bad", metavar="SHARE", help="exit with 1 if a larger share of rows is left out (default: 0.01)"
    )
    verb.add_argument("--workers", type=processes, metavar="N", help="worker processes (default: one per core)")
    verb.add_argument("--json", action="store_true", help="print the manifest of the shards as JSON")
    takes_plugins(verb)
    verb.set_defaults(verb=pack)


def pack(arguments: Namespace) -> int:
    from tercet.configs.base import build
    from tercet.data_pipelines.manifests.manifest import open_manifest
    from tercet.data_pipelines.pack.config import PackConfig
    from tercet.data_pipelines.pack.pack import Packing
    from tercet.data_pipelines.pack.place import check_place
    from tercet.data_pipelines.pack.plan import plan_shards
    from tercet.data_pipelines.pack.show import print_result, print_roles, print_verdict, watched

    given = {name: value for name in PackConfig.model_fields if (value := getattr(arguments, name)) is not None}
    config = build(PackConfig, given, lambda key: "command line")
    roles = roles_of(arguments)
    check_place(arguments.source, arguments.out)
    manifest = open_manifest(arguments.source, roles)
    print_roles(manifest.roles)
    plan = plan_shards(arguments.source, manifest, config)
    workers = arguments.workers or cores()
    with watched(plan.rows) as watch:
        result = Packing(plan, manifest, config, arguments.out).run(workers, watch)
    if arguments.json:
        print_json(result)
    else:
        print_result(result, arguments.out)
    return 0 if print_verdict(result, config.max_bad) else 1


def _index(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "data", nargs="+", metavar="SHARDS", help="data sets: folders, or patterns such as `d/{000..099}.tar`"
    )
    verb.add_argument("--checksums", action="store_true", help="read every file once and store its checksum")
    verb.add_argument("--workers", type=processes, metavar="N", help="worker processes (default: one per core)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table for people")
    takes_plugins(verb)
    verb.set_defaults(verb=index)


def index(arguments: Namespace) -> int:
    from tercet.data_pipelines.manifests.find import is_manifest
    from tercet.data_pipelines.shards.build import index_shards
    from tercet.data_pipelines.shards.find import find_shards
    from tercet.data_pipelines.shards.show import inventory, print_inventories, to_json

    for data in filter(is_manifest, arguments.data):
        raise UserError(
            f"{data} is not a set of shards; tables and folders need no command, they are indexed when first read"
        )
    options = {"checksums": arguments.checksums, "workers": arguments.workers}
    found = [inventory(data, index_shards(find_shards(data), **options)) for data in arguments.data]
    print_json(to_json(found)) if arguments.json else print_inventories(found)
    return 1 if any(each.damaged for each in found) else 0


def _check(verb: argparse.ArgumentParser) -> None:
    _takes_shards(verb)
    verb.add_argument(
        "--out", type=output_file, metavar="FILE", help="write an HTML page, and bad_samples.jsonl in the same folder"
    )
    verb.add_argument(
        "--max-bad", type=_share, default=0.0, metavar="SHARE", help="exit with 1 if a larger share is bad (default: 0)"
    )
    verb.set_defaults(verb=check)


def check(arguments: Namespace) -> int:
    from tercet.data_pipelines.survey.check import check, listing_beside
    from tercet.data_pipelines.survey.page import write_check
    from tercet.data_pipelines.survey.show import print_findings

    listing = arguments.out and listing_beside(arguments.out)
    findings = check(arguments.shards, _workers(arguments), listing, reading_of(arguments, arguments.shards))
    if arguments.out:
        write_check(arguments.out, _titled(arguments.shards), findings, arguments.max_bad, listing.name)
    print_json(findings.to_json()) if arguments.json else print_findings(findings, arguments.max_bad, listing)
    return 0 if findings.clean(arguments.max_bad) else 1


def _stats(verb: argparse.ArgumentParser) -> None:
    _takes_shards(verb)
    verb.add_argument("--out", type=output_file, metavar="FILE", help="write an HTML page with plots")
    verb.add_argument("--sample", type=int, metavar="N", help="read only this many samples (default: all)")
    verb.add_argument("--list", metavar="FILE", help="read only the samples of a list (docs/data.md)")
    verb.add_argument(
        "--neighbors", metavar="FOLDER", help="describe a neighbour graph of the data (docs/negatives.md)"
    )
    verb.add_argument("--clusters", metavar="FOLDER", help="describe a column of clusters of the data")
    verb.set_defaults(verb=stats)


def stats(arguments: Namespace) -> int:
    from tercet.data_pipelines.composition import ClustersConfig, NeighborsConfig
    from tercet.data_pipelines.plans.clusters import ClusterLabels, read_clusters
    from tercet.data_pipelines.plans.graph import NeighborGraph, read_graph
    from tercet.data_pipelines.plans.sample_list import read_list
    from tercet.data_pipelines.sources.open import open_source
    from tercet.data_pipelines.survey.page import write_stats
    from tercet.data_pipelines.survey.show import print_stats
    from tercet.data_pipelines.survey.stats import survey

    source = open_source(arguments.shards, reading=reading_of(arguments, arguments.shards))
    listed = read_list(arguments.list, source) if arguments.list else None
    orders: dict[str, NeighborGraph | ClusterLabels] = {}
    if arguments.neighbors:
        orders["neighbors"] = read_graph(NeighborsConfig(graph=arguments.neighbors), source, listed)
    if arguments.clusters:
        orders["clusters"] = read_clusters(ClustersConfig(column=arguments.clusters), source, listed)
    found = survey(source, _workers(arguments), arguments.sample, listed)
    if arguments.out:
        write_stats(arguments.out, _titled(arguments.shards), found, orders)
    if arguments.json:
        print_json(found.to_json() | {name: order.to_json() for name, order in orders.items()})
        return 0
    for name, order in orders.items():
        print(f"{name} {order}")
    print_stats(found)
    return 0


def _leaks(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("train", metavar="TRAIN", help="training data: shards, a table or a folder")
    verb.add_argument("evaluation", metavar="EVAL", help="evaluation data; their hashes are kept in memory")
    takes_overrides(verb, COLUMNS)
    takes_plugins(verb)
    verb.add_argument(
        "--out", type=output_file, metavar="FILE", help="write each leak as a line of JSON, with both shards and keys"
    )
    verb.add_argument("--workers", type=processes, metavar="N", help="worker processes (default: one per core)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table for people")
    verb.set_defaults(verb=leaks)


def leaks(arguments: Namespace) -> int:
    from tercet.data_pipelines.leaks.leaks import Inquiry, write_leaks
    from tercet.data_pipelines.leaks.show import print_count
    from tercet.data_pipelines.manifests.find import is_table
    from tercet.data_pipelines.manifests.reading import PLAIN
    from tercet.data_pipelines.sources.open import open_source

    sides = [arguments.train, arguments.evaluation]
    tables = [side for side in sides if is_table(side)] or sides  # without any table, columns are a mistake
    readings = {side: reading_of(arguments, side) if side in tables else PLAIN for side in sides}
    train, evaluation = (open_source(side, reading=readings[side]) for side in sides)
    inquiry = Inquiry(train, evaluation, _workers(arguments))
    write_leaks(inquiry.leaks(), arguments.out)
    print_json(inquiry.count.to_json()) if arguments.json else print_count(inquiry.count)
    return 0 if inquiry.count.clean else 1


def _takes_shards(verb: argparse.ArgumentParser) -> None:
    takes_many(verb, "shards", "DATA", "shards (folders, patterns, URLs), tables, or a folder", COLUMNS)
    takes_plugins(verb)
    verb.add_argument("--workers", type=processes, metavar="N", help="worker processes (default: one per core)")
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table for people")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise UserError(f"--max-bad {text} is not a share; give a number from 0 to 1, such as 0.01")
    return share


def _workers(arguments: Namespace) -> int:
    return arguments.workers or cores()


def _titled(shards: list[str]) -> str:
    """The title of a page about the shards."""
    return Path(shards[0]).name + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
