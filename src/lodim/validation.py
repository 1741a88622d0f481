"""One way to check inputs and to say what is wrong: what was expected, what came, what to do.

The messages are part of the interface: the command line prints them as they are.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from lodim.extras import require

if typing.TYPE_CHECKING:  # seconds to load, and most of what is checked here needs it for nothing
    from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "MAX_CLASSES",
    "ConvergenceWarning",
    "check_choice",
    "check_counts",
    "check_device",
    "check_fraction",
    "check_in_range",
    "check_kind",
    "check_labels",
    "check_matrix",
    "check_numbers",
    "check_tensor",
    "checked",
    "close_matches",
    "infer_kind",
    "plain_array",
    "require",
]

MAX_CLASSES = 20
F = TypeVar("F", bound=Callable[..., Any])


def __getattr__(name: str) -> Any:
    if name == "ConvergenceWarning":
        from sklearn.exceptions import ConvergenceWarning

        return ConvergenceWarning
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def close_matches(name: str, known: Iterable[Any]) -> str:
    """Return `` Did you mean 'x' or 'y'?`` for a mistyped name, or an empty string."""
    lowered = {k.lower(): k for k in map(str, known)}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(lowered[f]) for f in found)}?" if found else ""


def check_choice(value: Any, choices: Collection[Any], name: str) -> Any:
    """Return ``value`` if it is one of ``choices``; ``name`` is the parameter's, for the message."""
    try:
        known = bool(value in choices)
    except (TypeError, ValueError):  # a list, an array: it has no hash, or is equal in part
        known = False
    if not known:
        listed = ", ".join(repr(c) for c in choices)
        raise ValueError(
            f"{name} must be one of {listed}; got {_seen(value)}.{close_matches(str(value), choices)}"
        )
    return value


def check_in_range(
    value: Any,
    name: str,
    *,
    low: int | float | None = None,
    high: int | float | None = None,
    integer: bool = False,
) -> Any:
    """Return ``value`` if it is a number (``integer``: a whole one) with ``low <= value <= high``.

    Another kind of number, or none, is a TypeError; one outside the limits, or NaN, a ValueError.
    """
    if not _is_number(value, whole=integer):
        raise TypeError(f"{name} must be {'an integer' if integer else 'a number'}, got {_seen(value)}")
    plain = value.item() if isinstance(value, np.generic) else value  # limits may be beyond its precision
    if (low is not None and plain < low) or (high is not None and plain > high) or plain != plain:
        limits = " and ".join(
            text for text, bound in ((f"at least {low}", low), (f"at most {high}", high)) if bound is not None
        )
        raise ValueError(f"{name} must be {limits or 'a number'}, got {value}")
    return value


def check_counts(**counts: Any) -> None:
    """Refuse those of the named numbers that are not whole, or below 1."""
    for name, count in counts.items():
        check_in_range(count, name, low=1, integer=True)


def checked(function: F) -> F:
    """Refuse, whenever ``function`` (or a class) is called, an argument of another kind than its annotation says.

    The first thing a public function does with its arguments, written once: see :func:`check_kind` for what is judged.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)  # type: ignore[misc]
        return function
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    kinds: dict[str, tuple[frozenset[Any], Any]] = {}

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is not None and torch.compiler.is_compiling():  # what is compiled was called before
            return function(*args, **options)
        if not kinds:  # not before the first call: annotations may name what is defined later
            hints = typing.get_type_hints(function)
            read = {name: hints.get(name, Any) for name in {*positional, *named}}
            kinds.update({name: (_plain_classes(kind), kind) for name, kind in read.items()})
        # an argument too many or twice is Python's to name, when it makes the call
        for at, (name, value) in enumerate((*zip(positional, args, strict=False), *options.items())):
            plain, kind = kinds.get(name, _ANY)
            if type(value) not in plain:  # this line is what a call in a training loop costs
                check_kind(value, kind, name)
                # to torch an array without axes is no number
                if int in plain and isinstance(value, np.ndarray) and not value.ndim:
                    if at < len(args):
                        args = (*args[:at], value[()], *args[at + 1 :])
                    else:
                        options[name] = value[()]
        return function(*args, **options)

    return call  # type: ignore[return-value]


_ANY: tuple[frozenset[Any], Any] = (frozenset(), Any)
_NUMBERS = {int: Integral, np.integer: Integral, float: Real, np.floating: Real, np.number: Real}


def _plain_classes(kind: Any) -> frozenset[Any]:
    """Return classes whose objects are of a kind whatever they hold."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return frozenset().union(*map(_plain_classes, typing.get_args(kind)))
    if kind in (float, np.floating, np.number):
        return frozenset({int})  # and those of fractions where they are not NaN
    shaped = hasattr(kind, "dim_str") or kind in (Any, object)
    return frozenset({kind}) if isinstance(kind, type) and not shaped else frozenset()


