r"""What a guidance's scale does: :func:`guidance_sweep`.

With :math:`\lambda = 1 + w` the guided score is that of :math:`p(x)\, c(y \mid x)^\lambda` at every level of the noise
(2404.07771, section 4): for data in clusters the class becomes surer with the scale, and what is drawn of it less
diverse. The law of the samples is not :math:`p(x)\, c^\lambda` itself, and at a large scale a sampler of few steps
overshoots the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.generative.diffusion import Diffusion
from lodim.metrics import density_coverage
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_in_range, check_labels, check_numbers, checked

__all__ = ["GuidanceSweep", "guidance_sweep"]

_NEAREST = 3


@dataclass(frozen=True)
class GuidanceSweep(Result):
    """Classes drawn at several scales of the guidance.

    Attributes
    ----------
    scales : tuple of float
    confidence : tuple of float
        Mean probability that the classifier gives to the class asked for.
    accuracy : tuple of float
        Share of samples it takes for that class.
    spread : tuple of float
        Variance within a class, summed over coordinates: the mean over classes. Overshooting makes it grow again.
    coverage : tuple of float
        Share of the real samples with a generated one nearer than their third neighbour; NaN without them.
    data : tuple of float, optional
        The four of the real samples, coverage of one half of them by the other.
    n : int
        Samples of a class and scale.
    """

    scales: tuple[float, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    spread: tuple[float, ...]
    coverage: tuple[float, ...]
    data: tuple[float, float, float, float] | None
    n: int

    def to_frame(self) -> Any:
        """Return a row a scale, and one of the data (scale NaN)."""
        import pandas as pd

        names = ("confidence", "accuracy", "spread", "coverage")
        frame = pd.DataFrame({"scale": self.scales, **{name: getattr(self, name) for name in names}})
        if self.data is not None:
            frame.loc[len(frame)] = [np.nan, *self.data]
        return frame

    def plot(self, ax: Any = None) -> Any:
        """Draw confidence and spread (over the data's, or the first scale's) against the scale; and return the axes."""
        ax = new_axes(ax)
        unit = self.data[2] if self.data else self.spread[0]
        ax.plot(self.scales, self.confidence, "o-", color=COLORS[0], label="confidence")
        ax.plot(self.scales, np.divide(self.spread, unit), "s-", color=COLORS[1], label="spread (data: 1)")
        if self.data:
            ax.axhline(self.data[0], ls=":", color=COLORS[0])
            ax.axhline(1.0, ls=":", color=COLORS[1])
        if self.data:
            ax.plot(self.scales, self.coverage, "^-", color=COLORS[2], label="coverage")
        ax.set(xlabel="guidance scale")
        ax.legend()
        return ax

    def __str__(self) -> str:
        rows = [
            *zip(map("{:g}".format, self.scales), self.confidence, self.accuracy, self.spread, self.coverage)
        ]
        if self.data is not None:
            rows.append(("data", *self.data))
        lines = [
            f"  {scale:>5}: confidence {c:.3f}, accuracy {a:.3f}, spread {s:.4g}, coverage {v:.3f}"
            for scale, c, a, s, v in rows
        ]
        return "\n".join([f"guidance, {self.n} samples of a class and scale", *lines])


@checked
def guidance_sweep(
    model: Diffusion,
    classifier: Any,
    scales: Sequence[float | int] | Float[np.ndarray, " k"] = (1, 2, 4),
    n: int = 100,
    *,
    X: Any = None,
    y: Any = None,
    random_state: RandomState = 0,
    **options: Any,
) -> GuidanceSweep:
    """Draw every class at several scales of guidance without a classifier, from the same noise.

    Parameters
    ----------
    model : Diffusion
        Trained with ``n_classes`` and ``p_uncond`` above 0.
    classifier : estimator or callable
        ``predict_proba(X)`` of flattened samples, fitted to the model's classes 0, 1, ...; or ``classifier(samples)``:
        probabilities, shape (n, classes). It should not be what guides.
    scales : sequence of float
        See :class:`~lodim.generative.ClassifierFree`.
    n : int
        Samples of each class and scale, at least 2.
    X, y : optional
        Real samples that neither was trained on, shape (m, ...), and their classes, shape (m,): the floor.
    options
        Of :meth:`lodim.generative.Diffusion.sample`.

    Raises
    ------
    ValueError
        A model without classes, a classifier or ``y`` of others, or answers that are no probabilities.
    """
    classes = model.n_classes
    if classes < 2:
        raise ValueError("model must be built with n_classes of 2 or more")
    check_in_range(n, "n", low=2, integer=True)
    if not len(scales):
        raise ValueError("scales must be one number or more")
    if (X is None) != (y is None):
        raise ValueError("give X and y together, or neither")
    truth = None if X is None else check_labels(y, len(X), name="y")
    if truth is not None:
        if not np.isin(truth, np.arange(classes)).all():
            raise ValueError(
                f"y must be classes from 0 to {classes - 1}, got {np.unique(truth).tolist()[:12]}"
            )
        truth = truth.astype(int)
    known = getattr(classifier, "classes_", np.arange(classes))
    if not np.array_equal(known, np.arange(classes)):
        raise ValueError(
            f"classifier must have classes 0 to {classes - 1} as the model has, got {known[:12]}"
        )
    labels, seed = np.repeat(np.arange(classes), n), derive_seed(root_seed(random_state), "noise")
    rows: list[Any] = []
    for scale in scales:
        drawn = model.sample(len(labels), cond=labels, guidance=float(scale), generator=seed, **options)
        covered = np.nan if X is None else density_coverage(drawn, X, k=_NEAREST).coverage
        rows.append((*_figures(drawn, labels, classifier, classes), covered))
    data = None
    if truth is not None:
        covered = density_coverage(X[::2], X[1::2], k=_NEAREST).coverage
        data = (*_figures(X, truth, classifier, classes), covered)
    confidence, accuracy, spread, coverage = zip(*rows, strict=True)
    return GuidanceSweep(tuple(map(float, scales)), confidence, accuracy, spread, coverage, data, int(n))


def _figures(
    samples: Any, labels: np.ndarray, classifier: Callable[..., Any] | Any, classes: int
) -> tuple[float, float, float]:
    flat = check_numbers(samples, "samples").astype(float).reshape(len(labels), -1)
    given = classifier.predict_proba(flat) if hasattr(classifier, "predict_proba") else classifier(samples)
    found = check_numbers(given, "probabilities")
    if found.shape != (len(labels), classes):
        raise ValueError(
            f"classifier must give probabilities of shape {(len(labels), classes)}, got {found.shape}"
        )
    if not (np.all(found >= 0) and np.allclose(found.sum(1), 1, atol=1e-3)):
        raise ValueError(
            "classifier must give probabilities, of sum 1 in each row; take the softmax of logits"
        )
    right = found[np.arange(len(labels)), labels]
    spread = [flat[labels == k].var(0).sum() for k in np.unique(labels)]
    return float(right.mean()), float((found.argmax(1) == labels).mean()), float(np.mean(spread))
