r"""The Fréchet distance of two samples' Gaussians, and a feature space for it that needs no download.

.. math:: d^2 = |\mu_1 - \mu_2|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2
                - 2 \operatorname{tr} (C_1^{1/2} C_2 C_1^{1/2})^{1/2}

The last trace is the sum of the roots of the eigenvalues of a symmetric matrix, so two symmetric eigen-decompositions
do; the root of the product :math:`C_1 C_2`, which is often taken instead, is not symmetric and turns complex or NaN
when there are fewer samples than features. As in the usual scripts the *square* is reported.

Scores are comparable only within one feature space. With :class:`ClassifierFeatures` they are called ``fd_classifier``;
"FID" is the name of the distance in the features of one particular Inception network.

References
----------
D. C. Dowson and B. V. Landau, The Fréchet distance between multivariate normal distributions, J. Multivariate Analysis
12 (1982). M. Heusel et al., GANs trained by a two time-scale update rule, arXiv 1706.08500.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from lodim.linalg import StreamingMoments, psd_sqrt
from lodim.linalg.precision import power_of_two
from lodim.metrics.samples import TwoSample, as_rows, halves
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.validation import check_in_range, check_labels, checked, warn

__all__ = ["ClassifierFeatures", "FrechetDistance", "frechet_distance"]


@checked
class ClassifierFeatures:
    """The hidden layer of a small classifier, trained on the spot: a lawful stand-in for a famous network's features.

    Attributes
    ----------
    classifier : sklearn.neural_network.MLPClassifier
    mean, scale : float
        Of all numbers of the training data; inputs are centred and divided by them.
    """

    name = "fd_classifier"

    def __init__(self, classifier: MLPClassifier, mean: float, scale: float):
        self.classifier, self.mean, self.scale = classifier, mean, scale

    @classmethod
    def fit(
        cls, X: Any, y: Any, *, hidden: int = 64, max_iter: int = 300, random_state: RandomState = 0
    ) -> ClassifierFeatures:
        """Train a network with one hidden layer of ReLU units.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
        y : array-like, shape (n,)
            Classes.

        Raises
        ------
        ValueError
            Values that are not finite, labels that do not fit, or a single class.
        """
        check_in_range(hidden, "hidden", low=1, integer=True)
        rows = as_rows(X, "X", 2).cpu().numpy()
        labels = check_labels(y, len(rows))
        if len(np.unique(labels)) < 2:
            raise ValueError("y has a single class; features of a classifier need at least two")
        mean, scale = float(rows.mean()), float(rows.std()) or 1.0
        network = MLPClassifier((hidden,), max_iter=max_iter, random_state=root_seed(random_state))
        return cls(network.fit((rows - mean) / scale, labels), mean, scale)

    def __call__(self, X: Any) -> Any:
        """Activations of the hidden units, shape (n, hidden); a tensor for a tensor."""
        rows = (as_rows(X, "X") - self.mean) / self.scale
        hidden = self.classifier.coefs_[0], self.classifier.intercepts_[0]
        weight, bias = (torch.from_numpy(part).to(rows) for part in hidden)
        features = (rows @ weight + bias).clamp_min(0)
        return features if isinstance(X, Tensor) else features.numpy()

    def score(self, X: Any, y: Any) -> float:
        """Share of samples that the classifier gets right."""
        rows = as_rows(X, "X").cpu().numpy()
        return float(self.classifier.score((rows - self.mean) / self.scale, check_labels(y, len(rows))))


@checked
class FrechetDistance:
    """The squared Fréchet distance to one reference, whose moments and floor are worked out once.

    Parameters
    ----------
    features : callable, optional
        From samples to an array or tensor (n, d), e.g. :class:`ClassifierFeatures`. Default: the samples themselves.
    random_state : int, Generator or None
        Splits the reference in halves for the floor.

    Attributes
    ----------
    floor_ : float
        Distance between the halves.
    """

    def __init__(self, features: Callable[[Any], Any] | None = None, *, random_state: RandomState = 0):
        self.features, self.random_state = features, random_state

    def fit(self, reference: Any) -> FrechetDistance:
        """Take in the reference, shape (m, ...).

        Raises
        ------
        ValueError
            Fewer than 4 samples, or features that are not finite.

        Warns
        -----
        UserWarning
            Fewer samples than twice the number of features.
        """
        rows = self._rows(reference, "reference", 4)
        self.moments_ = StreamingMoments().update(rows)
        seed = derive_seed(root_seed(self.random_state), "halves")
        self.floor_ = _squared(*(StreamingMoments().update(half) for half in halves(rows, seed)))
        return self

    def __call__(self, samples: Any) -> TwoSample:
        """Distance of these samples, shape (n, ...), to the reference; warns as :meth:`fit`.

        Raises
        ------
        ValueError
            Fewer than 2 samples, features that are not finite, or another number of them than the reference's.
        """
        rows = self._rows(samples, "samples", 2)
        if rows.shape[1] != len(self.moments_.mean):
            raise ValueError(
                f"samples have {rows.shape[1]} features but the reference has {len(self.moments_.mean)}; "
                "they must match"
            )
        value = _squared(StreamingMoments().update(rows.to(self.moments_.mean.device)), self.moments_)
        name = getattr(self.features, "name", "frechet")
        return TwoSample(name, value, len(rows), self.moments_.count, self.floor_)

    def _rows(self, X: Any, name: str, least: int) -> Float[Tensor, "n d"]:
        rows = as_rows(X if self.features is None else self.features(X), name, least)
        if len(rows) < 2 * rows.shape[1]:
            warn(
                f"{len(rows)} {name} for {rows.shape[1]} features: with fewer than twice as many, the covariance is "
                "noise in many directions and the distance mostly its floor",
                stacklevel=4,
            )
        return rows


def _squared(a: StreamingMoments, b: StreamingMoments) -> float:
    first, second = a.covariance(1), b.covariance(1)
    units = [
        power_of_two(float(part.trace())) for part in (first, second)
    ]  # a product of three could underflow
    root = psd_sqrt(first / units[0])
    mixed = torch.linalg.eigvalsh(root @ (second / units[1]) @ root).clamp_min(0).sqrt().sum()
    mixed = mixed * math.sqrt(units[0]) * math.sqrt(units[1])
    value = (a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * mixed
    return float(value.clamp_min(0))  # of equal moments rounding leaves a little, of either sign


@checked
def frechet_distance(
    samples: Any,
    reference: Any,
    features: Callable[[Any], Any] | None = None,
    *,
    random_state: RandomState = 0,
) -> TwoSample:
    """Squared Fréchet distance of the two samples' Gaussians: :class:`FrechetDistance` for a single use."""
    return FrechetDistance(features, random_state=random_state).fit(reference)(samples)
