"""Whether the weights that a recipe starts from are available: as files, in a cache, or from the network."""

from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

from tercet.errors import UserError
from tercet.training.recipe import load_recipe

PATIENCE = 3.0  # seconds to wait for the hub


def reachable(recipe: str) -> bool:
    """Whether `init` is available or, without it, every pretrained tower."""
    config = load_recipe(recipe)
    towers = [tower.encoder for tower in config.model.towers.values() if tower.options.get("pretrained")]
    return all(map(obtainable, [config.init] if config.init else towers))


def given(init: str) -> Callable[[str], bool]:
    """The user's own weights are available to every recipe. Raises an error if they are not there."""
    if not obtainable(init):
        raise UserError(f"--init {init} is not on this machine and cannot be downloaded; name another model")
    return lambda recipe: True


def obtainable(init: str) -> bool:
    """Whether a model, named as in a recipe, is available."""
    family, _, name = init.partition(":")
    if family == "open_clip":
        return _open_clip(name)
    if family == "timm":
        return _on_hub(f"timm/{name}", ("model.safetensors", "pytorch_model.bin"))
    if family == "hf":
        return Path(name).is_dir() or _on_hub(name, ("config.json",))
    return Path(init).exists()


def _open_clip(name: str) -> bool:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg

    model, _, tag = name.partition("/")
    repository, _, file = str(get_pretrained_cfg(model, tag).get("hf_hub", "")).rpartition("/")
    return Path(tag).is_file() or _on_hub(repository, (file,) if file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME))


def _on_hub(repository: str, files: tuple[str, ...]) -> bool:
    """Whether one of the files is in the cache or on the hub."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
    except HFValidationError:  # not the name of a repository
        return False
    return cached or any(_answers(hf_hub_url(repository, file)) for file in files)


def _answers(url: str) -> bool:
    try:
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
