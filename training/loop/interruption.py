"""SIGINT (Ctrl-C) and SIGTERM stop a run after the current step, with a checkpoint. A second one stops it at once."""

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
ECHO = 2.0  # seconds in which a second signal is ignored: ranks get one from the terminal, and again from the launcher
STOPPING = f"tercet: stopping after this step; another signal after {ECHO:g} s stops at once, without a checkpoint\n"


class Interruption:
    """The signal that stops a run, if any rank has received one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.signal = 0  # the signal that all ranks agree on; 0 before that
        self._received, self._received_at = 0, 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handles signals inside the `with` block. Does nothing outside the main thread, where Python cannot."""
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

    def requested(self) -> bool:
        """Whether any rank has received a signal. A collective, so that all ranks stop after the same step."""
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
            if is_main_process():  # print may not be called here: the signal may interrupt another print
                os.write(2, STOPPING.encode())
