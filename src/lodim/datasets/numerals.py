"""Text that means a number, as people write numbers.

Plain (``1234.5``, ``1e-3``), with thousands separators (``1,234.5``, ``1 234``, ``1'234``), with a decimal comma
(``1.234,5``, ``1,2E+03``), negative as accountants write it (``(7)``, ``7-``), with a currency, a unit, a per cent sign
or a multiplier (``$1,200``, ``5 kg``, ``12 %``, ``1.2M``). What a text means can depend on the decimal sign
(``1.250``); which one holds is decided for a whole file (:mod:`lodim.datasets.readings`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

# What people and programs write for "not known".
NULL_WORDS = frozenset(
    {"", "na", "n/a", "nan", "-nan", "null", "<na>", "#na", "#n/a", "#n/a n/a", "1.#ind", "-1.#ind", "1.#qnan",
     "-1.#qnan"}
)  # fmt: skip
MISSING_WORDS = NULL_WORDS | frozenset(
    {
        *(f".{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),  # Stata and SAS
        "?", "-", "--", "---", "–", "—", ".", "..", "...", "n.a.", "n/k", "nil", "none", "missing", "unknown",
        "not available", "not applicable", "no data",
        "k.a.", "k. a.", "keine angabe", "n.v.", "unbekannt", "fehlt", "fehlend", "entfällt",
        "inconnu", "n.c.", "n.d.", "nd", "non disponible", "sans objet",
        "desconocido", "s/d", "sin dato", "sin datos", "sconosciuto", "onbekend", "desconhecido",
        "#nv", "#n/v", "#value!", "#wert!", "#valeur!", "#div/0!", "#ref!", "#bezug!", "#name?", "#num!", "#zahl!",
        "#null!",
    }
)  # fmt: skip

_CURRENCIES = {
    "US$": "$", "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "Fr.": "CHF", "SFr.": "CHF",
    **{code: code for code in ("$", "€", "£", "¥", "₹", "₽", "₺", "₩", "CHF", "R$", "CA$", "A$", "zł", "PLN", "kr",
                               "SEK", "NOK", "DKK", "CZK", "HUF", "CAD", "AUD", "BRL", "CNY", "MXN", "ZAR")},
}  # fmt: skip
CURRENCIES = frozenset(_CURRENCIES.values())
_MULTIPLES = {
    "k": 1e3, "K": 1e3, "M": 1e6, "Mio": 1e6, "Mio.": 1e6, "mn": 1e6, "bn": 1e9, "Mrd": 1e9, "Mrd.": 1e9
}  # fmt: skip

_COMPASS = frozenset(f"°{space}{point}" for space in ("", " ") for point in "NSEWO")

_SIGNS = str.maketrans(
    {"\u2212": "-", "\u2013": "-", **dict.fromkeys("\xa0\u2007\u2009\u202f", " "), "’": "'"}
)
_MONEY = "|".join(sorted(map(re.escape, _CURRENCIES), key=len, reverse=True))
_DRESSED = re.compile(
    rf"(?P<open>\()?(?P<sign>[+-])?\s*(?P<money>{_MONEY})?\s*(?P<sign2>[+-]|\()?"
    r"(?P<body>[0-9](?:[0-9.,' ]*[0-9])?[.,]?|[.,][0-9]+)(?P<exponent>[eE][+-]?[0-9]+)?"
    rf"\s*(?P<unit>%|{_MONEY}|° ?[NSEWO]|[^\W\d_°]?[°/]?[^\W\d_]{{0,10}}(?:/[^\W\d_]{{1,6}})?[23²³]?\.?)?"
    r"(?P<minus>-)?(?P<close>\))?"
)
_ANGLE = re.compile(
    r"(?P<degrees>[0-9]{1,3})° ?(?:(?P<minutes>[0-5]?[0-9](?:[.,][0-9]+)?)['′] ?)"
    r"(?:(?P<seconds>[0-5]?[0-9](?:[.,][0-9]+)?)(?:\"|″|”|'') ?)?(?P<point>[NSEWO])"
)
_GROUPED = re.compile(r"([0-9]{1,3})((?:([ '])[0-9]{3})(?:\3[0-9]{3})*)([.,][0-9]+)?")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:([.,])[0-9]{3})(?:\1[0-9]{3})*")
_LAKHS = re.compile(r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Numeral(NamedTuple):
    """What a text means as a number: as ``float`` takes it, by decimal point and by decimal comma (None: nothing).

    ``unit`` is the currency, per cent sign or unit beside it, ``multiple`` what it is counted in.
    """

    point: str | None
    comma: str | None
    unit: str = ""
    multiple: float = 1.0

    def value(self, comma: bool) -> float:
        """Return the number by decimal comma or point; by the other where only that one is possible."""
        text = (self.comma or self.point) if comma else (self.point or self.comma)
        assert text is not None
        return float(text) * self.multiple if self.multiple != 1 else float(text)

    @property
    def is_whole(self) -> bool:
        """Whether it is written as a whole number, without a separator or an exponent."""
        return self.point is not None and self.point == self.comma and self.point.lstrip("+-").isdigit()


def is_number(text: str) -> bool:
    """Whether a cell of a file is a plain number."""
    return _PLAIN.fullmatch(text.strip().strip('"')) is not None


@lru_cache(maxsize=1 << 16)
def numeral(text: str) -> Numeral | None:
    """Return what a text, stripped, means as a number; None where it is none."""
    if text.isascii() and text.isdigit():
        return Numeral(text, text)
    plain = text.translate(_SIGNS)
    found = _DRESSED.fullmatch(plain)
    if found is None:
        return _angle(plain)
    opened, sign, money, sign2, body, exponent, unit, minus, closed = found.groups()
    if sign2 == "(":  # $(20.00)
        if opened:
            return None
        opened, sign2 = sign2, None
    if (
        bool(opened) != bool(closed)
        or sum(map(bool, (opened, sign, sign2, minus))) > 1
        or (money and unit in _CURRENCIES)
    ):
        return None
    point, comma = _by_sign(body, exponent or "")
    if point is None and comma is None:
        return None
    if len(body) >= 9 and sign == "+" and body.isdigit():
        return None  # a telephone number
    if unit in _COMPASS:
        minus, unit = minus or ("-" if unit[-1] in "SW" else ""), "°"
    negative = "-" if opened or minus or "-" in (sign, sign2) else ""
    multiple = _MULTIPLES.get(unit or "", 1.0)
    unit = _CURRENCIES.get(money or unit or "", "" if multiple != 1 else unit or "")
    if not money and unit in ("st", "nd", "rd", "th"):
        unit = "th"
    elif len(unit) > 2 and unit not in CURRENCIES:
        unit = unit.removesuffix("s")
    return Numeral(point and negative + point, comma and negative + comma, unit, multiple)


def _angle(text: str) -> Numeral | None:
    """Return degrees, minutes and seconds of a latitude or longitude as degrees."""
    found = _ANGLE.fullmatch(text)
    if found is None:
        return None
    degrees, minutes, seconds = (float((found[i] or "0").replace(",", ".")) for i in (1, 2, 3))
    value = repr((degrees + minutes / 60 + seconds / 3600) * (-1 if found["point"] in "SW" else 1))
    return Numeral(value, value, "°")


def _by_sign(body: str, exponent: str) -> tuple[str | None, str | None]:
    """Return digits and separators as ``float`` takes them, by decimal point and by decimal comma."""
    if " " in body or "'" in body:
        grouped = _GROUPED.fullmatch(body)
        if grouped is None or exponent:
            return None, None
        whole = grouped[1] + re.sub("[ ']", "", grouped[2])
        if not grouped[4]:
            return whole, whole
        number = f"{whole}.{grouped[4][1:]}"
        return (number, None) if grouped[4][0] == "." else (None, number)
    points, commas = body.count("."), body.count(",")
    if not points and not commas:
        return body + exponent, body + exponent
    if points and commas:
        last = max(body.rfind("."), body.rfind(","))
        whole, decimal = body[:last], body[last]
        if decimal in whole or not (
            _THOUSANDS.fullmatch(whole) or (decimal == "." and _LAKHS.fullmatch(whole))
        ):
            return None, None
        number = re.sub("[.,]", "", whole) + "." + body[last + 1 :] + exponent
        return (number, None) if decimal == "." else (None, number)
    fraction = body.replace(",", ".") + exponent if points + commas == 1 else None
    is_grouped = not exponent and (_THOUSANDS.fullmatch(body) or _LAKHS.fullmatch(body))
    grouped_number = re.sub("[.,]", "", body) if is_grouped else None
    return (fraction, grouped_number) if points else (grouped_number, fraction)


def from_smallest(whole: Any, smallest: int | None = None) -> np.ndarray:
    """Return whole numbers of any size as floats, counted from the smallest, so that no two of them become one.

    The numbers are a sequence of Python integers or an array of an integer dtype. Where the ``smallest`` is known from
    others, there may be fractions among them.
    """
    smallest = min(map(int, whole)) if smallest is None else smallest
    exact = (int(value) if isinstance(value, int) or value.is_integer() else value for value in whole)
    return np.array([value - smallest for value in exact], dtype=np.float64)


def is_one_value(values: np.ndarray) -> bool:
    """Whether finite numbers are all the same up to the rounding of a sum (0.3 and 0.1 + 0.2)."""
    low, high = float(values.min()), float(values.max())
    return low == high or high - low <= 4 * float(np.finfo(np.float64).eps) * max(abs(low), abs(high))
