"""Running SQL: a statement with its values by name, and lists of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

__all__ = ["run"]

_text = lru_cache(maxsize=256)(sa.text)  # a statement is parsed once, not for every record


def run(connection: sa.Connection, statement: str, /, **values: Any) -> Any:
    """Execute a statement with values for its ``:names``; a tuple is a list of values for ``IN``."""
    lists = [
        sa.bindparam(name, expanding=True, type_=_type_of(value))
        for name, value in values.items()
        if isinstance(value, tuple)
    ]
    made = _text(statement)
    return connection.execute(made.bindparams(*lists) if lists else made, values)


def _type_of(values: tuple[Any, ...]) -> Any:
    """Return the type of a list, which an empty one has too."""
    return sa.BigInteger() if values and isinstance(values[0], int) else sa.Text()
