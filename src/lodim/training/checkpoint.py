"""Files from which a run goes on: written whole or not at all, sealed, and never taken for what they are not."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lodim.files import UnsealedFileError, open_whole, read_sealed

__all__ = ["check_writable", "read", "rng_states", "set_aside", "set_rng_states", "write"]

_FORMAT = "lodim checkpoint 2"
_ZIP = b"PK\x03\x04"


def write(path: Path, content: dict[str, Any]) -> None:
    """Write so that a kill or a full disk leaves the former file or the new one, never half of one."""
    try:
        with open_whole(path, sealed=True) as file:
            torch.save({"format": _FORMAT, **content}, file)
            if not path.exists():  # say at the first checkpoint, not after the crash, that it is of no use
                file.seek(0)
                torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(
            "the checkpoint could not be read again: every state_dict in it (of the optimiser, of what is in keep) "
            "must consist of tensors, numbers, text, lists and dicts; turn NumPy's arrays and numbers into such"
        ) from error
    except RuntimeError as error:  # torch's words for the system's error
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what :func:`write` wrote.

    Raises
    ------
    DamagedFileError
        A checkpoint of which bytes were changed or lost.
    ValueError
        Another file, which is not to be overwritten.
    """
    try:
        content = _load(io.BytesIO(read_sealed(path)), device)
    except UnsealedFileError:
        if _has_lost_its_seal(path):
            raise
        content = None
    if content is None or content.get("format") != _FORMAT:
        raise ValueError(
            f"{path.name} is no checkpoint of this version of lodim, and is left as it is; give another path, or "
            "delete it to start again"
        )
    return content


def _load(file: Any, device: torch.device | str) -> dict[str, Any] | None:
    """Return the dict in a file of torch's; None of anything else."""
    try:
        content = torch.load(file, map_location=device, weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ):
        return None
    return content if isinstance(content, dict) else None


def _has_lost_its_seal(path: Path) -> bool:
    """Whether a file without one can have been a checkpoint: whole, truncated, empty, or blank after a power cut."""
    if zipfile.is_zipfile(path):
        return (_load(path, "cpu") or {}).get("format") == _FORMAT
    with path.open("rb") as file:
        start = file.read(1 << 16)
    return _ZIP.startswith(start[: len(_ZIP)]) or not start.strip(b"\0")


def set_aside(path: Path) -> Path:
    """Give a damaged file another name beside its own, and return it."""
    path = Path(os.path.realpath(path))
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    return path.rename(aside)


def check_writable(path: Path) -> None:
    """Raise the system's own error before hours of work, not after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def rng_states(device: torch.device) -> list[Tensor]:
    """States of torch's generators: the CPU's, and the device's where it is another."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def set_rng_states(states: list[Tensor], device: torch.device) -> None:
    """Set them again."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
