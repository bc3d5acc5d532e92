"""Whichever test starts the first process, the server of all of them loads what any will need."""

from tercet.processes import server
from tercet.testing import PRELOADED

server(*PRELOADED, "tercet.data_pipelines.fill")
