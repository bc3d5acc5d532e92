"""Options that many verbs take."""

import argparse


def takes_plugins(verb: argparse.ArgumentParser) -> None:
    text = "a Python file that registers components of its own; may be repeated"
    verb.add_argument("--plugin", action="append", default=[], metavar="FILE.py", help=text)
