"""Texts and tables as tokens and back: :class:`Vocabulary`, :class:`Columns`, and which of them data need.

Models of tokens see whole numbers 0, 1, ..., with one number beyond (the mask) where nothing is known. What people have
are texts, which differ in length, and tables, each column of which has levels of its own and gaps. Both classes here
have ``sizes`` (tokens, of all places together or one by one), ``length`` (places), ``encode`` and ``decode``, which
gives back what came in.

* The end of a text is filled with a padding token, which a model learns like any other, and with it the lengths. There
  is one only where lengths differ. A model may put it in the middle of a sample; it is left out there too, so that
  nothing is lost that a prompt asked for.
* A token left out of the vocabulary for being rare is read as the unknown token (written U+FFFD), which is trained,
  since the rare ones of the training texts are read so. Without one, an unseen token is an error.
* A missing cell of a table is masked: the model neither learns from it nor has to be told anything else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lodim.validation import (
    MAX_CLASSES,
    check_choice,
    check_counts,
    check_in_range,
    checked,
    close_matches,
    plain_array,
)

__all__ = ["Columns", "Vocabulary", "codec_of"]

KINDS = ("characters", "words", "tokens")
UNKNOWN = "\ufffd"
MAX_NUMBERS = 100  # different whole numbers of a categorical column; of fractions, as many as classes


@checked
@dataclass(frozen=True, repr=False)
class Vocabulary:
    """Texts as rows of tokens; most easily made by :meth:`of`.

    Parameters
    ----------
    tokens : tuple of str
        Token i is the i-th; the unknown token and then padding, where there are any, follow the last.
    length : int
        Tokens of a text at most.
    kind : {"characters", "words", "tokens"}
        What a text is cut into: its characters; its words, which white space parts and one space joins again; or
        nothing, since each text is a sequence of tokens already and stays one.
    units : tuple of str
        Longer strings that count as one character: of a SMILES string "Cl", "Br", "[nH]". The longest that fits is
        taken.
    unknown, padding : bool
        Whether there is such a token.

    Raises
    ------
    ValueError
        No token, an empty one or one twice; an unknown ``kind``; ``units`` of another kind than characters.

    Examples
    --------
    >>> vocabulary = Vocabulary.of(["CCl", "CO", "C"], units=["Cl"])
    >>> vocabulary
    Vocabulary(3 characters and padding, length 2: 'C' 'Cl' 'O')
    >>> vocabulary.encode(["CCl", "O"]).tolist()
    [[0, 1], [2, 3]]
    >>> vocabulary.decode(vocabulary.encode(["CCl", "O"]))
    ['CCl', 'O']
    """

    tokens: tuple[str, ...]
    length: int
    kind: str = "characters"
    units: tuple[str, ...] = ()
    unknown: bool = False
    padding: bool = False

    def __post_init__(self) -> None:
        check_choice(self.kind, KINDS, "kind")
        check_counts(length=self.length)
        if not self.tokens or len(set(self.tokens)) < len(self.tokens) or not all(self.tokens):
            raise ValueError("tokens must be one string or more, all different and none of them empty")
        if self.units and (self.kind != "characters" or not all(self.units)):
            raise ValueError(f"units are strings of kind='characters', got {self.units}, {self.kind!r}")

    @classmethod
    @checked
    def of(
        cls,
        texts: Sequence[Any],
        *,
        kind: str = "characters",
        length: int | None = None,
        units: Sequence[str] = (),
        min_count: int = 1,
        max_size: int | None = None,
    ) -> Vocabulary:
        """Return the vocabulary of some texts.

        Parameters
        ----------
        texts : sequence of str
            Of ``kind="tokens"``: of sequences of str.
        kind, units
            See the class.
        length : int, optional
            Default: that of the longest text.
        min_count, max_size : int
            Tokens that occur less often are left out, and all but so many of the most frequent.

        Raises
        ------
        TypeError
            An entry that is no text.
        ValueError
            No texts, nothing in them, or texts longer than ``length``.
        """
        check_in_range(min_count, "min_count", low=1, integer=True)
        if max_size is not None:
            check_counts(max_size=max_size)
        if isinstance(units, str):
            raise TypeError(f"units must be several strings, got one; of a single unit, [{units!r}]")
        # to cut texts, it need not know their tokens
        cutter = cls(("-",), 1, kind, tuple(units))
        rows = [cutter.split(text, row) for row, text in enumerate(_rows_of(texts))]
        counts = Counter(piece for pieces in rows for piece in pieces)
        longest = max(map(len, rows))
        if not longest:
            raise ValueError(f"X has {len(rows)} texts, all of them empty: there is no token in them")
        length = longest if length is None else length
        frequent = sorted(counts, key=lambda token: (-counts[token], token))[:max_size]
        kept = tuple(sorted(token for token in frequent if counts[token] >= min_count))
        if not kept:
            raise ValueError(
                f"no token occurs {min_count} times, the most frequent, {frequent[0]!r}, {counts[frequent[0]]}; "
                "take a lower min_count"
            )
        shortest = min(map(len, rows))
        made = cls(kept, length, kind, tuple(units), len(kept) < len(counts), shortest < length)
        made._check_lengths(rows)
        return made

    @property
    def sizes(self) -> int:
        """Tokens in all, the unknown one and padding included; also the number of the mask."""
        return len(self.tokens) + self.unknown + self.padding

    @cached_property
    def _shown(self) -> list[str | None]:
        """What each number is written as: padding as nothing, the mask as None."""
        return [*self.tokens, *[UNKNOWN] * self.unknown, *[""] * self.padding, None]

    @cached_property
    def _numbers(self) -> dict[str | None, int]:
        return {token: i for i, token in enumerate(self._shown)} | {t: i for i, t in enumerate(self.tokens)}

    @cached_property
    def _cut(self) -> Any:
        longest_first = sorted(self.units, key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), "."]), re.DOTALL)

    def split(self, text: Any, row: int = 0) -> list[str]:
        """Return the tokens of a text, known or not; ``row`` is for messages."""
        if self.kind == "tokens":
            if isinstance(text, str | bytes) or not isinstance(text, Sequence | np.ndarray):
                raise TypeError(f"text {row} must be a sequence of tokens, got {text!r}")
            if odd := [piece for piece in text if not isinstance(piece, str)]:
                raise TypeError(f"text {row} must hold tokens that are strings, got {odd[0]!r}")
            return [str(piece) for piece in text]
        if not isinstance(text, str):
            raise TypeError(f"text {row} must be a string, got {text!r}")
        if self.kind == "words":
            return text.split()
        return self._cut.findall(text) if self.units else list(text)

    @checked
    def encode(self, X: Any, *, partial: bool = False) -> Int64[Tensor, "n length"]:
        """Return texts as numbers.

        Parameters
        ----------
        X : sequence of str, or of sequences of str
        partial : bool
            Read prompts. One is a string, after which everything is free; or a list of strings, with None for each
            token that is free and "" for padding: after its end everything is free too, or if it ends in "" there is
            nothing. One prompt alone (a string, or a list with None in it) is one row.

        Raises
        ------
        TypeError
            An entry that is no text.
        ValueError
            Tokens that the vocabulary has not; texts longer than its ``length``, or shorter where there is no padding.
        """
        if partial and (isinstance(X, str) or (isinstance(X, list | tuple) and any(p is None for p in X))):
            X = [X]
        read: Any = self._prompt if partial else self.split
        rows = [read(text, row) for row, text in enumerate(_rows_of(X))]
        self._check_lengths(rows)
        mask = self.sizes
        short = next((row for row, pieces in enumerate(rows) if len(pieces) < self.length), None)
        if not partial and not self.padding and short is not None:
            raise ValueError(
                f"text {short} has {len(rows[short])} tokens instead of {self.length}: the texts that the vocabulary "
                "was made of were of one length, so that it has no padding. Make it with a larger length="
            )
        out = np.full((len(rows), self.length), mask - 1 if self.padding and not partial else mask)
        for row, pieces in enumerate(rows):
            if partial and pieces and pieces[-1] == "":
                out[row] = mask - 1
            found = [self._numbers.get(piece) for piece in pieces]
            if None in found:
                found = [self._number(piece, row, i) for i, piece in enumerate(pieces)]
            out[row, : len(pieces)] = found
        return torch.from_numpy(out)

    def _prompt(self, prompt: Any, row: int) -> list[str | None]:
        """Tokens of a prompt, None where it is free."""
        if isinstance(prompt, str) and self.kind != "tokens":
            return list(self.split(prompt, row))
        if isinstance(prompt, str) or not isinstance(prompt, Sequence | np.ndarray):
            raise TypeError(f"prompt {row} must be a list of strings and None, got {prompt!r}")
        whole = self.kind == "tokens"
        cut = ([p] if p in (None, "") else self.split([p] if whole else p, row) for p in prompt)
        return [piece for pieces in cut for piece in pieces]

    def _number(self, piece: str | None, row: int, place: int) -> int:
        found = self._numbers.get(piece, len(self.tokens) if self.unknown and piece else None)
        if found is None:
            raise ValueError(
                f"text {row} has {piece!r} at position {place}, which is none of the {len(self.tokens)} tokens of the "
                f"vocabulary.{close_matches(str(piece), self.tokens)}"
            )
        return found

    def _check_lengths(self, rows: list[Any]) -> None:
        lengths = [len(pieces) for pieces in rows]
        if max(lengths) > self.length:
            many = sum(length > self.length for length in lengths)
            raise ValueError(
                f"{many} of {len(rows)} texts have more than {self.length} tokens, the longest {max(lengths)} "
                f"(text {lengths.index(max(lengths))}): shorten them, or make the vocabulary with "
                f"length={max(lengths)}"
            )

    @checked
    def decode(self, tokens: Any) -> list[Any]:
        """Return numbers as texts; a row with masked places as a list of tokens, None where masked, as prompts are."""
        shown, texts = self._shown, []
        for row in _checked_tokens(tokens, self.length, [self.sizes] * self.length, self.sizes).tolist():
            pieces: Any = [shown[i] for i in row]
            if None not in pieces:
                pieces = [piece for piece in pieces if piece]
                if self.kind != "tokens":
                    pieces = (" " if self.kind == "words" else "").join(pieces)
            texts.append(pieces)
        return texts

    def name_of(self, place: int, token: int) -> str:
        """Return a token in words, for messages."""
        if self.padding and token == self.sizes - 1:
            return "padding"
        return repr(self._shown[token])

    def __repr__(self) -> str:
        more = " and unknown" * self.unknown + " and padding" * self.padding
        shown = " ".join(map(repr, self.tokens[:8])) + " ..." * (len(self.tokens) > 8)
        return f"Vocabulary({len(self.tokens)} {self.kind}{more}, length {self.length}: {shown})"


def _rows_of(X: Any) -> list[Any]:
    if isinstance(X, str | bytes) or not hasattr(X, "__iter__"):
        raise TypeError(f"X must be a list of texts, got one {type(X).__name__}; of a single one, [text]")
    rows = list(X)
    if not rows:
        raise ValueError("X has no texts")
    return rows


def _checked_tokens(tokens: Any, length: int, sizes: Sequence[int], mask: int) -> np.ndarray:
    """Tokens (n, length) as an array, each below its place's size or the mask."""
    array = plain_array(tokens, "tokens")
    if array.ndim != 2 or array.shape[1] != length or array.dtype.kind not in "iu":
        raise ValueError(f"tokens must be integers of shape (n, {length}), got {array.dtype}, {array.shape}")
    wrong = ((array < 0) | (array >= np.asarray(sizes))) & (array != mask)
    if wrong.any():
        row, place = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"token {array[row, place]} in row {row}, place {place} is beyond the {sizes[place]} there, and is not "
            f"the mask ({mask})"
        )
    return array


