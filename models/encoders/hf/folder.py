"""Reads a folder or repository of Hugging Face: configuration, weights, and the preparation of inputs.

Weights come from safetensors, or from pickles that contain only tensors, and become fp32. Code in a repository never
runs. Missing weights are an error; transformers would initialise them at random.
"""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer
from transformers.utils import logging as reports
from transformers.utils.hub import cached_file

from tercet.errors import UserError
from tercet.models.quiet import without_logged_warnings

NO_CODE = {"trust_remote_code": False}
# Otherwise transformers asks a bot of the hub to convert pickles.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


def read_config(where: str, name: str) -> Any:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{where}: the folder {name} has no config.json; choose one that `save_pretrained` wrote")
    with quiet():
        return AutoConfig.from_pretrained(name, **NO_CODE)


def load(where: str, name: str, kind: str, config: Any, unused: Collection[str] = ()) -> Any:
    """A model of the transformers class `kind` with its weights. Parts with the names in `unused` are removed."""
    with quiet():
        try:
            model, report = getattr(transformers, kind).from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **NO_CODE
            )
        except RuntimeError as error:
            cause = str(error).splitlines()[0]
            raise UserError(
                f"{where}: the weights of `{name}` do not fit its config.json: {cause}; save both again"
            ) from error
        except UnpicklingError as error:
            fix = "convert it to safetensors"
            raise UserError(f"{where}: the weight file of `{name}` holds objects other than tensors; {fix}") from error
    absent = sorted(key for key in report["missing_keys"] if not set(key.split(".")) & set(unused))
    if absent:
        raise UserError(
            f"{where}: `{name}` lacks {len(absent)} of the weights of its {kind}, such as {absent[0]}; "
            "choose a folder or a repository that has all of them"
        )
    for part in list(model.modules()):
        for left in unused:
            if hasattr(part, left):
                setattr(part, left, None)
    return model


def read_tokenizer(name: str) -> Any:
    return _prepared("model.text.encoder", name, AutoTokenizer, "tokenizer")


def read_feature_extractor(name: str) -> Any:
    return _prepared("model.audio.encoder", name, AutoFeatureExtractor, "feature extractor (preprocessor_config.json)")


def read_image_processor(name: str) -> Any:
    return _prepared("model.image.encoder", name, AutoImageProcessor, "image processor (preprocessor_config.json)")


def read_json(name: str, file: str) -> Any:
    """A JSON file of the repository, or None if it does not exist."""
    with quiet():
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return None if found is None else json.loads(Path(found).read_text("utf-8"))


def _prepared(where: str, name: str, kind: Any, what: str) -> Any:
    try:
        with quiet():
            return kind.from_pretrained(name, **NO_CODE)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(
            f"{where}: `{name}` has no {what} that transformers can read; save it in the same folder"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences progress bars, and warnings about weights that are left out on purpose."""
    bars = reports.is_progress_bar_enabled()
    reports.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with without_logged_warnings():
            yield
    finally:
        if bars:
            reports.enable_progress_bar()  # type: ignore[no-untyped-call]