def check_kind(value: Any, kind: Any, name: str) -> None:
    """Refuse an argument that is not of a kind, an annotation: TypeError, and for NaN as a number ValueError.

    Numbers are of any library, also as arrays and tensors without axes, but not boolean; ``int`` takes whole ones,
    ``float`` all real ones. Of an array its library, its dtype and how many axes it has are judged (of NumPy, whole
    numbers and truth values are fractions too, as NumPy computes with them); of a sequence that it can be gone
    through, and the entries of lists and tuples. What has no class (``Any``, type variables) is of any kind.
    """
    if kind is not Any:
        if hasattr(kind, "dim_str") and hasattr(value, "is_sparse"):
            check_tensor(value, name, numbers=False)
        if not _is_a(value, kind):
            raise TypeError(f"{name} must be {_in_words(kind)}, got {_seen(value)}")
        if isinstance(value, float | np.floating) and value != value:
            raise ValueError(f"{name} must be a number, got {value}")
    if isinstance(value, np.ma.MaskedArray):
        check_unmasked(value, name)


def _is_a(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, np.generic):  # such as np.floating[Any]
        kind, origin = origin, None
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, part) for part in parts)
    if kind is None:
        return value is None
    if kind in _NUMBERS:
        return _is_number(value, whole=_NUMBERS[kind] is Integral)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if hasattr(kind, "dim_str"):  # of jaxtyping
        library, n_axes = _read_shape(kind)
        return (
            isinstance(value, library) and n_axes in (None, value.ndim) and _holds(value.dtype, kind.dtypes)
        )
    if isinstance(origin, type) and issubclass(origin, Callable):  # type: ignore[arg-type]
        return callable(value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return hasattr(value, "items")
    if isinstance(origin, type) and issubclass(origin, Iterable):
        each = parts[0] if len(set(parts) - {...}) == 1 else Any
        listed = isinstance(value, list | tuple | str | bytes) or hasattr(value, "dtype")
        if isinstance(value, str | bytes) and not _is_a(
            value[:1], each
        ):  # bytes are no numbers, nor is an empty text
            return False
        held = isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0
        if isinstance(value, Mapping) and issubclass(origin, Sequence):  # its keys alone would be read
            return False
        if held and listed and _has_length(origin, parts):
            return len(value) == len(parts) and all(map(_is_a, value, parts))
        return held and (not listed or each is Any or all(_is_a(entry, each) for entry in value))
    if getattr(kind, "__module__", "") == "torch" and kind.__name__ == "device":
        return isinstance(value, kind) or _is_number(value, whole=True)  # the number of a GPU
    return isinstance(value, kind) if isinstance(kind, type) and kind is not Any else True


def _has_length(origin: Any, parts: tuple[Any, ...]) -> bool:
    """Whether an annotation is a tuple of as many entries as it names."""
    return origin is tuple and bool(parts) and ... not in parts


def _is_number(value: Any, *, whole: bool) -> bool:
    """Whether ``value`` is a real number of any library, if need be a whole one; an array of no axes is one too."""
    if isinstance(value, Integral if whole else Real):
        return not isinstance(value, bool)
    if (
        getattr(value, "ndim", None) != 0
        or getattr(value, "is_meta", False)
        or getattr(value, "is_sparse", False)
    ):
        return False
    return _family(value.dtype) in ("iu" if whole else "iuf")


def _family(dtype: Any) -> str:
    """Return NumPy's letter for what a dtype, or its name, holds."""
    if isinstance(dtype, np.dtype):
        return dtype.kind
    named = re.match(r"(?:torch\.)?b?(float|int|uint|bool|complex)", str(dtype))
    return named[1][0] if named else "O"


@functools.cache
def _read_shape(kind: Any) -> tuple[Any, int | None]:
    """Return the library's class of an array annotation and its number of axes, None where any will do."""
    axes = kind.dim_str.split()
    return kind.array_type, None if any(axis.startswith(("*", "...")) for axis in axes) else len(axes)


@functools.cache
def _holds(dtype: Any, wanted: Any) -> bool:
    """Whether an array of ``dtype`` holds numbers of a kind for which jaxtyping names dtypes (else: any)."""
    if not isinstance(wanted, list | tuple):
        return True
    taken = {_family(name) for name in wanted}
    if isinstance(dtype, np.dtype) and taken & {"f", "i"}:
        taken |= {"i", "b"}
    return _family(dtype) in taken or (_family(dtype) == "u" and "i" in taken)


def _in_words(kind: Any) -> str:
    """Say what an annotation takes, as the rest of ``x must be``."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        said = dict.fromkeys(map(_in_words, parts))
        return " or ".join(each for each in said if each != "an integer" or "a number" not in said)
    if isinstance(origin, type) and issubclass(origin, np.generic):
        kind, origin = origin, None
    words = {
        int: "an integer",
        np.integer: "an integer",
        str: "a string",
        bool: "True or False",
        type(None): "None",
    }
    if kind in (float, np.floating, np.number):
        return "a number"
    if hasattr(kind, "dim_str"):
        shape = f"of shape ({', '.join(kind.dim_str.split())})"
        return f"{_an(kind.array_type.__name__)} of {kind.__name__.partition('[')[0].lower()} numbers {shape}"
    if isinstance(origin, type) and origin.__name__ == "Callable":
        return "callable"
    if isinstance(origin, type):
        each = f" (each {_in_words(parts[0])})" if len(set(parts) - {..., Any}) == 1 else ""
        length = f" of {len(parts)}" if _has_length(origin, parts) else ""
        return f"{_an(origin.__name__.lower())}{length}{each}"
    return words.get(kind) or (_an(kind.__name__) if isinstance(kind, type) else str(kind).rpartition(".")[2])


def _an(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOaeio' or name == 'ndarray' else 'a'} {name}"


def _seen(value: Any) -> str:
    """Say what came in one short line: long texts and arrays by their kind."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and np.ndim(value):
        return f"an array of {value.dtype}, shape {tuple(value.shape)}"
    said = repr(value)
    return said if len(said) <= 80 and "\n" not in said else f"a {type(value).__name__}"


def check_fraction(value: Any, name: str) -> float:
    """Return ``value`` if it is a number in [0, 1]."""
    return check_in_range(value, name, low=0.0, high=1.0)


def check_matrix(
    X: Any,
    *,
    name: str = "X",
    min_rows: int = 1,
    columns: Sequence[str] | None = None,
    dtype: Any = np.float64,
) -> np.ndarray:
    """Return ``X`` as a finite 2-D array, or say which row and column is at fault.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        NumPy array, data frame, nested list or CPU tensor of numbers.
    columns : sequence of str, optional
        Column names for messages; a data frame brings its own.

    Raises
    ------
    TypeError
        A sparse matrix, or objects that are no numbers.
    ValueError
        Wrong number of axes, too few rows, text, complex numbers, masked entries, NaN or infinity.
    """
    columns = list(getattr(X, "columns", [])) or columns
    array = check_numbers(X, name, dtype=dtype)
    if array.ndim == 1:
        raise ValueError(
            f"{name} must be 2-D (rows are samples, columns features), got shape {array.shape}. "
            f"Reshape your data: {name}.reshape(-1, 1) for one feature, {name}.reshape(1, -1) for one sample"
            + (f" ({name}.to_frame() of a Series)" if hasattr(X, "to_frame") else "")
        )
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be 2-D, got shape {array.shape}; flatten each sample with X.reshape(len(X), -1)"
        )
    for count, what, least in ((len(array), "sample(s)", min_rows), (array.shape[1], "feature(s)", 1)):
        if count < least:
            raise ValueError(
                f"{name} has {count} {what} (shape={array.shape}) while a minimum of {least} is required."
            )
    _raise_if_not_finite(array, name, columns)
    # rows of one layout in memory: sums in another order round otherwise, and the same data would answer otherwise
    return np.asarray(array, dtype=dtype, order="C")


