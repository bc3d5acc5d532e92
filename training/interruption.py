"""SIGINT (Ctrl-C) and SIGTERM end a run after the current step, with a checkpoint. A second signal ends it at once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

import torch

from tercet.distributed import World
from tercet.main_process import is_main_process

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO = 2.0  # seconds: a launcher passes on a signal that the terminal or the cluster has sent to the ranks as well
STOPPING = f"tercet: stopping after this step; another signal after {ECHO:g} s stops at once, without saving\n"


class Interruption:
    """The signal that asked a run to stop, if any rank has received one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.signal = 0  # the one that all ranks know of
        self._received, self._received_at = 0, 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes signals meanwhile, where this is the main thread: Python receives signals in no other."""
        if current_thread() is not main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether any rank was asked to stop. A collective, so that all ranks stop after the same step."""
        if not self.signal and self.world.size > 1:
            received = torch.tensor([float(number == self._received) for number in SIGNALS], device=self.world.device)
            ranks = self.world.sum(received).tolist()
            self.signal = next((number for number, count in zip(SIGNALS, ranks, strict=True) if count), 0)
        elif not self.signal:
            self.signal = self._received
        return bool(self.signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received and now - self._received_at > ECHO:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self._received:
            self._received, self._received_at = number, now
            if is_main_process():  # not by print, which may be in the middle of a line
                os.write(2, STOPPING.encode())
