"""Numbers and names as people read them: the one place where the product's words are formed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lodim.profiling.parts import AssumptionBits, Layer, Topology

ESTIMATOR_NAMES = {
    "consensus": "consensus",
    "twonn": "TwoNN",
    "l2n2": "L2N2",
    "mle": "MLE (Levina-Bickel)",
    "gride": "Gride",
    "lpca": "PCA (Fukunaga-Olsen)",
    "lpca_pr": "PCA, participation ratio",
    "pca": "PCA, whole cloud",
    "pr": "participation ratio",
    "participation": "participation ratio",
    "participation_ratio": "participation ratio",
    "corrint": "correlation integral",
    "correlation": "correlation integral",
    "mom": "method of moments",
    "mada": "MADA",
    "mind": "MiND",
    "tle": "TLE",
    "fishers": "FisherS",
    "ess": "ESS",
    "danco": "DANCo",
}
REGIMES = {
    "clt": ("central limit", "an average over many rows"),
    "stable": ("heavy tails", "an average that single rows move, right in its order of magnitude"),
    "condensed": ("condensed", "decided by the few nearest rows, not an average"),
    "undetermined": ("undetermined", "of unknown kind, since the rows are too few or too evenly spaced"),
}
CONSTANTS = {"accuracy": "always the commonest class", "AUC": "guessing", "R²": "always the mean"}
MODEL_NAMES = {"mlp": "an MLP", "linear": "a linear model", "lenet": "a LeNet"}


def number(x: int | float | None, *, digits: int = 3) -> str:
    """Write a number with about ``digits`` significant digits and thousands separators; a dash if unknown."""
    if x is None or not math.isfinite(x):
        return "–"
    if x == 0:
        return "0"
    if abs(x) >= 10 ** (digits - 1):
        return f"{x:,.0f}"
    decimals = digits - 1 - math.floor(math.log10(abs(x)))
    text = f"{x:.{decimals}f}" if abs(x) >= 1e-3 else f"{x:.{digits - 1}g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def dimension(x: int | float | None) -> str:
    """Write a dimension: one decimal below 100, whole numbers above."""
    if x is None or not math.isfinite(x):
        return "–"
    return f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def score(x: int | float | None) -> str:
    """Write a score (accuracy or R²) with three decimals."""
    return "–" if x is None or not math.isfinite(x) else f"{x:.3f}"


def percent(x: int | float) -> str:
    """Write a share as a percentage."""
    return f"{100 * x:.0f} %" if x > 0.0995 or x == 0 else f"{100 * x:.2g} %"


def chance(p: int | float | None) -> str:
    """Write a p-value."""
    if p is None:
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def interval(ends: Sequence[int | float | None] | None, write: Callable[[Any], str] = dimension) -> str:
    """Write an interval as ``lo–hi``; an unknown end is written as open, an unknown interval as a dash."""
    if ends is None or (ends[0] is None and ends[1] is None):
        return "–"

    low, high = ends
    if low is None:
        return f"up to {write(high)}"
    if high is None:
        return f"above {write(low)}"
    return f"{write(low)}–{write(high)}"


def in_brackets(text: str) -> str:
    """Return `` (text)``, or nothing where there is nothing, or only a dash, to say."""
    return "" if text in ("", "–") else f" ({text})"


def seconds(x: int | float | None) -> str:
    """Write a duration."""
    if x is None:
        return "–"
    return f"{x:.1f} s" if x < 60 else f"{x / 60:.1f} min"


def estimator(key: str) -> str:
    """Return an estimator's name as people write it."""
    return ESTIMATOR_NAMES.get(key, key)


def model(key: str | None) -> str:
    """Return a model's name with its article."""
    return MODEL_NAMES.get(key or "", f"the model {key}")


def bits_of(part: AssumptionBits) -> str:
    """Return the bits of assumptions that a task asks for, as a sentence."""
    if part.log10_bits is None:
        return (
            f"for an error of {percent(part.error)} the {part.n:,} rows alone suffice, without assumptions."
        )
    ends = interval(part.interval, lambda x: f"10^{x:.1f}")
    return (
        f"for an error of {percent(part.error)} a model has to bring about 10^{part.log10_bits:.1f} bits of assumptions"
        f"{in_brackets(ends)} that the {part.n:,} rows do not hold."
    )


def supplied(part: AssumptionBits) -> str:
    """Return what the best model supplied of them, as a sentence; empty where no model was trained."""
    if part.supplied_error is None:
        return ""
    who = MODEL_NAMES.get(part.supplied_by or "", f"the model {part.supplied_by}")
    if part.supplied_error == 0:
        return f"{sentence(who)} made no error on its validation rows, so what it supplied cannot be told."
    share = part.supplied_share
    if share is None:
        return ""
    return f"{sentence(who)} with error {percent(part.supplied_error)} supplied {percent(share)} of them."


def layer(part: Layer) -> str:
    """Return a layer's name, with its class where the name is the number in a sequence."""
    return f"{part.name} {part.kind}" if part.name.rpartition(".")[2].isdigit() else part.name


def shape_of(part: Topology) -> str:
    """Return the numbers of components and loops in words."""
    return f"{plural(part.n_components, 'component')} and {plural(part.n_loops, 'loop')} beyond noise"


def sentence(text: str) -> str:
    """Return ``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]


def plural(count: int | float, noun: str, nouns: str | None = None) -> str:
    """Return the count with the noun in the right number, e.g. ``1 column`` and ``64 columns``."""
    return f"{count:,.0f} {noun if count == 1 else nouns or noun + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain-text table: the first column to the left, the others to the right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
    out = [
        "  ".join(cell.ljust(w) if j == 0 else cell.rjust(w) for j, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    ]
    return "\n".join("  " + line.rstrip() for line in [out[0], "-" * sum(w + 2 for w in widths), *out[1:]])