def check_numbers(values: Any, name: str, *, dtype: Any = np.float64) -> np.ndarray:
    """Return real numbers of any shape as an array that torch takes too: native, aligned, no view that runs backwards.

    Parameters
    ----------
    values : array-like or Tensor
    name : str
        How messages call them.

    Raises
    ------
    TypeError
        A sparse matrix, or objects that are no numbers.
    ValueError
        Text, complex numbers, rows of different length, or masked entries.
    """
    check_unmasked(values, name)
    values = to_numpy(values, name)
    if values is None:  # NumPy would make NaN of it
        raise TypeError(f"{name} must hold numbers, got None")
    try:
        if hasattr(values, "__array_function__"):
            values = np.asanyarray(values)
        is_complex = np.iscomplexobj(values)
        if str(getattr(getattr(values, "dtype", None), "kind", "")) in ("m", "M"):
            raise TypeError("dates and durations are none; count days")
        array = np.asarray(values, dtype=None if is_complex else np.dtype(dtype).newbyteorder("="))
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must hold numbers only ({error}); encode text and categories first, "
            "or read the table with lodim.datasets.read_table, which does"
        ) from error
    if is_complex:
        raise ValueError(f"Complex data not supported: {name} must hold real numbers")
    odd = any(step < 0 or step % array.itemsize for step in array.strides)
    return array.copy() if odd or not array.flags.aligned else array


