"""Imports pyarrow and duckdb, which only curation needs."""

from importlib import import_module
from typing import Any

from tercet.errors import UserError


def arrow() -> Any:
    """pyarrow, with its reader and writer of Parquet."""
    found = _imported("pyarrow")
    import_module("pyarrow.parquet")
    return found


def duckdb() -> Any:
    return _imported("duckdb")


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"score tables need {name}; pip install 'tercet[curate]'") from error
