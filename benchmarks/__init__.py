"""Ours against a named peer, alternating in one process. A benchmark is a module with `run(arguments) -> list[Row]`."""
