"""The device that a benchmark runs on, as an option."""

from argparse import ArgumentParser

import torch


def takes_device(parser: ArgumentParser) -> None:
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default=usual, help="where to measure (default: a GPU if there is one)"
    )