@dataclass(frozen=True)
class Column:
    """A categorical column: token i is level i. ``dtype`` is what NumPy or pandas called it."""

    name: Any
    levels: tuple[Any, ...]
    dtype: Any

    @classmethod
    def of(cls, name: Any, values: Any) -> Column:
        """Find out the levels: categories as they are, others in ascending order."""
        import pandas as pd

        if not values.notna().any():
            raise ValueError(f"column {name!r} is missing in all {len(values)} rows: drop it")
        if isinstance(values.dtype, pd.CategoricalDtype):
            return cls(name, tuple(values.cat.categories.tolist()), values.dtype)
        levels = list(_codes(name, values)[1])
        if values.dtype == object and {True, False} & set(levels):
            flags = {isinstance(v, bool | np.bool_) for v in values.dropna() if v in (0, 1)}
            if len(flags) > 1:
                raise TypeError(
                    f"column {name!r} has truth values and numbers that are equal to them: take one of both"
                )
        numbers = [level for level in levels if isinstance(level, Real) and not isinstance(level, bool)]
        whole = all(float(number).is_integer() for number in numbers)
        many = MAX_NUMBERS if whole else MAX_CLASSES
        measured = len(numbers) == len(levels) or values.dtype.kind in "mM"
        if measured and len(levels) > many:
            raise ValueError(
                f"column {name!r} has {len(levels)} different values of {values.dtype} and is no categorical column: "
                "bin it with pandas.cut, or say that each value is a category, with astype('category')"
            )
        # of several kinds: in the order they came
        with suppress(TypeError):
            levels.sort()
        return cls(name, tuple(levels), values.dtype)

    def encode(self, values: Any, mask: int) -> np.ndarray:
        """Return the numbers of values, the mask where they are missing."""
        found, levels = _codes(self.name, values)
        known = {level: i for i, level in enumerate(self.levels)}
        unseen = [level for level in levels if level not in known]
        if unseen:
            row = int((found == list(levels).index(unseen[0])).argmax())
            shown = ", ".join(map(repr, self.levels[:8])) + ", ..." * (len(self.levels) > 8)
            texts = [level for level in self.levels if isinstance(level, str)]
            raise ValueError(
                f"column {self.name!r} has {unseen[0]!r} in row {row}, which is none of its {len(self.levels)} levels "
                f"({shown}).{close_matches(str(unseen[0]), texts)} A cell that is not known is left missing"
            )
        return np.array([*(known[level] for level in levels), mask], dtype=np.int64)[found]

    def decode(self, codes: np.ndarray, index: Any = None) -> Any:
        """Return numbers (-1: missing) as a series; integers and booleans with gaps become nullable ones."""
        import pandas as pd

        dtype = self.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype), index=index)
        if (codes < 0).any() and isinstance(dtype, np.dtype) and dtype.kind in "iub":
            dtype = {"i": "Int", "u": "UInt", "b": "boolean"}[dtype.kind]
            dtype += "" if dtype == "boolean" else str(8 * self.dtype.itemsize)
        found = pd.array(list(self.levels), dtype=dtype).take(codes, allow_fill=True)
        # of objects that are texts pandas would make texts
        return pd.Series(found, index=index, dtype=dtype)


