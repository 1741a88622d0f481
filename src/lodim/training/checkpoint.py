"""Files from which a run goes on: written whole or not at all, and taken up only by the run that they belong to."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_writable", "fingerprint", "read", "rng_states", "set_rng_states", "write"]


def write(path: Path, content: dict[str, Any]) -> None:
    """Write so that a kill leaves the former file or the new one, never half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def read(path: Path, key: str, device: torch.device) -> dict[str, Any]:
    """Read a file of tensors and plain data.

    Raises
    ------
    ValueError
        It has another key: it belongs to another run.
    """
    content = torch.load(path, map_location=device, weights_only=True)
    if content["key"] != key:
        raise ValueError(
            f"the checkpoint {path.name} belongs to another run (recipe, lr, seed, parameters or data differ); delete "
            "it or give another path"
        )
    return content


def check_writable(path: Path) -> None:
    """Raise the system's own error before hours of work, not after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def fingerprint(*parts: Any) -> str:
    """Return a key of what must agree: equal for equal settings, in every process."""
    return hashlib.blake2b(repr(_plain(parts)).encode(), digest_size=12).hexdigest()


def _plain(value: Any) -> Any:
    """``value`` without addresses in memory; functions by their names, tensors by shape and sum."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value).__name__, fields
    if isinstance(value, functools.partial):
        return _plain(value.func), _plain(value.args), _plain(value.keywords)
    if isinstance(value, Tensor):
        return tuple(value.shape), float(value.detach().sum(dtype=torch.float64))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return repr(value)


def rng_states(device: torch.device) -> list[Tensor]:
    """States of torch's generators: the CPU's, and the device's where it is another."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def set_rng_states(states: list[Tensor], device: torch.device) -> None:
    """Set them again."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
