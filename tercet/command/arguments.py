"""The arguments of the command line. Imports no other package of tercet, so that help and errors appear at once."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tercet.command import curation, data, exporting, models, proposal, translation, verbs
from tercet.command.options import part, takes_many, takes_overrides, takes_plugins
from tercet.command.parser import Verbs, add_verb
from tercet.errors import UserError, did_you_mean
from tercet.parser import Parser
from tercet.version import __version__

RECIPE = "a name from `tercet recipes ls`, or a YAML file"
OVERRIDES = "dotted keys and their values, such as optimizer.lr=1e-3 pairs.image-text=0.5 objective=sigmoid"

BENCHMARKS = {
    "cached": "training on stored features: the loader, and a step",
    "claims": "whether methods do what their papers claim",
    "eval": "evaluation: metrics, times, memory, exports",
    "gradients": "whether gradients depend on the number of processes",
    "jest": "joint example selection: steps and FLOPs to a result",
    "loader": "samples per second of the loader",
    "loss": "time and memory of the loss",
    "own": "the loss in a loop of your own; tables beside shards",
    "scaling": "methods, towers and amounts of data at equal compute",
    "step": "time of a training step",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one verb. The options of a benchmark come as `rest`, because only the benchmark knows them."""
    arguments, rest = parser().parse_known_args(argv)
    if hasattr(arguments, "overrides"):  # argparse ends a list at the first option
        arguments.overrides += [text for text in rest if "=" in text and not text.startswith("-")]
        rest = [text for text in rest if text not in arguments.overrides]
    if hasattr(arguments, "goes_on"):  # the same, for a list of tasks or models
        later = [text for text in rest if not text.startswith("-")]
        setattr(arguments, arguments.goes_on, [*getattr(arguments, arguments.goes_on), *later])
        rest = [text for text in rest if text.startswith("-")]
    if hasattr(arguments, "many"):
        part(arguments)
    if rest and not hasattr(arguments, "bench"):
        raise UserError(f"`{arguments.parser.prog}` does not take `{rest[0]}`; {_fix(arguments, rest[0])}")
    arguments.rest = rest
    return arguments


def _fix(arguments: argparse.Namespace, word: str) -> str:
    """Suggests an option, or says that keys of a recipe have no dashes."""
    options = arguments.parser._option_string_actions
    name = word.partition("=")[0].lstrip("-")
    near = did_you_mean(name, (option.lstrip("-") for option in options)).startswith("did")
    if near or word == name or not hasattr(arguments, "overrides"):
        return did_you_mean(word, options)
    return f"write a key of the recipe without dashes: {name}=…"


def parser() -> Parser:
    top = Parser(prog="tercet", description="Contrastive pretraining of image, audio and text encoders into one space.")
    top.add_argument("--version", action="version", version=f"tercet {__version__}")
    top.set_defaults(parser=top, verb=verbs.help)
    known = top.add_subparsers(title="commands", metavar="command")
    for add in (
        _demo,
        _train,
        _recipes,
        _eval,
        _tasks,
        _compare,
        _embed,
        _search,
        _export,
        _push,
        _bench,
        _doctor,
        _data,
        _curate,
    ):
        add(known)
    return top


def _demo(known: Verbs) -> None:
    demo = add_verb(
        known, "demo", "generate the built-in data set, train on it, and write a report; takes minutes on two cores"
    )
    demo.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/demo)")
    demo.set_defaults(verb=verbs.demo)


def _train(known: Verbs) -> None:
    train = add_verb(known, "train", "run a recipe; the same command resumes it")
    _takes_recipe(train)
    train.add_argument(
        "--dry-run", action="store_true", help="check the recipe and print what would run, without running it"
    )
    train.epilog = (
        "several processes:\n"
        "  torchrun --nproc-per-node 8 -m tercet train RECIPE\n"
        "  deepspeed --num_accelerators 8 --no_local_rank --module tercet train RECIPE"
    )
    train.set_defaults(verb=verbs.train)


