"""Downloads from Hugging Face that neither hang nor fail with a traceback: from the hub if it answers, or the cache."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import huggingface_hub.constants as hub

from tercet.errors import UserError

PATIENCE = 3.0  # seconds for one address of the hub; its own client would try for a minute or two


@contextmanager
def fetched(where: str, repository: str, said: str) -> Iterator[None]:
    """Around whatever reads a folder or a repository, which is `said` so in what goes wrong."""
    if find_spec("transformers") is None:
        raise UserError(f"{where}: {said} needs transformers; pip install 'tercet[huggingface]'")
    try:
        with cache_if_hub_is_silent(repository):
            yield
    except OSError as error:
        cause = f"is neither in the cache, {hub.HF_HUB_CACHE}, nor to be had from {hub.ENDPOINT}"
        mend = "run once with a network, or copy the cache from where it is"
        raise UserError(f"{where}: {said} {cause}; {mend}") from error
    except (ImportError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"{where}: {said} fails: {cause}; pip install 'tercet[huggingface]'") from error


@contextmanager
def cache_if_hub_is_silent(wanted: object) -> Iterator[None]:
    """Without an answer from the hub only the cache counts. Files and folders need neither."""
    before = hub.HF_HUB_OFFLINE
    local = not wanted or Path(str(wanted)).exists()
    hub.HF_HUB_OFFLINE = before or not (local or _hub_answers())
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    """Whatever it answers; a certificate refused here may well be known to the hub's own client."""
    try:
        urlopen(hub.ENDPOINT, timeout=PATIENCE).close()
    except OSError as error:
        return isinstance(error, HTTPError) or isinstance(getattr(error, "reason", None), ssl.SSLError)
    return True