def _codes(name: Any, values: Any) -> tuple[np.ndarray, Any]:
    """Return which of its different values each row of a column has (-1: it is missing), and these values."""
    import pandas as pd

    try:
        codes, levels = pd.factorize(values.astype(object).to_numpy())
    except TypeError as error:
        raise TypeError(f"column {name!r} must hold texts, numbers or booleans ({error})") from error
    return codes, levels


@checked
@dataclass(frozen=True, repr=False)
class Columns:
    """A table of categorical columns, each with tokens of its own; made by :meth:`of`.

    Parameters
    ----------
    columns : tuple of Column
        In the order of the table.
    dtype : dtype, optional
        Of the array, of objects or strings, that rows come and go as; None: they do as a data frame.
    labels : Index, optional
        The frame's ``columns``, which may have a name or a type of their own.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"smokes": [True, None, False], "sleep": ["bad", "good", None]})
    >>> columns = Columns.of(table)
    >>> columns
    Columns(2 columns: 'smokes' 2, 'sleep' 2)
    >>> columns.encode(table).tolist()
    [[1, 0], [2, 1], [0, 2]]
    """

    columns: tuple[Column, ...]
    dtype: Any = None
    labels: Any = field(default=None, compare=False)

    @classmethod
    @checked
    def of(cls, X: Any) -> Columns:
        """Return the columns of a data frame, or of an array (n, D) of objects or strings.

        Categories keep theirs, seen or not, and their order. Missing cells may be NaN, None or pandas' NA.

        Raises
        ------
        TypeError
            No such table, or entries that cannot be told apart (lists).
        ValueError
            No rows or columns, two columns of one name, a column without any value, or one of so many different numbers
            or dates that it is none of categories.
        """
        frame, dtype = _frame_of(X)
        names = list(frame.columns)
        if not len(frame) or not names:
            raise ValueError(f"X has {len(frame)} rows and {len(names)} columns; it needs one at least")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"X has several columns called {', '.join(map(repr, twice))}; rename them")
        return cls(tuple(Column.of(name, values) for name, values in frame.items()), dtype, frame.columns)

    @property
    def names(self) -> tuple[Any, ...]:
        """Of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def length(self) -> int:
        """Number of columns."""
        return len(self.columns)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Levels of each column; the largest is also the number of the mask."""
        return tuple(len(column.levels) for column in self.columns)

    @checked
    def encode(self, X: Any, *, partial: bool = True) -> Int64[Tensor, "n length"]:
        """Return rows as numbers, missing cells as the mask.

        Parameters
        ----------
        X : pandas.DataFrame, or a table of objects or strings, shape (n, length)
            As in :meth:`of`; columns of a frame may be in any order.
        partial : ignored
            A row may always have gaps, even nothing else.

        Raises
        ------
        TypeError
            No such table.
        ValueError
            No rows, other columns, or a level that was not there in :meth:`of`.
        """
        frame, _ = _frame_of(X)
        given = list(frame.columns)
        odd = [name for name in (*self.names, *given) if (name in given) != (name in self.names)]
        if odd or len(given) != self.length:
            raise ValueError(
                f"X must have the {self.length} columns {', '.join(map(repr, self.names))}, each once, got "
                f"{len(given)}; only there or only here: {', '.join(map(repr, odd)) or 'none'}. A column that is not "
                "known is one of gaps (None)"
            )
        if not len(frame):
            raise ValueError("X has no rows")
        mask = max(self.sizes)
        return torch.from_numpy(np.column_stack([c.encode(frame[c.name], mask) for c in self.columns]))

    @checked
    def decode(self, tokens: Any, *, index: Any = None) -> Any:
        """Return numbers as a table like that of :meth:`of`: names, types and order of columns; masked cells missing.

        Parameters
        ----------
        tokens : Tensor or ndarray of int, shape (n, length)
        index : optional
            Row labels of the data frame.
        """
        import pandas as pd

        mask = max(self.sizes)
        codes = _checked_tokens(tokens, self.length, self.sizes, mask)
        codes = np.where(codes == mask, -1, codes)
        parts = [c.decode(codes[:, j], index) for j, c in enumerate(self.columns)]
        frame = pd.concat(parts, axis=1)
        frame.columns = list(self.names) if self.labels is None else self.labels
        if self.dtype is None:
            return frame
        out = frame.to_numpy(dtype=object)
        out[codes < 0] = None
        return out if (codes < 0).any() else out.astype(self.dtype)

    def name_of(self, place: int, token: int) -> str:
        """Return a token in words, for messages."""
        column = self.columns[place]
        return f"{column.levels[token]!r} of column {column.name!r}"

    def __repr__(self) -> str:
        shown = ", ".join(f"{column.name!r} {len(column.levels)}" for column in self.columns[:8])
        return f"Columns({self.length} columns: {shown}{', ...' * (self.length > 8)})"