def check_tensor(values: Any, name: str, *, numbers: bool = True, finite: bool = False) -> Any:
    """Return ``values`` if it is a dense tensor of real numbers (without ``numbers``: or of their shapes alone, meta).

    Raises
    ------
    TypeError
        No tensor, or a sparse one.
    ValueError
        Complex numbers, or none; with ``finite``, also NaN and infinity.
    """
    if not hasattr(values, "is_floating_point"):
        raise TypeError(
            f"{name} must be a tensor, got {_seen(values)}; torch.from_numpy(...) makes one of an array"
        )
    if values.is_sparse or values.is_sparse_csr:
        raise TypeError(f"{name} is sparse, and sparse input is not supported; use {name}.to_dense()")
    if values.is_complex():
        raise ValueError(f"Complex data not supported: {name} must hold real numbers, got {values.dtype}")
    if numbers and values.is_meta:
        raise ValueError(
            f"{name} is on the meta device, where tensors hold no numbers; give it on the CPU or a GPU"
        )
    if finite and not bool(values.isfinite().all()):
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity")
    return values


def check_device(device: Any, name: str = "device") -> Any:
    """Return the ``torch.device`` of a name, or of a device; a ValueError where there is none of it."""
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{name} must be a device that torch has here, such as 'cpu', got {_seen(device)}"
        ) from error
    return found


def to_numpy(values: Any, name: str = "the tensor") -> Any:
    """Return a tensor as an array (in single precision where NumPy lacks its dtype), anything else as it is.

    A tensor of complex numbers or without any (of the meta device) is a ValueError, a sparse one a TypeError.
    """
    if hasattr(values, "tocsr"):
        raise TypeError(f"{name} is sparse, and sparse input is not supported; use {name}.toarray()")
    if not hasattr(values, "detach"):
        return values
    values = check_tensor(values, name).detach().cpu()
    return (values.float() if "bfloat16" in str(values.dtype) else values).numpy()


def plain_array(values: Any, name: str, *, rows: bool = False) -> np.ndarray:
    """Return what an array-like or a tensor holds, whatever it is, as an array; with ``rows`` it has an axis of them.

    Raises
    ------
    TypeError
        A sparse matrix or tensor.
    ValueError
        Masked entries, entries of different length, or one thing where there should be rows of it.
    """
    check_unmasked(values, name)
    try:
        array = np.asarray(to_numpy(values, name))
    except ValueError as error:
        if hasattr(values, "detach"):  # which says what is wrong
            raise
        raise ValueError(f"{name} must be an array, its entries of one length ({error})") from error
    if rows and not array.ndim:
        raise ValueError(f"{name} must have rows, shape (n, ...), got {_seen(values)}")
    return array


def to_torch(values: Any, name: str = "the array") -> Any:
    """Return a tensor as it is, and any other array-like as a tensor on its memory.

    What torch cannot hold is copied: read-only arrays, negative strides, bytes in foreign order.
    """
    import torch

    if isinstance(values, torch.Tensor):
        return values
    array = plain_array(values, name)
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def check_unmasked(values: Any, name: str) -> None:
    """Refuse masked entries, which a plain array would hold as if they were numbers."""
    if count := _count_masked(values):
        raise ValueError(
            f"{name} has {count} masked entries; drop those rows, or impute them with {name}.filled(...)"
        )


