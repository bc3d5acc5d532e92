"""Decodes the files of a sample to a `Sample`, with the modalities that the run uses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader, Captions, within
from tercet.data_pipelines.captions.rules.wrong import WrongCaptions
from tercet.data_pipelines.captions.sidecar import CLASS, MetaReader
from tercet.data_pipelines.captions.text import first_sentences
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.audio import decode_audio
from tercet.data_pipelines.decode.fault import fault_of
from tercet.data_pipelines.decode.image import decode_image
from tercet.data_pipelines.decode.neighbors import NeighborCaptions
from tercet.data_pipelines.decode.stored import Stored, open_features, stored_of
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.further_files import by_number, wanted_as
from tercet.data_pipelines.sample import (
    AudioIntake,
    FeatureIntake,
    ImageIntake,
    Intake,
    Media,
    Sample,
    TextIntake,
)
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.transforms.crop import CentreView, View
from tercet.errors import UserError, did_you_mean
from tercet.modality import ALPHA, DECODERS, FILES, MODALITIES

Given = tuple[bytes, bytes | None]  # the file of a picture or sound, and that of the picture's mask


def has_alpha(intake: Intake) -> bool:
    return isinstance(intake, ImageIntake) and intake.alpha


def mask_of(files: Files, intake: Intake) -> bytes | None:
    """The file with the alpha channel of the sample's picture, if the tower has one and the sample too."""
    held = by_number(files, ALPHA, "image") if has_alpha(intake) else {}
    return files[next(iter(held.values()))] if held else None


NOTHING: Stored = {}


def checked(intakes: Mapping[str, Intake]) -> Mapping[str, Intake]:
    """Refuses intakes whose field is not a known modality."""
    for name in intakes:
        if name not in MODALITIES:
            raise UserError(f"the field `{name}` is not a known modality; {did_you_mean(name, MODALITIES)}")
    return intakes


