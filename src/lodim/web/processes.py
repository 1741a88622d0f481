"""What a queue of jobs needs of the system: a process with all its children under control, files that grow, a lock."""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["read_text", "read_whole", "run_process", "take_lock"]

_LOOK = 0.1  # seconds between two looks at a running process


def read_whole(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where there is none (yet)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_text(path: Path, start: int, most: int) -> tuple[str, int]:
    """Return the text of a file that grows (none without such a file), from byte ``start`` on, and the byte after it.

    Of more than ``most`` bytes the last are returned. A character that is only partly written yet is left for later.
    """
    try:
        with path.open("rb") as file:
            first = max(start, file.seek(0, os.SEEK_END) - most)
            file.seek(first)
            data = file.read(most)
    except FileNotFoundError:
        return "", start
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, first + len(data) - len(decoder.getstate()[0])


def run_process(
    command: Sequence[str], folder: Path, seconds: int | float, stop: threading.Event
) -> tuple[bool, int]:
    """Run a program until it ends, is to stop, or its time is over; nothing that it started outlives it.

    It works in ``folder`` and leaves temporary files there; what it prints goes to ``log.txt`` in it. Its standard
    input stays open as long as this process lives. Returns whether it ended by itself, and its exit code (minus the
    signal that ended it).
    """
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        late = time.monotonic() + seconds
        while not _ended(process) and not stop.wait(_LOOK) and time.monotonic() < late:
            pass
        by_itself = _ended(process)
    finally:
        _kill_group(process)
        code = process.wait()
        if process.stdin is not None:
            process.stdin.close()
    return by_itself, code


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended, where possible without reaping it: its group's number stays taken."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it started."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # nothing of it is left
        return


def take_lock(path: Path) -> int | None:
    """Take a lock until this process ends; return its handle, or None if someone holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        import fcntl
    except ImportError:  # no such locks here: two servers on one folder are the user's to avoid
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
