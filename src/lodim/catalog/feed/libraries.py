"""The extra ``web``: imported when used, named when missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["optional"]


def optional(module: str) -> Any:
    """Import a library of the extra ``web``.

    Parameters
    ----------
    module : str

    Raises
    ------
    ImportError
        Naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        from lodim.validation import require  # loads pandas, which is not wanted where all is well

        return require(module, "web")
