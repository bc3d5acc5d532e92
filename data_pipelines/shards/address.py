"""Where shards may be: paths, and URLs of the kinds that are read. What a message says of a URL holds no secrets."""

import re
from urllib.parse import urlsplit

from tercet.errors import UserError

SCHEMES = ("https", "http", "s3", "gs")
SCHEME = re.compile(r"([A-Za-z][\w+.:-]*)://|(pipe|file):")


def is_url(place: str) -> bool:
    """Whether a place is behind a network; what is neither a path nor an address of a known kind is refused."""
    scheme = SCHEME.match(place)
    if not scheme:
        return False
    name = scheme[1] or scheme[2]
    if name not in SCHEMES:
        raise UserError(
            f"`{name}:` URLs are not supported; name a path, or a URL of {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
        )
    return True


def redacted(url: str) -> str:
    """The URL without what may be secret in it."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return url
    parts = urlsplit(f"//{rest}")
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
