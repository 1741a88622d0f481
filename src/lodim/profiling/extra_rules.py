"""Rules of advice from the answers beside the dimension: bits of assumptions, topology, layers.

A rule takes a :class:`~lodim.profiling.result.Profile` and returns an :class:`~lodim.profiling.result.Advice`, or None
when it does not apply. Any compact shape of m dimensions fits without crossing itself into 2 m + 1 coordinates (Whitney
1936, Annals of Mathematics 37); the same number is taken for the dimensions measured here.
"""

from __future__ import annotations

import math

from lodim.profiling import wording
from lodim.profiling.result import Advice, Profile

__all__ = ["assumptions_or_rows", "loops", "narrow_layers", "separate_parts"]


def assumptions_or_rows(p: Profile) -> Advice | None:
    """Whether a dimension less spares more bits of assumptions than twice as many rows."""
    part = p.difficulty
    if (
        part is None
        or part.log10_bits is None
        or part.narrower_log10_bits is None
        or part.doubled_log10_bits is None
    ):
        return None
    by_dimension = part.log10_bits - part.narrower_log10_bits
    by_rows = part.log10_bits - part.doubled_log10_bits
    if by_dimension < 0.1 or by_dimension < 3 * by_rows:
        return None
    rows = wording.percent(1 - 10.0**-by_rows)
    return Advice(
        f"Generalising here takes assumptions more than rows: one dimension less divides the bits that the task asks "
        f"for by {wording.number(10.0**by_dimension, digits=2)}, twice as many rows spare {rows}. Put what is known of "
        "the data (invariances, augmentation, pretrained features) into the model first.",
        {
            "log10_bits": part.log10_bits,
            "one_dimension_less": part.narrower_log10_bits,
            "twice_the_rows": part.doubled_log10_bits,
        },
        "assumptions_or_rows",
        0.42,
    )


def separate_parts(p: Profile) -> Advice | None:
    """The rows fall into parts with gaps between them."""
    part = p.data.topology if p.data else None
    if part is None or part.n_components < 2:
        return None
    least = min(part.component_gaps, default=None)
    gap = f", at least {wording.number(least, digits=2)} usual distances apart" if least is not None else ""
    return Advice(
        f"The rows fall into {part.n_components} parts{gap}. Their dimensions may differ: profile them one by one.",
        {"n_components": part.n_components, "component_gaps": list(part.component_gaps)},
        "separate_parts",
        0.65,
    )


def loops(p: Profile) -> Advice | None:
    """Loops, which no map to as many coordinates as dimensions keeps."""
    part = p.data.topology if p.data else None
    if part is None or part.n_loops < 1:
        return None
    return Advice(
        f"The rows close {wording.plural(part.n_loops, 'loop')}. A map to as many coordinates as there are dimensions "
        "tears a loop; allow it one coordinate more, or code the way around as an angle (its sine and cosine).",
        {"n_loops": part.n_loops, "loop_ratios": list(part.loop_ratios)},
        "loops",
        0.55,
    )


def narrow_layers(p: Profile) -> Advice | None:
    """Layers much wider than the dimension of what they put out."""
    part = p.landscape
    if part is None or part.unsolved:
        return None
    inner = [e for e in part.layers[1:-1] if e.dimension is not None and e.kind == "Linear"]
    if not inner:
        return None
    most, widest = max(float(e.dimension or 0.0) for e in inner), max(e.width for e in inner)
    enough = 2 * math.ceil(most) + 1
    if widest < 2 * enough:
        return None
    return Advice(
        f"The model's inner linear layers put out up to {widest:,} numbers with at most "
        f"{wording.dimension(most)} dimensions; {enough} numbers would hold such a shape (2 m + 1). "
        "Narrower layers are worth a try.",
        {"widest": widest, "most_dimensions": most, "enough": enough},
        "narrow_layers",
        0.46,
    )
