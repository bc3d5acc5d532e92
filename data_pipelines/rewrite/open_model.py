"""What writes the captions, by its name: rules, an endpoint or a model in a folder. Imports no torch to check it."""

import os
from pathlib import Path

from tercet.data_pipelines.captions.rules.taggers import check_tagger
from tercet.data_pipelines.captions.rules.wrong import fault
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.data_pipelines.rewrite.model import LanguageModel
from tercet.data_pipelines.shards.patience import Patience
from tercet.errors import UserError

RULES = "rules"


def check_writer(name: str, config: RewriteConfig) -> None:
    """Refuses what cannot write captions, before any data are read."""
    if name == RULES:
        check_tagger("--tagger", config.tagger)
        if wrong := fault(config.rules):
            raise UserError(f"--rules {wrong}")
        if config.task != "negatives":
            raise UserError(f"--task {config.task} needs a language model; rules write negatives only")
    elif _is_url(name):
        if not config.model:
            raise UserError(f"--model is missing: name the model that {name} should use")
    elif not Path(name).is_dir():
        raise UserError(
            f"{name} is not `{RULES}`, a URL or a folder; give one of these, such as http://localhost:8000/v1"
        )


def open_model(name: str, config: RewriteConfig) -> LanguageModel:
    """An endpoint by its URL, or a model of transformers by its folder."""
    if _is_url(name):
        from tercet.data_pipelines.rewrite.endpoint import Endpoint

        sent = {"model": config.model, "temperature": config.temperature, "max_tokens": config.max_tokens}
        options = {name: value for name, value in (sent | config.extra).items() if value is not None}
        patience = Patience(config.tries, config.timeout)
        return Endpoint(name, options, os.environ.get(config.key_env), config.key_env, patience)
    from tercet.data_pipelines.rewrite.local import LocalModel

    return LocalModel(name, config)


def _is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))
