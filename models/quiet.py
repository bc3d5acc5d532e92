"""Silences the log of other libraries while they build or export a model."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_logged_warnings() -> Iterator[None]:
    """Python's warnings still pass, and so do logged errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
