"""Paths and URLs of shards. Messages show URLs without their secrets."""

import re

from tercet.errors import UserError

SCHEMES = ("https", "http", "s3", "gs")
HOST_AND_PATH = re.compile(r"([^/?#]*)([^?#]*)")
SCHEME = re.compile(r"([A-Za-z][\w+.:-]*)://|(pipe|file):")


def is_url(place: str) -> bool:
    """Whether a place is a URL. Refuses URLs of unknown kinds."""
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
    """The URL without user, password and query, which may be secret."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return url
    host, path = HOST_AND_PATH.findall(rest)[0]  # not by urlsplit, which refuses a malformed host
    return f"{scheme}://{host.rpartition('@')[2]}{path}"
