r"""What a small number of trained numbers says about new data.

**Problem.** A pre-trained model that learns a task with d numbers of b bits each is one of :math:`2^{db}` models that
were fixed before the task's data were seen (base and P come from elsewhere). With n samples and probability
:math:`1 - \delta` its error on new data is at most

.. math:: \text{error} \le \widehat{\text{error}} + \mathcal{O}\big(\sqrt{d / n}\big),

whatever the number D of the model's weights. The constants are those of :func:`~lodim.landscape.compression_bound`.

======================  ======================================================
Symbol                  Here
======================  ======================================================
d, n                    ``d``, ``n`` (the paper writes m for n)
b                       ``bits_per_number``
relative gap            :func:`relative_gap`
======================  ======================================================

Source: A. Aghajanyan and others, arXiv 2012.13255, Section 5 (there with the compression bounds of S. Arora and others,
arXiv 1802.05296). Departure: bounds with their constants, for numbers that are really rounded to b bits.
"""

from __future__ import annotations

import math

from lodim.landscape.code_lengths import prefix_free_bits
from lodim.landscape.objective_landscapes.bounds import compression_bound
from lodim.validation import check_in_range

__all__ = ["dimension_bound", "relative_gap"]


def dimension_bound(
    train_error: float | int,
    d: int,
    n: int,
    *,
    bits_per_number: float | int = 16,
    delta: float = 0.05,
    kind: str = "best",
    selection_bits: int | float = 0.0,
) -> float:
    """Bound the error on new data of a model that was fine-tuned with d numbers.

    Parameters
    ----------
    train_error : float
        Share of wrong answers on the n training samples, of the model with its numbers *rounded*.
    d : int
        Trained numbers, in all (factors, and a directly trained head).
    bits_per_number : float
        What each number is rounded to; :meth:`TaskVector.rounded` needs about 4.
    delta, kind, selection_bits
        See :func:`~lodim.landscape.compression_bound`. Learning rates and d's tried belong into ``selection_bits``.

    Returns
    -------
    float
        At most 1.

    Examples
    --------
    >>> round(dimension_bound(0.05, 200, 10_000, bits_per_number=4), 2)
    0.16
    """
    check_in_range(d, "d", low=1, integer=True)
    check_in_range(bits_per_number, "bits_per_number", low=0.0)
    bits = prefix_free_bits(float(d) * float(bits_per_number))
    return compression_bound(
        float(train_error), bits, n, delta=delta, kind=kind, selection_bits=selection_bits
    )


def relative_gap(train_score: float, score: float) -> float:
    """Return the share of what is missing on new data that the training data do not miss.

    Parameters
    ----------
    train_score, score : float
        Accuracy on the training data and on new data.

    Returns
    -------
    float
        ``(train_score - score) / (1 - score)``: 0 without a gap, 1 where the training data are learnt perfectly; NaN
        for a score of 1.
    """
    return (train_score - score) / (1 - score) if score < 1 else math.nan
