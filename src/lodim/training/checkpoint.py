"""Files from which a run goes on: written whole or not at all, and taken up only by the run that they belong to."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_writable", "fingerprint", "read", "rng_states", "set_rng_states", "write"]


def write(path: Path, content: dict[str, Any]) -> None:
    """Write so that a kill leaves the former file or the new one, never half of one."""
    with tempfile.TemporaryDirectory(
        dir=path.parent
    ) as folder:  # a file in it has the permissions of any other
        part = Path(folder) / path.name
        torch.save(content, part)
        if not path.exists():
            _check_readable(part)
        os.replace(part, path)


def _check_readable(path: Path) -> None:
    """Say at the first checkpoint, not after the crash, that it is of no use."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(
            "the checkpoint could not be read again: every state_dict in it (of the optimiser, of what is in keep) "
            "must consist of tensors, numbers, text, lists and dicts; turn NumPy's arrays and numbers into such"
        ) from error


def read(path: Path, key: str, device: torch.device) -> dict[str, Any]:
    """Read a file of tensors and plain data; one with another key belongs to another run and is refused."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found = content["key"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, struct.error) as error:
        raise ValueError(
            f"{path.name} is no checkpoint, or is damaged; delete it or give another path"
        ) from error
    if found != key:
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
    """``value`` without addresses in memory; functions by their names, tensors and arrays by their contents."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value).__name__, fields
    if isinstance(value, functools.partial):
        return _plain(value.func), _plain(value.args), _plain(value.keywords)
    if isinstance(value, Tensor):
        flat = value.detach().cpu().resolve_conj().reshape(-1)
        digest = hashlib.blake2b(flat.contiguous().view(torch.uint8).numpy().data).hexdigest()
        return tuple(value.shape), str(value.dtype), digest
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return _plain(torch.as_tensor(np.ascontiguousarray(value)))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(_plain(v)) for v in value)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
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
