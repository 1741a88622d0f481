"""The extras ``web`` and ``postgres``: imported when used, named when missing."""

from __future__ import annotations

from typing import Any

from lodim.extras import require

__all__ = ["optional"]


def optional(module: str, extra: str = "web") -> Any:
    """Import a library of an extra."""
    return require(module, extra)