def _count_masked(values: Any) -> int:
    if isinstance(values, list | tuple):
        return sum(_count_masked(part) for part in values if isinstance(part, list | tuple | np.ndarray))
    return int(np.ma.count_masked(values)) if isinstance(values, np.ma.MaskedArray) else 0


def _raise_if_not_finite(array: np.ndarray, name: str, columns: Sequence[Any] | None) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=np.float64)
    if not np.issubdtype(array.dtype, np.floating) or np.isfinite(total):
        return  # one pass in the common case
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    row, column = (int(i) for i in np.argwhere(bad)[0])
    label = repr(str(columns[column])) if columns is not None else column
    n_nan = int(np.isnan(array).sum())
    what = f"{n_nan} NaN" if n_nan else f"{int(bad.sum())} infinite values"
    raise ValueError(f"{name} has {what}, the first in row {row}, column {label}; drop or impute them")


def check_labels(y: Any, n_samples: int, *, name: str = "y") -> np.ndarray:
    """Return ``y`` as a 1-D array of ``n_samples`` entries, none of them missing, masked or infinite."""
    array = plain_array(y, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D (one target a sample), got shape {array.shape}")
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must hold labels or real numbers")
    import pandas as pd

    missing = np.asarray(pd.isna(array))
    if missing.any():
        raise ValueError(
            f"{name} has {int(missing.sum())} missing values, the first at {int(missing.argmax())}"
        )
    if array.dtype.kind == "f" and (endless := np.isinf(array)).any():
        raise ValueError(
            f"{name} has {int(endless.sum())} infinite values, the first at {int(endless.argmax())}"
        )
    if array.dtype.kind in "OV":
        try:
            np.unique(array)
        except TypeError as error:
            raise TypeError(f"{name} must hold labels of one kind, texts or numbers ({error})") from error
    if len(array) != n_samples:
        raise ValueError(f"{name} has {len(array)} entries but X has {n_samples} rows; they must match")
    return array


def infer_kind(values: Any) -> str:
    """Return ``"classification"`` or ``"regression"``, as a target's values (none of them missing) suggest.

    Text, categories and booleans are classes, fractions and dates numbers. Whole numbers are classes when there are at
    most :data:`MAX_CLASSES` different ones, with two samples each on average, and nothing marks them as quantities:

    - three or more, all of them years (1800 to 2100);
    - six or more below -1, from 10 up, or with wide gaps: codes of classes begin near 0 and leave few numbers out;
    - six or more whose frequencies rise to one peak and thin out to single samples at the upper end, as those of counts
      do: a class that is worth a code has samples.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iufMm":
        return "classification"
    if values.dtype.kind in "Mm" or not np.all(values == np.round(values)):
        return "regression"
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > MAX_CLASSES or 2 * len(levels) > len(values):
        return "regression"
    least, span, n = float(levels[0]), float(levels[-1]) - float(levels[0]) + 1, len(levels)
    years = n >= 3 and least >= 1800 and levels[-1] <= 2100
    uncoded = n >= 6 and (least < -1 or least >= 10 or span > 5 * n)
    return "regression" if years or uncoded or _thin_out(counts) else "classification"


def _thin_out(counts: np.ndarray) -> bool:
    """Whether frequencies of ordered values rise to one peak, up to sampling noise, and end in a few samples."""
    peak = int(counts.argmax())
    few = min(max(5.0, counts[peak] / 100), counts[peak] / 5)
    if len(counts) < 6 or counts[-1] > few:
        return False
    from scipy.optimize import isotonic_regression
    from scipy.stats import chi2

    sides = (counts[:peak], True), (counts[peak:], False)
    fit = np.concatenate([isotonic_regression(c, increasing=up).x for c, up in sides if len(c)])
    return bool(((counts - fit) ** 2 / fit).sum() <= chi2.isf(1e-3, len(counts)))


def warn(message: str, category: type[Warning] = UserWarning, *, stacklevel: int = 3) -> None:
    """Warn from the caller's caller, so that the line shown is the user's; frames of :func:`checked` do not count."""
    frame, left = sys._getframe(1), stacklevel - 2
    while left > 0 and frame.f_back is not None:
        frame = frame.f_back
        own = frame.f_code.co_filename == __file__
        left, stacklevel = left - (not own), stacklevel + own
    warnings.warn(message, category, stacklevel=stacklevel)
