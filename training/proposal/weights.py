"""Whether the weights that a recipe begins from are to be had: here as files, in a cache, or from the network."""

from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

from tercet.errors import UserError
from tercet.training.recipe import load_recipe

PATIENCE = 3.0  # seconds for one answer of the hub


def reachable(recipe: str) -> bool:
    """All that it begins from: `init`, or else those towers of its own that are not random."""
    config = load_recipe(recipe)
    towers = [tower.encoder for tower in config.model.towers.values() if tower.options.get("pretrained")]
    return all(map(obtainable, [config.init] if config.init else towers))


def given(init: str) -> Callable[[str], bool]:
    """Weights that were asked for are what every recipe begins from; that they are not there is said at once."""
    if not obtainable(init):
        raise UserError(f"--init {init} is neither here nor to be had from the network; name a model that is")
    return lambda recipe: True


def obtainable(init: str) -> bool:
    """Weights as a recipe names them."""
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
    """One of the files is in the cache, or the hub says that it has it."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
    except HFValidationError:  # no repository can be named so
        return False
    return cached or any(_answers(hf_hub_url(repository, file)) for file in files)


def _answers(url: str) -> bool:
    try:
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