class FileDecoder:
    """Makes a sample from its files. A missing modality is absent; a broken one makes the sample bad."""

    def __init__(
        self,
        intakes: Mapping[str, Intake],
        config: SplitConfig,
        exact_images: bool = False,
        further: Mapping[str, FieldSpec] | None = None,
    ) -> None:
        taken = {name: intake for name, intake in intakes.items() if name in (config.fields or intakes)}
        self.intakes = {
            name: intake for name, intake in taken.items() if not isinstance(intake, TextIntake | FeatureIntake)
        }
        self.texts = {name: intake for name, intake in taken.items() if isinstance(intake, TextIntake)}
        self._captions = CaptionReader(config.captions, templates=config.keyword_templates, least=config.min_words)
        self._group = GroupReader(config.group, self._captions)
        self._meta = MetaReader(config.sidecar)
        self._exact_images = exact_images
        decoded = [one for one in (further or {}).values() if not isinstance(one.intake, FeatureIntake)]
        added = [one for one in decoded if one.modality in (config.fields or MODALITIES)]
        self._neighbor_fields = [one for one in added if one.graph]
        self._caption_fields = [
            (
                one,
                CaptionReader({one.place: 1.0}, one.number, config.keyword_templates) if one.place else self._captions,
            )
            for one in added
            if one.modality == "text" and not one.graph
        ]
        self._prefix = config.prefix
        self._prefixes = {one.name: config.prefix if one.same else one.prefix for one, _ in self._caption_fields}
        self._media_fields = [one for one in added if one.modality != "text" and not one.hide]
        self._described = {one.paired: one for one in self._media_fields if one.paired}  # by the field of captions
        modalities = {*self.intakes, *(one.modality for one in self._media_fields if not one.file)}
        extensions = {extension for name in modalities for extension in FILES[name]}
        extensions |= {wanted_as(one.file, one.modality) for one in self._media_fields if one.file}
        extensions |= {wanted_as(ALPHA, "image") for one in self.intakes.values() if has_alpha(one)}
        caption_readers = [reader for _, reader in self._caption_fields]
        readers = [*([self._captions] if self.texts else ()), *caption_readers, self._group]
        self.wanted = frozenset({"json", CLASS} | extensions).union(*(reader.wanted for reader in readers))

    def sample(
        self, key: str, id: int, files: Files | BadSample, view: View, stored: Stored = NOTHING
    ) -> Sample | BadSample:
        """`stored`: the features of the fields that are not decoded."""
        if isinstance(files, BadSample):
            return files
        try:
            meta = self._meta(key, files)
            media = self._all_media(id, files, view)
            captions = self._captions(files, meta) if self.texts else None
            text = view.captions(captions) if captions else ()
            captioned = self._caption_rows(files, meta, text, view)
            paired = self._paired_rows(files, meta, view)
            captioned |= {name: tuple(rows.values()) for name, rows in paired.items() if rows}
            texts = {
                name: tuple(self._prefixes[name] + caption for caption, _ in rows) for name, rows in captioned.items()
            }
            further: dict[str, tuple[Any, ...]] = {**texts, **self._media_rows(files, view, paired)}
            if not (media or text or further or stored):
                return BadSample("none of the run's modalities")
            numbers = {name: tuple(number for _, number in rows) for name, rows in captioned.items()}
            text = tuple(self._prefix + caption for caption in text)
            group = self._group(files, meta, id)
            return Sample(key, id, group, media, text, meta, further, numbers, features=stored)
        except BadSample as bad:
            return bad

    def _all_media(self, id: int, files: Files, view: View) -> dict[str, Media]:
        media: dict[str, Media] = {}
        for name, intake in self.intakes.items():
            if extension := extension_of(name, files):
                given = files[extension], mask_of(files, intake)
                media[name] = self._media(id, name, extension, given, intake, view)
        return media

    def _caption_rows(
        self, files: Files, meta: Mapping[str, object], text: tuple[str, ...], view: View
    ) -> dict[str, tuple[tuple[str, float], ...]]:
        """The captions of the recipe's own fields, with their numbers."""
        rows = {}
        for field, reader in self._caption_fields:
            if field.name in self._described:
                continue
            if field.same:
                captions = reader.optional(files, meta)
                own = text or (view.captions(captions) if captions else ())
                some: tuple[tuple[str, float], ...] = tuple((caption, 1.0) for caption in own[:1])
            elif field.wrong:
                some = self._made_wrong(field, field.wrong, reader.optional(files, meta), text, view)
            else:
                captions = reader.optional(files, meta)
                some = view.some(field.name, captions, field.rows) if captions else ()
            if field.sentences:
                some = tuple((first_sentences(caption, field.sentences), number) for caption, number in some)
            if some and field.edit:
                some = field.edit.rows(some, field.rows, view.dice(f"{field.name} edits"))
            if some:
                rows[field.name] = some
        return rows

    def _made_wrong(
        self, field: FieldSpec, wrong: WrongCaptions, captions: Captions, text: tuple[str, ...], view: View
    ) -> tuple[tuple[str, float], ...]:
        """Wrong captions of the one that the sample has, or of one that is drawn if the run reads no texts."""
        if not captions:
            return ()
        right = text or view.captions(captions)
        made = wrong(right[0], captions.every, field.rows, view.dice(field.name))
        return tuple((one.text, 1.0) for one in made)

    def _paired_rows(
        self, files: Files, meta: Mapping[str, object], view: View
    ) -> dict[str, dict[int, tuple[str, float]]]:
        """The captions of fields that describe further files, with their numbers, by their places in the list. Those
        with a file come first, so that rows of equal number belong together."""
        rows = {}
        for field, reader in self._caption_fields:
            if described := self._described.get(field.name):
                assert described.file is not None
                captions = reader.optional(files, meta).numbered()
                if isinstance(listed := within(meta, field.place or ""), list) and len(listed) != len(captions):
                    raise BadSample("json: an empty caption in a list that files belong to")
                held = by_number(files, described.file, described.modality)
                order = sorted(view.order(field.name, captions), key=lambda place: place not in held)
                rows[field.name] = {place: captions[place] for place in order[: field.rows]}
        return rows

    def _media_rows(
        self, files: Files, view: View, paired: Mapping[str, Mapping[int, object]]
    ) -> dict[str, tuple[Media, ...]]:
        """The pictures and sounds of the recipe's own fields."""
        rows = {}
        for field in self._media_fields:
            if chosen := self._chosen(field, files, view, paired):
                views = [view.of(field.name, row, field.crop) for row in range(len(chosen))]
                mask = mask_of(files, field.intake) if field.file is None else None
                rows[field.name] = tuple(
                    self._decoded(field.modality, file.rpartition(".")[2], (files[file], mask), field.intake, one)
                    for file, one in zip(chosen, views, strict=True)
                )
        return rows

    def _chosen(
        self, field: FieldSpec, files: Files, view: View, paired: Mapping[str, Mapping[int, object]]
    ) -> list[str]:
        """The file of each row: always that of the sample, or further ones, in the order of their captions if any."""
        if field.file is None:
            extension = extension_of(field.modality, files)
            return [extension] * field.rows if extension else []
        held = by_number(files, field.file, field.modality)
        order = paired.get(field.paired or "", view.order(field.name, held))
        return [held[number] for number in order if number in held][: field.rows]

    def _media(self, id: int, name: str, extension: str, given: Given, intake: Intake, view: View) -> Media:
        return self._decoded(name, extension, given, intake, view)

    def _decoded(self, name: str, extension: str, given: Given, intake: Intake, view: View) -> Media:
        data, mask = given
        if extension in DECODERS:
            return fitted(name, DECODERS[extension](data, intake, view), intake, view)
        if isinstance(intake, ImageIntake):
            return decode_image(data, intake, view, self._exact_images, mask)
        assert isinstance(intake, AudioIntake)
        return decode_audio(data, intake, view)


