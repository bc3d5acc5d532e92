"""The flags of open_clip_train for data and augmentation."""

import ast
import re
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence

from tercet.data_pipelines.shards.find import unbraced
from tercet.errors import UserError
from tercet.training.from_open_clip.command import Command
from tercet.training.from_open_clip.flag import (
    SWITCH,
    Flag,
    Key,
    Note,
    kept,
    lacking,
    needless,
    note_if_given,
    taking,
    with_another,
)
from tercet.training.from_open_clip.pace import kind_of, separator

PIPED = re.compile(r"pipe:.*?((?:s3|gs|https?)://[^\s'\"|]+).*")
BUILTIN = "data/builtin/train"
AUGMENTED = {
    "scale": "data.crop",
    "color_jitter": "data.augment.image.jitter_strength",
    "color_jitter_prob": "data.augment.image.jitter",
    "gray_scale_prob": "data.augment.image.grey",
}


class Settings(Action):
    """Parses `key=value …`. A value is a Python literal or, failing that, a word."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: object, option_string: str | None = None
    ) -> None:
        assert isinstance(values, list)
        setattr(namespace, self.dest, dict(map(_setting, values)))


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--aug-cfg {text} is not a setting; write key=value")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def train_data(command: Command) -> Iterator[Key | Note]:
    data, factors = command["--train-data"], command["--train-data-upsampling-factors"]
    if kind_of(command, data or "") == "synthetic":
        yield Key("data.train.source", BUILTIN)
        yield Note("differs", "--dataset-type synthetic", f"generate data with `tercet data generate --out {BUILTIN}`")
        return
    if not data:
        raise UserError("the command has no --train-data; add it, or evaluate a model with `tercet eval MODEL`")
    sources = [address(source) for source in data.split("::")]
    if factors is None:
        yield from split(command, "train", sources)
        return
    if len(weights := factors.split("::")) != len(sources):
        raise UserError(
            f"--train-data-upsampling-factors {factors}: give one factor for each of the {len(sources)} sources of "
            "--train-data"
        )
    for number, (source, weight) in enumerate(zip(sources, weights, strict=True), start=1):
        yield Key(f"data.train.source_{number}.source", source)
        yield Key(f"data.train.source_{number}.weight", float(weight) * len(unbraced(source)))


def split(command: Command, name: str, sources: Sequence[str]) -> Iterator[Key | Note]:
    yield Key(f"data.{name}.source", sources[0] if len(sources) == 1 else list(sources))
    if kind_of(command, sources[0]) == "csv":
        yield Key(f"data.{name}.image", command["--csv-img-key"])
        yield Key(f"data.{name}.text", command["--csv-caption-key"])
        yield from _table(command, f"--{name}-data", sources[0])


def _table(command: Command, flag: str, path: str) -> Iterator[Note]:
    reason = "relative paths in the table start at the table's folder, not at the working directory"
    yield Note("differs", f"{flag} {path}", reason)
    suffix, between = {",": (".csv", "commas"), "\t": (".tsv", "tabs")}.get(separator(command), ("", ""))
    if not suffix:
        reason = "a .csv has commas between cells and a .tsv has tabs; convert the table to one of them"
        yield Note("no counterpart", command.spelt("--csv-separator"), reason)
    elif not path.endswith(suffix):
        yield Note(
            "differs", f"{flag} {path}", f"the name of a table with {between} between cells must end in {suffix}"
        )


def address(source: str) -> str:
    """The URL that a pipe fetches; other sources as they are. Keeps braces."""
    piped = PIPED.fullmatch(source)
    return piped[1] if piped else source


def val_data(command: Command) -> Iterable[Key | Note]:
    data = command["--val-data"]
    return split(command, "val", [address(source) for source in data.split("::")]) if data else []


def augmentation(command: Command) -> Iterator[Key | Note]:
    given: dict[str, object] = {"scale": (0.9, 1.0)} | command["--aug-cfg"]
    for name, value in given.items():
        if name == "scale" or (name in AUGMENTED and not given.get("use_timm")):
            yield Key(AUGMENTED[name], list(value) if isinstance(value, tuple) else value)
        elif value:
            reason = "`data.crop` crops pictures, and `data.augment.image` augments them; see docs/data.md"
            yield Note("no counterpart", f"--aug-cfg {name}={value}", reason)


def normalisation(name: str, setting: str) -> Flag:
    key = f"model.image.options.force_preprocess_cfg.{setting}"
    return kept(name, {**taking(float), "nargs": "+", "metavar": setting.upper()}, key)


def interpolation(command: Command) -> Iterable[Key | Note]:
    value = command["--image-interpolation"]
    if value == "random":
        reason = "tercet resizes all pictures with the tower's own filter"
        return note_if_given(command, "no counterpart", "--image-interpolation", reason)
    return [Key("model.image.options.force_preprocess_cfg.interpolation", value)] if value else []


def resize_mode(command: Command) -> Iterable[Key | Note]:
    value = command["--image-resize-mode"]
    if value == "longest":
        reason = "pictures are cropped to the tower's aspect ratio (`shortest`) or stretched to it (`squash`)"
        return note_if_given(command, "no counterpart", "--image-resize-mode", reason)
    return [Key("model.image.options.force_preprocess_cfg.resize_mode", value)] if value else []


COUNTS = "tercet counts the samples of a split itself"
ALWAYS_EXACT = "an epoch takes every sample once; each batch has a share of every source"
IMAGENET = "during training, tercet evaluates a run on its own held-out data"

DATA_FLAGS = (
    Flag("--train-data", taking(), "`data.train`; several sources as a list", train_data),
    with_another(
        "--train-data-upsampling-factors",
        taking(),
        "`data.train.source_N.weight`: the factor times the source's number of shards, because open_clip draws shards",
    ),
    Flag("--val-data", taking(), "`data.val`", val_data),
    with_another("--train-num-samples", taking(int), "with `--epochs`: `steps`"),
    needless("--val-num-samples", taking(int), COUNTS),
    with_another(
        "--dataset-type",
        taking(str, "auto", choices=["webdataset", "csv", "synthetic", "auto"]),
        "the source's file extension decides; `synthetic` becomes the dataset of `tercet data generate`",
    ),
    lacking("--dataset-resampled", SWITCH, ALWAYS_EXACT),
    with_another("--csv-separator", taking(str, "\t"), "the table's file extension: `.csv` or `.tsv`"),
    with_another("--csv-img-key", taking(str, "filepath"), "`data.train.image` and `data.val.image`"),
    with_another("--csv-caption-key", taking(str, "title"), "`data.train.text` and `data.val.text`"),
    lacking("--imagenet-val", taking(), IMAGENET),
    lacking("--imagenet-v2", taking(), IMAGENET),
    kept("--workers", taking(int, 4), "data.workers"),
    normalisation("--image-mean", "mean"),
    normalisation("--image-std", "std"),
    Flag(
        "--image-interpolation",
        taking(choices=["bicubic", "bilinear", "random"]),
        "`model.image.options.force_preprocess_cfg.interpolation`; `random` has no counterpart",
        interpolation,
    ),
    Flag(
        "--image-resize-mode",
        taking(choices=["shortest", "longest", "squash"]),
        "`model.image.options.force_preprocess_cfg.resize_mode`; `longest` has no counterpart",
        resize_mode,
    ),
    Flag(
        "--aug-cfg",
        {"nargs": "*", "default": {}, "action": Settings},
        "`scale`: `data.crop`, the area as a share of the largest box that fits; `color_jitter`, `color_jitter_prob` "
        "and `gray_scale_prob`: `data.augment.image`; the others have no counterpart",
        augmentation,
    ),
)
