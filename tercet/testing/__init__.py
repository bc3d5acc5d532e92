"""Checks for objectives and encoders of plugins, and a way to run a function on several real processes."""

from tercet.testing.encoders import check_encoder
from tercet.testing.examples import EXAMPLES, Example
from tercet.testing.objectives import check_objective
from tercet.testing.ranks import PRELOADED, RankFailed, free_port, on_ranks

__all__ = [
    "EXAMPLES",
    "PRELOADED",
    "Example",
    "RankFailed",
    "check_encoder",
    "check_objective",
    "free_port",
    "on_ranks",
]
