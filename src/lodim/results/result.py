"""Results: frozen dataclasses that print, tabulate and travel as JSON.

:class:`Result` is a mixin of a few methods, not a hierarchy: a result is a plain frozen dataclass whose fields are
numbers, strings, arrays, tuples, dictionaries or other results. Two of a class are equal if their contents are, NaN
being equal to NaN. JSON has no NaN and no infinity: both are written as
null, and a field annotated ``float`` reads null back as NaN (so results that can be infinite carry a status as well).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from html import escape
from typing import Any, TypeVar

import numpy as np

__all__ = ["Result", "to_plain"]

_LEAVES: dict[Any, Any] = {int: int, float: (int, float), str: str, bool: bool}
_hints = functools.cache(typing.get_type_hints)  # which compiles every annotation anew
R = TypeVar("R", bound="Result")  # not Self: run-time type checkers accept Self only in classes they decorate


def to_plain(value: Any) -> Any:
    """Return ``value`` as JSON-ready data: arrays to lists, NumPy scalars to Python's, NaN and infinity to None.

    It may be a dataclass, mapping, sequence, array, number, string or None; anything else is a TypeError.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if hasattr(value, "detach"):  # a torch tensor
        return to_plain(value.detach().cpu().numpy())
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _from_plain(annotation: Any, value: Any) -> Any:
    """Rebuild one field from plain data, guided by its annotation."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        wrong: list[Exception] = []
        for part in (a for a in args if a is not type(None)):
            try:
                return _from_plain(part, value)
            except (TypeError, ValueError) as error:
                wrong.append(error)
        raise wrong[0]
    if origin in (tuple, list) and value is not None and not isinstance(value, list | tuple):
        raise TypeError(f"expected a list, got {value!r}")
    if origin is dict and value is not None and not isinstance(value, dict):
        raise TypeError(f"expected an object, got {value!r}")
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and isinstance(value, dict):
        hints = _hints(annotation)
        held = {}
        for name in (f.name for f in dataclasses.fields(annotation) if f.name in value):
            try:
                held[name] = _from_plain(hints[name], value[name])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} of {annotation.__name__}: {error}") from error
        try:
            return annotation(**held)
        except TypeError as error:  # which names the fields that are missing
            raise ValueError(f"no {annotation.__name__}: {error}") from error
    if annotation is float and value is None:
        return math.nan
    if (
        annotation is np.ndarray
        or getattr(annotation, "array_type", None) is np.ndarray
        or origin is np.ndarray
    ):
        array = np.asarray(value)
        return None if value is None else array.astype(float) if array.dtype == object else array  # null: NaN
    if origin is tuple and value is not None:
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_from_plain(args[0], v) for v in value)
        return tuple(_from_plain(a, v) for a, v in zip(args, value, strict=True))
    if origin is list and value is not None and args:
        return [_from_plain(args[0], v) for v in value]
    if origin is dict and value is not None and len(args) == 2:
        key = int if args[0] is int else str
        return {key(k): _from_plain(args[1], v) for k, v in value.items()}
    kinds = _LEAVES.get(annotation, object)
    if value is not None and (
        not isinstance(value, kinds) or (isinstance(value, bool) and kinds not in (bool, object))
    ):
        raise TypeError(f"expected {annotation.__name__}, got {value!r}"[:200])
    return value


def _same(a: Any, b: Any) -> bool:
    """Whether two fields hold the same, arrays by their elements."""
    if hasattr(a, "__array__") and hasattr(b, "__array__"):
        x, y = (np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for v in (a, b))
        return np.array_equal(x, y, equal_nan=x.dtype.kind in "fc" and y.dtype.kind in "fc")
    if hasattr(a, "__array__") != hasattr(b, "__array__") and (np.ndim(a) or np.ndim(b)):
        return False  # an array and none
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and a != a and b != b)


class Result:
    """Mixin of the library's result dataclasses: equality, JSON there and back, and a notebook view."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("__eq__", "__hash__"):  # set here, or the decorator writes its own, which arrays break
            if name not in cls.__dict__:
                setattr(cls, name, getattr(cls, name))

    def __eq__(self, other: object) -> Any:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(value, getattr(other, name)) for name, value in self._fields())

    def __hash__(self) -> int:
        values = [v.item() if isinstance(v, np.generic) else v for _, v in self._fields()]
        return hash((type(self), *(v for v in values if isinstance(v, str | int | float) and v == v)))

    def _fields(self) -> list[tuple[str, Any]]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return [(f.name, getattr(self, f.name)) for f in fields if f.compare]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data (see :func:`to_plain`)."""
        return to_plain(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the fields as JSON without NaN or Infinity tokens."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls: type[R], data: Any) -> R:
        """Rebuild the result from :meth:`to_dict`'s data; unknown keys are ignored.

        Raises
        ------
        ValueError
            Data of something else: a field is missing or of another kind, which is named.
        """
        if not isinstance(data, dict):
            raise ValueError(
                f"a {cls.__name__} is read from an object of its fields, got a {type(data).__name__}"
            )
        return _from_plain(cls, data)

    @classmethod
    def from_json(cls: type[R], text: Any) -> R:
        """Rebuild the result from :meth:`to_json`'s text; a ValueError for another text, as in :meth:`from_dict`."""
        try:
            data = json.loads(text)
        except RecursionError:
            raise ValueError(f"the text of a {cls.__name__} is nested too deeply to be one") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"the text of a {cls.__name__} is no JSON: {error}") from error
        return cls.from_dict(data)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"
