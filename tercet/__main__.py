"""Runs `python -m tercet`, also under a launcher: `torchrun -m tercet`, `deepspeed --module tercet`."""

import sys

from tercet.command import main

if __name__ == "__main__":
    sys.exit(main())