def _recipes(known: Verbs) -> None:
    recipes = add_verb(known, "recipes", "list, print, check, propose or translate recipes")
    within = recipes.add_subparsers(title="commands", metavar="command")
    listing = _listing(within, "recipes", "objectives")
    listing.set_defaults(verb=verbs.recipes_ls)
    show = add_verb(
        within, "show", "print every key of a recipe, after `extends` and overrides, or explain an objective"
    )
    what = show.add_mutually_exclusive_group(required=True)
    what.add_argument("recipe", nargs="?", metavar="RECIPE", help=RECIPE)
    what.add_argument("--objective", metavar="NAME", help="explain this objective and its options instead")
    takes_overrides(show, OVERRIDES)
    takes_plugins(show)
    show.set_defaults(verb=verbs.recipes_show)
    check = add_verb(within, "check", "check recipes without reading their data; `train --dry-run` checks data as well")
    takes_many(check, "recipes", "RECIPE", "names or YAML files (default: all built-in recipes)", OVERRIDES)
    takes_plugins(check)
    check.set_defaults(verb=verbs.recipes_check)
    proposal.declare(
        add_verb(within, "new", "propose a recipe for your data and this machine, with a reason for each value")
    )
    translation.declare(add_verb(within, "from-open-clip", "translate a command line of open_clip_train into a recipe"))


def _eval(known: Verbs) -> None:
    models.declare_eval(add_verb(known, "eval", "evaluate a model on any data, or a run on its validation data"))


def _tasks(known: Verbs) -> None:
    tasks = add_verb(known, "tasks", "list, print or explain what `eval` measures")
    within = tasks.add_subparsers(title="commands", metavar="command")
    listing = _listing(within, "tasks", "kinds")
    listing.set_defaults(verb=verbs.tasks_ls)
    show = add_verb(within, "show", "print every key of a task, after `extends`, or explain a kind and its keys")
    what = show.add_mutually_exclusive_group(required=True)
    what.add_argument("task", nargs="?", metavar="TASK", help="a name from `tercet tasks ls`, or a YAML file")
    what.add_argument("--kind", metavar="KIND", help="explain this kind of task and its keys instead")
    takes_plugins(show)
    show.set_defaults(verb=verbs.tasks_show)


def _compare(known: Verbs) -> None:
    models.declare_compare(
        add_verb(known, "compare", "compare models on the same items, with the interval of each difference")
    )


def _embed(known: Verbs) -> None:
    models.declare_embed(add_verb(known, "embed", "write the embeddings of a data set"))


def _search(known: Verbs) -> None:
    models.declare_search(add_verb(known, "search", "find the samples nearest to words, a picture or a sound"))


def _export(known: Verbs) -> None:
    exporting.declare_export(
        add_verb(known, "export", "write a model into a folder that tercet or another library loads")
    )


def _push(known: Verbs) -> None:
    exporting.declare_push(add_verb(known, "push", "send an exported folder to a hub, or list what would be sent"))


def _bench(known: Verbs) -> None:
    bench = add_verb(
        known, "bench", "measure tercet against another library, or test what papers claim", add_help=False
    )
    bench.add_argument("bench", metavar="NAME", help="one of the benchmarks below; then its own options")
    bench.add_argument(
        "-h", "--help", nargs=0, action=BenchHelp, help="show this help message, or that of NAME, and exit"
    )
    _takes_json(bench)
    bench.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    bench.epilog = "benchmarks:\n" + "".join(f"  {name:<10}  {about}\n" for name, about in BENCHMARKS.items())
    bench.epilog += "\n`tercet bench NAME --help` says what a benchmark measures, and lists its options."
    bench.set_defaults(verb=verbs.bench)


class BenchHelp(argparse.Action):
    """Help of `bench`, or of the benchmark that the command has named, which reads `--help` itself."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *given: Any) -> None:
        if namespace.bench is None:
            parser.print_help()
            parser.exit()
        namespace.help = True


def _doctor(known: Verbs) -> None:
    doctor = add_verb(known, "doctor", "check this installation and machine, and tell how to fix problems")
    _takes_json(doctor)
    doctor.set_defaults(verb=verbs.doctor)


def _data(known: Verbs) -> None:
    group = add_verb(known, "data", "create, index and inspect data sets")
    within = group.add_subparsers(title="commands", metavar="command")
    data.add_verbs(within)


def _curate(known: Verbs) -> None:
    group = add_verb(known, "curate", "choose what to train on")
    within = group.add_subparsers(title="commands", metavar="command")
    curation.add_verbs(within)


def _takes_recipe(verb: Parser) -> None:
    verb.add_argument("recipe", metavar="RECIPE", help=RECIPE)
    takes_overrides(verb, OVERRIDES)
    takes_plugins(verb)


def _listing(within: Verbs, what: str, other: str) -> Parser:
    """Lists what comes with tercet, or with its option, the components that it is made of."""
    listing = add_verb(within, "ls", f"list the built-in {what}, or the {other}")
    listing.add_argument(f"--{other}", action="store_true", help=f"list the {other} instead")
    _takes_json(listing)
    takes_plugins(listing)
    return listing


def _takes_json(verb: Parser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON instead of a table for people")
