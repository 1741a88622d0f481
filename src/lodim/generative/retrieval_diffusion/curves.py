"""Quality against what is looked up: :func:`proposal_curve` and :func:`memory_curve`, of a trained generator.

===============================  =======================================================================================
function                         what is varied, without training
===============================  =======================================================================================
:func:`proposal_curve`           the share m of items that pseudo-queries are drawn from: fidelity against diversity
:func:`memory_curve`             the size of the database, a random part of it: each part holds the smaller ones
===============================  =======================================================================================

Source: A. Blattmann and others, arXiv 2204.11824, section 4 (precision and recall over m; the database's size).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lodim.generative.retrieval_diffusion.database import as_rows, check_share
from lodim.metrics import frechet_distance, precision_recall
from lodim.neighbors import NeighborIndex
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_in_range, checked

__all__ = ["RetrievalCurve", "memory_curve", "proposal_curve"]


@dataclass(frozen=True)
class RetrievalCurve(Result):
    """Quality of samples for several values of what was varied.

    Attributes
    ----------
    what : str
        Was varied: "top_m" or "items".
    values : tuple of float
    precision, recall : ndarray, shape (values,)
        See :func:`~lodim.metrics.precision_recall`.
    distance : ndarray, shape (values,)
        Squared Fréchet distance to the reference.
    copies : ndarray, shape (values,)
        Share of samples nearer to an item than real data are; NaN where nothing says what is near.
    """

    what: str
    values: tuple[float, ...]
    precision: Float[np.ndarray, " values"]
    recall: Float[np.ndarray, " values"]
    distance: Float[np.ndarray, " values"]
    copies: Float[np.ndarray, " values"]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a value."""
        names = ("precision", "recall", "distance", "copies")
        return pd.DataFrame({self.what: self.values} | {name: getattr(self, name) for name in names})

    def plot(self, ax: Any = None) -> Any:
        """Draw precision, recall and the share of copies against what was varied, and return the axes."""
        ax = new_axes(ax)
        for name, color in zip(("precision", "recall", "copies"), COLORS):
            ax.plot(self.values, getattr(self, name), "o-", color=color, label=name)
        ax.set(xscale="log", xlabel=self.what, ylabel="share", ylim=(-0.02, 1.02))
        ax.legend()
        return ax

    def __str__(self) -> str:
        return self.to_frame().to_string(index=False, float_format="{:.3g}".format)


@checked
def proposal_curve(
    model: Any, reference: Any, top_m: Sequence[float | int] = (0.001, 0.01, 0.1, 1.0), *, n: int = 1000,
    features: Callable[[Any], Any] | None = None, random_state: RandomState = 0, **options: Any,
) -> RetrievalCurve:  # fmt: skip
    """Measure samples made from the share m of the database's items that were retrieved most.

    Parameters
    ----------
    model : RetrievalDiffusion or RetrievalTransformer
        Trained.
    reference : array or Tensor, shape (m, ...)
        Real samples, best such as were not trained on.
    n : int
        Samples for each value; the draws are the same for all.
    features : callable, optional
        Of samples, in which to measure, e.g. :class:`~lodim.metrics.ClassifierFeatures`. Default: the samples.
    **options
        Further ones of the model's ``sample``.
    """
    seed = root_seed(random_state)
    for m in top_m:
        check_share(m)
    return _curve(
        "top_m", top_m, reference, features, model,
        lambda m: model.sample(n, top_m=m, generator=derive_seed(seed, "draws"), **options),
    )  # fmt: skip


@checked
def memory_curve(
    model: Any, reference: Any, sizes: Sequence[int | np.integer], *, n: int = 1000,
    features: Callable[[Any], Any] | None = None, random_state: RandomState = 0, **options: Any,
) -> RetrievalCurve:  # fmt: skip
    """Measure samples made from a random part of the database, which is as it was afterwards.

    Parameters
    ----------
    sizes : sequence of int
        Items of a part, each from the neighbours shown up to the whole database.
    model, reference, n, features, **options
        As of :func:`proposal_curve`; here ``top_m`` is 1.0 unless given.
    """
    seed, index = root_seed(random_state), model.retrieval.index
    shown = options.get("k") or model.retrieval.k
    for size in sizes:
        check_in_range(size, "sizes", low=shown, high=len(index), integer=True)
    order = as_generator(derive_seed(seed, "items")).permutation(len(index))

    def draw(size: int | np.integer) -> Any:
        rows = np.sort(order[:size])
        labels = None if index.labels is None else index.labels[rows]
        part = NeighborIndex(index.metric, index.backend).fit(index.vectors[rows], index.ids[rows], labels)
        return model.sample(n, index=part, generator=derive_seed(seed, "draws"), **{"top_m": 1.0, **options})

    return _curve("items", sizes, reference, features, model, draw)


def _curve(
    what: str, values: Sequence[Any], reference: Any, features: Callable[[Any], Any] | None, model: Any,
    draw: Callable[[Any], Any],
) -> RetrievalCurve:  # fmt: skip
    if not len(values):
        raise ValueError("give one value or more to vary")
    seen = features or (lambda X: X.reshape(len(X), math.prod(X.shape[1:])))
    real, found = seen(as_rows(reference, "reference")), []
    for value in values:
        made = seen(draw(value))
        both = precision_recall(made, real)
        report = model.report_
        copies = float("nan") if np.isnan(report.threshold) else float(report.copies.mean())
        found.append((both.precision, both.recall, frechet_distance(made, real).value, copies))
    return RetrievalCurve(what, tuple(float(v) for v in values), *np.array(found).T)
