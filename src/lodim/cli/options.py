"""Values of options: durations, output files."""

from __future__ import annotations

import os
import re
from pathlib import Path

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)?", re.I)
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Read a duration: ``60``, ``60s``, ``2m``, ``1.5h``."""
    match = _DURATION.fullmatch(text.strip())
    value = float(match[1]) * _SECONDS[(match[2] or "").lower()] if match else 0.0
    if value <= 0:
        raise ValueError(f"--budget must be a duration such as 60s, 2m or 1h, got {text!r}")
    return value


def check_output(path: str | None, option: str) -> None:
    """Make sure that a file can be written before the long work begins."""
    if path is None or path == "-":
        return
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{option} {path!r} is a folder; give a file name")
    if not file.parent.is_dir():
        raise ValueError(f"{option} {path!r}: there is no folder {str(file.parent)!r}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ValueError(f"{option} {path!r} cannot be written (permission denied)")