def extension_of(modality: str, files: Files) -> str | None:
    """The extension of the sample's file of a modality, if it has one."""
    return next((extension for extension in FILES[modality] if extension in files), None)


def fitted(name: str, media: Media, intake: Intake, view: View) -> Media:
    """The output of a plugin's decoder in the type of the intake, cut to the view; a wrong shape is a bad sample."""
    free = 1 if intake.ragged else 0
    if media.ndim != len(intake.shape) or media.shape[free:] != intake.shape[free:]:
        raise BadSample(f"{name}: not of the tower's shape")
    if not (len(media) and np.isfinite(media).all()):
        raise BadSample(f"{name}: empty or not finite")
    return viewed(np.require(media, intake.dtype, ["C", "W"]), intake, view)


def viewed(media: Media, intake: Intake, view: View) -> Media:
    return media[slice(*view.span(len(media), intake.shape[0]))] if intake.ragged else media


class Decoder(FileDecoder):
    """Reads and decodes samples by id."""

    def __init__(
        self,
        source: Source,
        intakes: Mapping[str, Intake],
        config: SplitConfig,
        exact_images: bool = False,
        further: Mapping[str, FieldSpec] | None = None,
    ) -> None:
        super().__init__(intakes, config, exact_images, further)
        self.source = source
        further_intakes = [field.intake for field in (further or {}).values()]
        self.features = open_features([*intakes.values(), *further_intakes], source, config)
        self._neighbors = [NeighborCaptions(field, source, config) for field in self._neighbor_fields]

    def __call__(self, ids: Sequence[int], views: Iterable[View]) -> list[Sample | BadSample]:
        """Each sample in its view, or what is wrong with it."""
        views = list(views)
        read, stored = self.source.read(ids, self.wanted), stored_of(self.features, ids, views)
        samples = [
            features if isinstance(features, BadSample) else self.sample(self.source.key(id), id, files, view, features)
            for id, files, view, features in zip(ids, read, views, stored, strict=True)
        ]
        for neighbors in self._neighbors:
            samples = neighbors.added(samples, views)
        return samples

    def fault(self, id: int, reason: str) -> Fault:
        return fault_of(self.source, id, reason)


class Keeper(Decoder):
    """Decodes each picture and sound once, without a crop, and keeps it in memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kept: dict[tuple[int, str], Media] = {}

    def _media(self, id: int, name: str, extension: str, given: Given, intake: Intake, view: View) -> Media:
        if (id, name) not in self._kept:
            self._kept[id, name] = super()._media(id, name, extension, given, intake, CentreView())
        return viewed(self._kept[id, name], intake, view)
