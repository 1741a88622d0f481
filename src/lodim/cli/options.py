"""Values of options: durations, choices, files and folders; what is wrong is said before the long work begins.

What is to be written and what is to be read is checked here, once for all commands, and every message names the option.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(s|sec|m|min|h)?", re.IGNORECASE | re.ASCII)
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LONGEST = 1e9  # seconds, about 30 years; clocks and waits overflow somewhat above


def seconds(text: str) -> float:
    """Read a duration: ``60``, ``60s``, ``2m``, ``1.5h``."""
    match = _DURATION.fullmatch(text.strip())
    value = float(match[1]) * _SECONDS[(match[2] or "").lower()] if match else 0.0
    if not 0 < value <= _LONGEST:
        raise ValueError(f"--budget must be a duration such as 60s, 2m or 1h, got {text[:80]!r}")
    return value


def check_one_of(value: str, choices: Collection[str], option: str) -> None:
    """Refuse what is none of the choices, and propose what comes close."""
    if value not in choices:
        from lodim.validation import check_choice

        check_choice(value, choices, option)


def standard_input() -> Any:
    """Return standard input, which a shell may have closed."""
    if sys.stdin is None:
        raise ValueError("- reads standard input, which is closed")
    return sys.stdin


def check_regular(path: str, option: str) -> None:
    """Refuse a pipe or a device, from which reading may never end."""
    _check_given(path, option)
    file = Path(path)
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise ValueError(f"{option} {path!r} is a pipe or a device; save what it gives in a file first")


def check_input(path: str, option: str) -> None:
    """Make sure that there is a file to be read."""
    check_regular(path, option)
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{option} {path!r} is a folder; name a file")
    if not file.exists():
        raise ValueError(f"{option}: there is no file {path!r}{_leads_nowhere(file)}")
    if not os.access(file, os.R_OK):
        raise ValueError(f"{option} {path!r} cannot be read (permission denied)")


def check_output(path: str | None, option: str) -> None:
    """Make sure that a file can be written: beside its place, where it is made before it is moved there."""
    if path is None or path == "-":
        return
    _check_given(path, option)
    file = Path(os.path.realpath(path))
    if file.is_dir() or not os.path.basename(path):
        raise ValueError(f"{option} {path!r} is a folder; give a file name")
    if not file.parent.is_dir():
        raise ValueError(f"{option} {path!r}: there is no folder {str(Path(path).parent)!r}")
    device = file.exists() and not file.is_file()
    for place in (file,) if device else (file, file.parent):
        if place.exists() and not os.access(place, os.W_OK):
            where = "" if place == file else f" in the folder {str(place)!r}"
            raise ValueError(f"{option} {path!r} cannot be written{where} (permission denied)")


def check_folder(path: str, option: str, *, make: bool = False) -> None:
    """Make sure that there is a folder; with ``make``, that it can be written to, or made in one that is there."""
    _check_given(path, option)
    folder = Path(path)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{option} {path!r} is a file; name a folder")
        if not make or folder.is_symlink() or not folder.parent.is_dir():
            raise ValueError(f"{option}: there is no folder {path!r}{_leads_nowhere(folder)}")
        folder = folder.parent
    if make and not os.access(folder, os.W_OK):
        raise ValueError(f"{option} {path!r} cannot be written to (permission denied)")


def check_apart(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None] | None = None) -> None:
    """Refuse an output that would overwrite another one or an input, under whatever name; ``-`` is standard output."""
    named = {option: path for option, path in {**outputs, **(inputs or {})}.items() if path is not None}
    for (one, first), (other, second) in combinations(named.items(), 2):
        if one not in outputs:
            continue
        if first == second == "-":
            raise ValueError(f"{one} - and {other} - cannot both go to standard output")
        if _same_file(first, second):
            raise ValueError(f"{one} {first!r} and {other} {second!r} are the same file; name another one")


def _same_file(first: str, second: str) -> bool:
    first, second = ("/dev/stdout" if path == "-" else os.path.realpath(path) for path in (first, second))
    if first == second:
        return True
    try:
        return os.path.samefile(first, second)
    except OSError:  # one of them is not there yet
        return False


def _check_given(path: str, option: str) -> None:
    if not path.strip():
        raise ValueError(f"{option} is empty; leave it out or give a name")


def _leads_nowhere(file: Path) -> str:
    return " (it is a link that leads nowhere)" if file.is_symlink() else ""
