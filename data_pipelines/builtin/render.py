"""Renders a scene to the bytes of a WebDataset sample."""

import io
import json

import numpy as np
import soundfile
from PIL import Image

from tercet.data_pipelines.builtin.captions import (
    captions,
    contrasts,
    describe,
    negatives,
    wrong_captions,
    wrong_scenes,
)
from tercet.data_pipelines.builtin.config import Split, WorldConfig
from tercet.data_pipelines.builtin.facts import partly_wrong
from tercet.data_pipelines.builtin.picture import picture, picture_and_masks
from tercet.data_pipelines.builtin.scene import Scene, pick, scene
from tercet.data_pipelines.builtin.sound import Wave, sound
from tercet.data_pipelines.builtin.texts import texts_of_caption, texts_of_scene
from tercet.data_pipelines.shards.write import SampleFiles
from tercet.modality import ALPHA


def render_shard(config: WorldConfig, split: Split, shard: int) -> list[SampleFiles]:
    start = shard * config.samples_per_shard
    stop = min(start + config.samples_per_shard, config.samples(split))
    return [render(config, split, index) for index in range(start, stop)]


def render(config: WorldConfig, split: Split, index: int) -> SampleFiles:
    """Key and files of one sample, without the modalities that the row lacks."""
    shown = scene(config, split, index)
    dice = shown.stream("row")
    spoilt = split == "train"
    missing = _missing(config, dice) if spoilt else None
    mismatched = spoilt and bool(dice.random() < config.mismatched)
    told = shown
    if mismatched:
        told = _another(config, shown, dice)
    elif spoilt and config.partly_wrong:
        told = partly_wrong(shown, config.partly_wrong)
    meta = _meta(shown, told, mismatched) | texts_of_scene(config, shown)
    files: SampleFiles = {"__key__": f"{split}-{index:07d}"}
    if missing != "image":
        files[config.image_format] = encode_image(picture(shown, config.size), config.image_format)
        if config.masks:
            place = int(shown.stream("mask").integers(len(shown.objects)))
            files[f"{ALPHA}.png"] = encode_image(picture_and_masks(shown, config.size)[1][place], "png")
            meta["masked"] = describe((shown.objects[place],), None)
    if missing != "audio":
        files["flac"] = encode_audio(sound(shown, config.rate, config.seconds), config.rate)
    if missing != "text":
        files["txt"] = "\n".join(captions(told)[: config.captions if spoilt else None])
        meta |= texts_of_caption(config, told, shown)
    if config.negative_media:
        right = told == shown and not shown.generic
        meta["contrasts"] = contrasts(shown, config.captions if spoilt else None) if right else []
        files |= _negative_media(config, shown) if right else {}
    return files | {"json": json.dumps(meta)}


def _negative_media(config: WorldConfig, shown: Scene) -> SampleFiles:
    """A picture and a sound of each wrong scene. A sound does not show the relation, so a wrong one has no sound."""
    files: SampleFiles = {}
    for place, other in enumerate(wrong_scenes(shown).values()):
        if "image" in config.negative_media:
            name = f"negative.{place}.{config.image_format}"
            files[name] = encode_image(picture(other, config.size), config.image_format)
        if "audio" in config.negative_media and other.objects != shown.objects:
            files[f"negative.{place}.flac"] = encode_audio(sound(other, config.rate, config.seconds), config.rate)
    return files


def encode_image(image: Image.Image, image_format: str) -> bytes:
    file = io.BytesIO()
    if image_format == "png":
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=92)
    return file.getvalue()


def encode_audio(wave: Wave, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _meta(shown: Scene, told: Scene, mismatched: bool) -> dict[str, object]:
    """Wrong captions are for rows whose own captions are right."""
    return {
        "identity": shown.identity,
        "group": shown.group,
        "objects": [thing.words for thing in shown.objects],
        "relation": shown.relation,
        "negatives": negatives(shown) if told == shown else [],
        "wrong": wrong_captions(shown) if told == shown else [],
        "mismatched": mismatched,
        "source": shown.source.name if shown.source else None,
    }


def _missing(config: WorldConfig, dice: np.random.Generator) -> str | None:
    names, shares = [*config.missing, None], list(config.missing.values())
    return names[pick([*shares, 1 - sum(shares)], dice)]


def _another(config: WorldConfig, shown: Scene, dice: np.random.Generator) -> Scene:
    """A training scene with other objects."""
    while True:
        other = scene(config, "train", int(dice.integers(config.train)))
        if other.identity != shown.identity:
            return other
