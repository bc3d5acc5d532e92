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


def test_a_script_needs_no_guard_around_what_starts_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    found = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert found.stdout == "once\n[2, 2, 2, 2] True\n", found.stderr
