"""Downloads from Hugging Face that do not hang. They use the hub if it answers, and otherwise only the cache."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import huggingface_hub.constants as hub

from tercet.errors import UserError

PATIENCE = 3.0  # seconds to wait for the hub; its own client retries for a minute or two


@contextmanager
def fetched(where: str, repository: str, label: str) -> Iterator[None]:
    """A context for code that reads a folder or a repository. Its errors call the repository `label`."""
    if find_spec("transformers") is None:
        raise UserError(f"{where}: {label} needs transformers; pip install 'tercet[huggingface]'")
    try:
        with cache_if_hub_is_silent(repository):
            yield
    except OSError as error:
        cause = f"is not in the cache {hub.HF_HUB_CACHE} and cannot be downloaded from {hub.ENDPOINT}"
        fix = "run once with network access, or copy the cache from another machine"
        raise UserError(f"{where}: {label} {cause}; {fix}") from error
    except (ImportError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"{where}: {label} cannot be loaded: {cause}; pip install 'tercet[huggingface]'") from error


@contextmanager
def cache_if_hub_is_silent(wanted: object) -> Iterator[None]:
    """Uses only the cache if the hub does not answer. Local files and folders need neither."""
    before = hub.HF_HUB_OFFLINE
    local = not wanted or Path(str(wanted)).exists()
    hub.HF_HUB_OFFLINE = before or not (local or _hub_answers())
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    """Whether the hub answers at all. A certificate that fails here may still work for the hub's own client."""
    try:
        urlopen(hub.ENDPOINT, timeout=PATIENCE).close()
    except OSError as error:
        return isinstance(error, HTTPError) or isinstance(getattr(error, "reason", None), ssl.SSLError)
    return True
