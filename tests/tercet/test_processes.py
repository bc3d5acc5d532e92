"""Processes started beside a script run none of it."""

import subprocess
import sys
from pathlib import Path

UNGUARDED = """
from concurrent.futures import ProcessPoolExecutor
from tercet.processes import server
print("once", flush=True)
with ProcessPoolExecutor(2, server("json")) as pool:
    print([pool.submit(len, "ab").result() for _ in range(4)], __file__ is not None)
"""


def test_a_script_may_start_processes_without_a_main_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    found = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert found.stdout == "once\n[2, 2, 2, 2] True\n", found.stderr


SIGNALLED = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from tercet.processes import FreshContext, follow_parent, server
for context in (server("json"), FreshContext()):
    with ProcessPoolExecutor(2, context, follow_parent) as pool:
        waiting = [pool.submit(time.sleep, 0.5) for _ in range(4)]
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
            os.system(f"kill -{int(number)} -{os.getpgrp()}")  # what its parent sends, a worker obeys
        print([done.result() for done in waiting], pool.submit(len, "ab").result())
"""


def test_workers_ignore_signals_to_the_whole_process_group() -> None:
    command = [sys.executable, "-c", SIGNALLED]
    found = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    assert found.stdout == "[None, None, None, None] 2\n" * 2, found.stderr
    assert found.stderr == ""
