"""How a loss falls with more data: ``log L = a - b log(N) / d + c log K``.

*The Effect of Intrinsic Dataset Properties on Generalization*, Konz and Mazurowski 2024, arXiv 2401.08865,
section 5: for data of intrinsic dimension d and label sharpness K_F, the loss of a well-fitted network of Lipschitz
constant K_f is of the order ``max(K_f, K_F) N^(-1/d)``. Theory says b = c = 1; here both are least-squares
coefficients with standard errors, so data can contradict it.

============== ================== ==================================================
in the paper   here               meaning
============== ================== ==================================================
L              ``loss``           test loss
N              ``n``              training points
d_data, d_repr ``d``              intrinsic dimension of the data or representations
K_F            ``k_f``            label sharpness
============== ================== ==================================================
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from lodim.results import Result
from lodim.validation import check_numbers, checked

_LARGEST = math.log(sys.float_info.max)


@dataclass(frozen=True)
class ScalingLaw(Result):
    """A fitted scaling law.

    Attributes
    ----------
    intercept : float
        a.
    exponent : float
        b, the coefficient of ``-log(N) / d`` (of ``-log N`` if no d was given).
    sharpness : float or None
        c, the coefficient of ``log k_f``; None if no ``k_f`` was given.
    se : dict of str to float
        Standard errors of the coefficients (NaN without residual degrees of freedom).
    r2 : float
        Share of the variance of ``log loss`` explained.
    d : tuple of float or None
        Smallest and largest dimension of the fit; empty if it was given none, None if not known (a law of an earlier
        version). Where they are the same number, it is what :meth:`predict` and :meth:`n_for_loss` go by unless told
        otherwise.
    k_f : tuple of float or None
        Smallest and largest sharpness of the fit; None if it was given none, or if not known.
    """

    intercept: float
    exponent: float
    sharpness: float | None
    se: dict[str, float]
    r2: float
    n_observations: int
    d: tuple[float, ...] | None = None
    k_f: tuple[float, float] | None = None

    def predict(self, n: Any, d: Any = None, k_f: Any = None) -> Any:
        """Loss expected with ``n`` points.

        Parameters
        ----------
        n : float or array
            Training points.
        d : float or array, optional
            Intrinsic dimension; that of the fit when None.
        k_f : float or array, optional
            Label sharpness; needed where the fit had it.

        Raises
        ------
        ValueError
            Numbers that are not positive; d or k_f missing where it varied in the fit or is not known, or given where
            the fit had none.
        """
        counts = _positive(n, "n")
        dims, start = self._terms(d, k_f)
        _check_lengths(n=counts, d=dims, k_f=start)
        return np.exp(start - self.exponent * np.log(counts) / dims)[()]

    def n_for_loss(self, loss: Any, d: Any = None, k_f: Any = None) -> Any:
        """Training points for which the expected loss is ``loss``; below one where a single point is enough.

        Parameters
        ----------
        loss, d, k_f : float or array
            As in :meth:`predict`.

        Raises
        ------
        ValueError
            As :meth:`predict`; or the fitted loss does not fall with more data, or so slowly that the number of points
            is beyond the largest float.
        """
        wanted = _positive(loss, "loss")
        dims, start = self._terms(d, k_f)
        _check_lengths(loss=wanted, d=dims, k_f=start)
        if self.exponent <= 0:
            raise ValueError(f"the fitted loss does not fall with more data (exponent {self.exponent:.3g})")
        log_n = np.asarray((start - np.log(wanted)) * dims / self.exponent)
        if (log_n > _LARGEST).any():
            raise ValueError(
                f"no finite number of points brings the fitted loss down to {wanted.min():g}: it falls only "
                f"with N to the power {-self.exponent / np.max(dims):.3g}"
            )
        return np.exp(log_n)[()]

    def _terms(self, d: Any, k_f: Any) -> tuple[np.ndarray, np.ndarray]:
        """Dimension, and the part of log loss that does not depend on N."""
        dims = np.ones(()) if self.d == () and d is None else _as_fitted(d, self.d, "d", "dimensions")
        if self.sharpness is None:
            if k_f is not None:
                _as_fitted(k_f, (), "k_f", "sharpnesses")
            return dims, np.asarray(self.intercept)
        sharp = _as_fitted(k_f, self.k_f, "k_f", "sharpnesses")
        return dims, np.asarray(self.intercept + self.sharpness * np.log(sharp))

    def __str__(self) -> str:
        minus, plus = "-" if self.exponent >= 0 else "+", "+" if (self.sharpness or 0) >= 0 else "-"
        tail = f" {plus} {abs(self.sharpness):.3g} log K_F" if self.sharpness is not None else ""
        return (
            f"log loss = {self.intercept:.3g} {minus} {abs(self.exponent):.3g} (se {self.se['exponent']:.2g}) "
            f"log(N){'' if self.d == () else '/d'}{tail}, "
            f"R^2 {self.r2:.3f} on {self.n_observations} observations"
        )


def _check_lengths(**given: np.ndarray) -> None:
    try:
        np.broadcast_shapes(*(values.shape for values in given.values()))
    except ValueError as error:
        raise ValueError(f"{', '.join(given)} must be of one length, or single numbers ({error})") from error


def _positive(values: Any, name: str) -> np.ndarray:
    array = check_numbers(values, name)
    if not np.isfinite(array).all() or (array <= 0).any():
        raise ValueError(f"{name} must be positive numbers, got {array}")
    return array


def _observed(values: Any, name: str, n: int) -> np.ndarray:
    """One number for each of n observations."""
    array = np.atleast_1d(_positive(values, name))
    if array.ndim != 1 or len(array) not in (1, n):
        raise ValueError(f"{name} has {array.size} entries but n has {n}; give one or as many")
    return np.broadcast_to(array, (n,))


def _as_fitted(given: Any, fitted: tuple[float, ...] | None, name: str, what: str) -> np.ndarray:
    """What is given for d or k_f, or the one number that the fit was made with; refused if that had none."""
    if fitted == ():
        raise ValueError(
            f"this law was fitted without {name}, so it cannot be told what {name} changes: fit with it"
        )
    if given is not None:
        return _positive(given, name)
    if not fitted:
        raise ValueError(f"this law does not say which {what} it was fitted to: give {name}=")
    low, high = fitted
    if low != high:
        raise ValueError(
            f"the fit had {what} from {low:.4g} to {high:.4g}: give {name}= of the task that is meant"
        )
    return np.asarray(low)


def _span(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


@checked
def fit_scaling_law(n: Any, loss: Any, d: Any = None, k_f: Any = None) -> ScalingLaw:
    """Least squares of ``log loss`` on ``-log(n) / d`` and ``log k_f``.

    Parameters
    ----------
    n : array-like, shape (m,)
        Training points of each observation; at least two different values.
    loss : array-like, shape (m,)
        Positive losses.
    d : float or array-like, optional
        Intrinsic dimension, one for all or one for each observation.
    k_f : array-like, optional
        Label sharpness of each observation; must vary.

    Raises
    ------
    ValueError
        Values that are not positive, lengths that differ, or too few different observations for the coefficients.
    """
    counts = np.atleast_1d(_positive(n, "n"))
    if counts.ndim != 1:
        raise ValueError(f"n must be one number an observation, got shape {counts.shape}")
    y = np.log(_observed(loss, "loss", len(counts)))
    dims = np.ones(len(counts)) if d is None else _observed(d, "d", len(counts))
    sharp = None if k_f is None else _observed(k_f, "k_f", len(counts))
    columns = {"intercept": np.ones(len(counts)), "exponent": -np.log(counts) / dims}
    if sharp is not None:
        columns["sharpness"] = np.log(sharp)
    design = np.stack(list(columns.values()), 1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            f"{len(counts)} observations do not determine {', '.join(columns)}: vary n"
            + (" and k_f" if k_f is not None else "")
        )
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ coefficients
    free = len(y) - design.shape[1]
    variance = float(residual @ residual) / free if free > 0 else np.nan
    se = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    total = float(((y - y.mean()) ** 2).sum())
    values = dict(zip(columns, coefficients.tolist()))
    return ScalingLaw(
        values["intercept"],
        values["exponent"],
        values.get("sharpness"),
        dict(zip(columns, se.tolist())),
        1 - float(residual @ residual) / total if total > 0 else float("nan"),
        len(y),
        () if d is None else _span(dims),
        None if sharp is None else _span(sharp),
    )
