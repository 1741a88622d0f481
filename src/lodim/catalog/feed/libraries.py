"""The extras ``web`` and ``postgres``: imported when used, named when missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["optional"]


def optional(module: str, extra: str = "web") -> Any:
    """Import a library of an extra.

    Raises
    ------
    ImportError
        Naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        from lodim.validation import require  # loads pandas, which is not wanted where all is well

        return require(module, extra)
