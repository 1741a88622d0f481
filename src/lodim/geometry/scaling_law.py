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

from dataclasses import dataclass
from typing import Any

import numpy as np

from lodim.results import Result

__all__ = ["ScalingLaw", "fit_scaling_law"]


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
    n_observations : int
    """

    intercept: float
    exponent: float
    sharpness: float | None
    se: dict[str, float]
    r2: float
    n_observations: int

    def predict(self, n: Any, d: Any = 1.0, k_f: Any = 1.0) -> Any:
        """Loss expected with ``n`` points.

        Parameters
        ----------
        n, d, k_f : float or array
            Training points, intrinsic dimension and label sharpness, as in the fit.
        """
        log_loss = self.intercept - self.exponent * np.log(n) / d + (self.sharpness or 0.0) * np.log(k_f)
        return np.exp(log_loss)

    def n_for_loss(self, loss: Any, d: Any = 1.0, k_f: Any = 1.0) -> Any:
        """Training points for which the expected loss is ``loss``.

        Parameters
        ----------
        loss, d, k_f : float or array

        Raises
        ------
        ValueError
            If the fitted loss does not fall with more data.
        """
        if self.exponent <= 0:
            raise ValueError(f"the fitted loss does not fall with more data (exponent {self.exponent:.3g})")
        start = self.intercept + (self.sharpness or 0.0) * np.log(k_f)
        return np.exp((start - np.log(loss)) * d / self.exponent)

    def __str__(self) -> str:
        tail = f" + {self.sharpness:.3g} log K_F" if self.sharpness is not None else ""
        return (
            f"log loss = {self.intercept:.3g} - {self.exponent:.3g} (se {self.se['exponent']:.2g}) log(N)/d{tail}, "
            f"R^2 {self.r2:.3f} on {self.n_observations} observations"
        )


def _positive(values: Any, name: str, n: int | None = None) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or not np.isfinite(array).all() or (array <= 0).any():
        raise ValueError(f"{name} must be positive numbers, got {values!r}")
    if n is not None and len(array) not in (1, n):
        raise ValueError(f"{name} has {len(array)} entries but n has {n}; give one or as many")
    return array if n is None else np.broadcast_to(array, (n,))


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
    counts = _positive(n, "n")
    y = np.log(_positive(loss, "loss", len(counts)))
    dims = np.ones(len(counts)) if d is None else _positive(d, "d", len(counts))
    columns = {"intercept": np.ones(len(counts)), "exponent": -np.log(counts) / dims}
    if k_f is not None:
        columns["sharpness"] = np.log(_positive(k_f, "k_f", len(counts)))
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
    )
