"""Fields that a recipe adds to the picture, sound and caption of each sample. Imports no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.captions.edits import EditConfig
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.rules.taggers import TaggerName, check_tagger
from tercet.data_pipelines.captions.rules.wrong import USUAL, WrongCaptions, fault
from tercet.data_pipelines.further_files import NAME, PLACE
from tercet.data_pipelines.retrieval_config import RetrievalConfig
from tercet.data_pipelines.transforms.config import HideConfig, ImageAugment
from tercet.errors import UserError, did_you_mean
from tercet.modality import MODALITIES, is_negative, modality_of
from tercet.plural import number_of

if TYPE_CHECKING:
    from tercet.data_pipelines.sample import Intake

Area = tuple[float, float]
RULES = "rules"  # where captions that rules make wrong come from
NEIGHBORS = "neighbors"  # where captions of similar samples come from
STORED = ("source", "features", "among")  # the options of fields of stored vectors


class FieldConfig(Config):
    """Where the rows of a field come from."""

    model_config = ConfigDict(serialize_by_alias=True)
    source: str = Field(
        alias="from",
        description="a modality, as image: another crop of the picture, another part of the sound, another caption; a "
        "place of captions, as json.negatives; rules: the sample's caption, made wrong by `rules`; neighbors: captions "
        "of similar samples, as `graph` says; further pictures or sounds of the sample, as file.negative; or, with "
        "`among`, a field of stored vectors",
    )
    features: str | None = Field(
        None,
        description="a folder of features, which `tercet embed --format features` wrote: its vectors of the picture, "
        "sound or caption that `from` names take the place of the tower's outputs",
    )
    among: RetrievalConfig | None = Field(
        None,
        description="soft retrieval: the mean of a folder's vectors, weighted by how similar they are to the row of "
        "the field that `from` names, such as {features: stored/photos}",
    )
    graph: str | None = Field(
        None, description="with `from: neighbors`, the folder of a neighbour graph, which `tercet data mine` writes"
    )
    rules: tuple[str, ...] | None = Field(
        None,
        description="with `from: rules`, the mistakes to make, in turn: swap, attribute, relation, shuffle, or one of "
        "their rules by name, as swap_nouns; default: the first three",
    )
    tagger: TaggerName | None = Field(
        None,
        description="with `from: rules`, what finds nouns and adjectives: words, lists of common ones; or textblob, "
        "which knows more (pip install 'tercet[tagger]'); default: words",
    )
    number: str | None = Field(
        None,
        description="of captions that are objects: the key of a number of each, such as a grade, which objectives on "
        "lists use",
    )
    prefix: str = Field(
        "", description="of texts: put before each caption, such as `passage: ` for towers that expect it (E5)"
    )
    rows: int = Field(1, gt=0, le=64, description="how many rows an item may own; fewer where it has no more captions")
    same: bool = Field(
        False,
        description="of texts: the caption that the sample itself has, not another one; a tower with dropout encodes "
        "it differently (SimCSE)",
    )
    sentences: int | None = Field(
        None,
        gt=0,
        description="of texts: keep only the first so many sentences of each caption; 1 makes the short captions of "
        "Long-CLIP from long ones",
    )
    paired: str | None = Field(
        None,
        description="of further pictures or sounds: the field of captions, as text.negative, that describe them, in "
        "the same order. Rows of equal number belong together, and a term compares only these",
    )
    edit: EditConfig | None = Field(
        None,
        description="of captions: changes to their words, as {stop_words: 0.8, synonym: 0.4, swap: 0.4, delete: 0.2}; "
        "each of the `rows` is changed by itself, and captions repeat if there are fewer",
    )
    augment: ImageAugment | None = Field(
        None, description="of pictures: changes in place of those of data.augment.image, as {flip: 0.5, blur: 0.5}"
    )
    crop: Area | None = Field(
        None, description="of pictures: the range of shares that a crop keeps, as [0.05, 0.4]; default: data.crop"
    )
    hide: HideConfig | None = Field(
        None,
        description="of pictures: the sample's own picture, with the same crop and the same augmentation, and a share "
        "of its squares in grey, as {share: 0.5, side: 16}",
    )
    size: int | None = Field(
        None, gt=0, description="of pictures: side in pixels, which the tower must accept; default: the tower's own"
    )

    @property
    def stored(self) -> bool:
        """Whether the rows are stored vectors, which the tower did not make."""
        return self.features is not None or self.among is not None


def check_field(name: str, config: FieldConfig) -> None:
    """Refuses a field that nothing can fill."""
    modality, key = modality_of(name), f"fields.{name}"
    if modality not in MODALITIES:
        raise Misfit(key, f"names the unknown modality `{modality}`; {did_you_mean(modality, MODALITIES)}")
    if name == modality:
        raise Misfit(key, f"is what every sample has. Give a further field a longer name, as {modality}.more")
    if config.stored:
        _check_stored(key, config)
        return
    if config.source == RULES and modality == "text":
        if wrong := fault(USUAL if config.rules is None else config.rules):
            raise Misfit(f"{key}.rules", wrong)
    elif config.source == NEIGHBORS and modality == "text":
        _check_neighbors(name, config)
    elif config.source != modality:
        _check_place(key, modality, config.source)
    if config.graph is not None and config.source != NEIGHBORS:
        raise Misfit(f"{key}.graph", "applies to `from: neighbors` only; leave it out, or write that")
    for option in ("rules", "tagger"):
        if getattr(config, option) is not None and config.source != RULES:
            raise Misfit(f"{key}.{option}", "applies to `from: rules` only; leave it out, or write that")
    if config.paired and not config.source.startswith(PLACE):
        raise Misfit(f"{key}.paired", "needs further pictures or sounds; write `from: file.NAME`")
    if config.number and not config.source.startswith("json."):
        raise Misfit(f"{key}.number", "needs captions that are objects; write `from: json.KEY`")
    if modality != "image" and (config.crop or config.size):
        raise Misfit(f"{key}.{'crop' if config.crop else 'size'}", "applies to pictures only; leave it out")
    if config.prefix and (modality != "text" or config.same):
        why = "has no effect with `same`, which repeats that of the source" if config.same else "applies to texts only"
        raise Misfit(f"{key}.prefix", f"{why}; leave it out")
    if config.hide and (config.source != "image" or config.rows > 1 or config.crop or config.size):
        fix = "write `from: image`, and leave out `rows`, `crop` and `size`"
        raise Misfit(f"{key}.hide", f"hides parts of the sample's own picture; {fix}")
    if config.augment and modality != "image":
        raise Misfit(f"{key}.augment", "applies to pictures only; leave it out")
    if config.augment and config.augment.draws_globally:
        raise Misfit(f"{key}.augment.randaugment", "is for all pictures alike: set it in data.augment.image")
    if config.edit and (modality != "text" or config.source == NEIGHBORS):
        raise Misfit(f"{key}.edit", "applies to captions of the sample itself only; leave it out")
    if config.same and (config.source != "text" or (config.rows > 1 and not config.edit)):
        raise Misfit(f"{key}.same", "repeats the caption of a sample; write `from: text`, and leave out `rows`")
    if config.sentences and (modality != "text" or config.source in (RULES, NEIGHBORS)):
        raise Misfit(f"{key}.sentences", "applies to captions of the sample only; write `from: text` or json.KEY")
    if config.crop and not 0 < config.crop[0] <= config.crop[1] <= 1:
        low, high = config.crop
        fix = "Give two numbers in (0, 1], smallest first, as [0.05, 0.4]"
        raise Misfit(f"{key}.crop", f"is [{low:g}, {high:g}], which is not a valid range. {fix}")


def _check_stored(key: str, config: FieldConfig) -> None:
    """Refuses options of pictures, sounds and captions for stored vectors."""
    if config.features and config.among:
        raise Misfit(f"{key}.among", "and `features` are both given; remove one of them")
    if config.features and config.source not in MODALITIES:
        raise Misfit(
            f"{key}.from",
            f"is `{config.source}`, of which `features` has no vectors; {did_you_mean(config.source, MODALITIES)}",
        )
    for option, field in FieldConfig.model_fields.items():
        if option not in STORED and getattr(config, option) != field.default:
            raise Misfit(f"{key}.{option}", "has no effect on stored vectors; leave it out")


def _check_neighbors(name: str, config: FieldConfig) -> None:
    """Refuses a name by which the captions would not repel the sample that they are found for."""
    if config.graph is None:
        raise Misfit(f"fields.{name}.graph", "is missing: name the folder that `tercet data mine` wrote")
    if not is_negative(name):
        better = f"{modality_of(name)}.negative.{name.partition('.')[2]}"
        raise Misfit(
            f"fields.{name}", f"holds captions of other samples, so its name needs the part `negative`, as {better}"
        )


def check_graphs(configs: Mapping[str, FieldConfig]) -> None:
    """Raises `UserError` if the folder of a graph does not exist."""
    for name, config in configs.items():
        if config.graph is not None and not Path(config.graph).is_dir():
            fix = "write a graph with `tercet data mine`, or correct the path"
            raise UserError(f"fields.{name}.graph: the folder {config.graph} does not exist; {fix}")


def check_pairs(fields: Mapping[str, FieldConfig]) -> None:
    """Refuses rows that cannot belong to rows of another field."""
    taken: dict[str, str] = {}
    for name, config in fields.items():
        if not config.paired:
            continue
        key, captions = f"fields.{name}.paired", fields.get(config.paired)
        if captions is None or not captions.source.startswith("json."):
            listed = [one for one, other in fields.items() if other.source.startswith("json.")]
            raise Misfit(
                key, f"is `{config.paired}`, which is not a field from json.KEY; {did_you_mean(config.paired, listed)}"
            )
        if config.rows > captions.rows:
            raise Misfit(
                key, f"has {number_of(captions.rows, 'row')}, fewer than the {config.rows} of {name}; give both as many"
            )
        if captions.edit:
            raise Misfit(f"fields.{config.paired}.edit", f"does not work with the files of {name}; leave it out")
        if config.paired in taken:
            other = taken[config.paired]
            raise Misfit(key, f"is also that of {other}; add a second field of the same captions for one of them")
        taken[config.paired] = name


def _check_place(key: str, modality: str, place: str) -> None:
    if modality != "text":
        if not (place.startswith(PLACE) and NAME.fullmatch(place.removeprefix(PLACE))):
            fix = f"write `from: {modality}`, or file.NAME for further files"
            raise Misfit(f"{key}.from", f"is `{place}`, which cannot fill a field of {modality}; {fix}")
        return
    try:
        CaptionReader({place: 1.0})
    except UserError:
        raise Misfit(
            f"{key}.from",
            f"is `{place}`, which holds no captions. Write text, txt, rules, neighbors, or json.KEY for "
            "a key of `.json`",
        ) from None


def check_fields_installed(configs: Mapping[str, FieldConfig]) -> None:
    """Raises `UserError` if a field needs a package that is not installed."""
    for name, config in configs.items():
        if config.tagger:
            check_tagger(f"fields.{name}.tagger", config.tagger)


@dataclass(frozen=True)
class FieldSpec:
    """How to make the rows of a field: the input of the tower, and where the rows come from.

    `place`: for texts, where the captions are; None: where the captions of the source are. `same`: the sample's own
    caption again. `number`: the key of the number that each caption has. `wrong`: makes captions from the sample's own.
    `hide`: the squares of the sample's own picture to hide. `prefix`: what is put before each caption.
    `edit`: changes to the words. `augment`: of pictures, changes in place of those of the run.
    `graph`: the folder of the graph that names the samples whose captions these are. `file`: for media, the name of the
    further files; None: those of the sample itself. `paired`: the field of the captions that describe these.
    `sentences`: how many of a caption to keep; None: all.
    """

    name: str
    intake: "Intake"
    rows: int = 1
    crop: Area | None = None
    place: str | None = None
    same: bool = False
    number: str | None = None
    wrong: WrongCaptions | None = None
    file: str | None = None
    paired: str | None = None
    graph: str | None = None
    prefix: str = ""
    hide: HideConfig | None = None
    edit: EditConfig | None = None
    augment: ImageAugment | None = None
    sentences: int | None = None

    @property
    def modality(self) -> str:
        return modality_of(self.name)


def own_fields(intakes: "Mapping[str, Intake]") -> dict[str, FieldSpec]:
    """One field for each modality: the picture, the sound, the caption of a sample."""
    return {name: FieldSpec(name, intake) for name, intake in intakes.items()}


def further_fields(
    names: Iterable[str], configs: Mapping[str, FieldConfig], intakes: "Mapping[str, Intake]"
) -> dict[str, FieldSpec]:
    """The named fields, of those that the recipe adds, whose rows towers embed."""
    return {
        name: _spec(name, configs[name], intakes[modality_of(name)])
        for name in names
        if name in configs and not configs[name].stored
    }


def _spec(name: str, config: FieldConfig, intake: Any) -> FieldSpec:
    sized = replace(intake, size=(config.size, config.size)) if config.size else intake
    if config.source.startswith(PLACE):
        file = config.source.removeprefix(PLACE)
        return FieldSpec(name, sized, config.rows, config.crop, file=file, paired=config.paired, augment=config.augment)
    place = None if config.source in (modality_of(name), RULES, NEIGHBORS) else config.source
    wrong = WrongCaptions(config.rules or USUAL, config.tagger or "words") if config.source == RULES else None
    return FieldSpec(
        name,
        sized,
        config.rows,
        config.crop,
        place,
        config.same,
        config.number,
        wrong,
        graph=config.graph,
        prefix=config.prefix,
        hide=config.hide,
        edit=config.edit,
        augment=config.augment,
        sentences=config.sentences,
    )


def own_pictures(fields: Mapping[str, FieldSpec]) -> dict[str, ImageAugment]:
    """The changes to pictures, by field, of the fields that have their own."""
    return {name: field.augment for name, field in fields.items() if field.augment}