def _frame_of(X: Any) -> tuple[Any, Any]:
    """Return a table as a data frame, and what type an array had."""
    import pandas as pd

    if isinstance(X, pd.DataFrame):
        return X, None
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OU":
        names = [f"x{i}" for i in range(X.shape[1])]
        return pd.DataFrame(X.astype(object), columns=names, dtype=object), X.dtype
    raise TypeError(
        "X must be a data frame of pandas, or an array of objects or strings with two axes, got "
        f"{type(X).__name__}; pandas.DataFrame(X) makes a frame"
    )


@checked
def codec_of(X: Any, length: int | None = None) -> Vocabulary | Columns | None:
    """Return what turns data into tokens: None for whole numbers, which are tokens already.

    Parameters
    ----------
    X : texts, sequences of tokens, data frame, or array
        Strings are cut into characters; for words give ``Vocabulary.of(X, kind="words")``.
    length : int, optional
        Of texts, where it is not that of the longest.
    """
    if hasattr(X, "detach"):
        return None
    if hasattr(X, "columns") or (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OU"):
        return Columns.of(X)
    rows = _rows_of(X)
    if any(isinstance(row, str) for row in rows):
        return Vocabulary.of(rows, length=length)
    nested = all(isinstance(row, list | tuple | np.ndarray) for row in rows)
    if nested and any(isinstance(piece, str) for row in rows for piece in row):
        return Vocabulary.of(rows, kind="tokens", length=length)
    return None
