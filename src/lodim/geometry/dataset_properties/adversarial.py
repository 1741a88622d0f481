r"""How much accuracy a small, chosen change of the inputs takes away: :func:`adversarial_accuracy`.

*The Effect of Intrinsic Dataset Properties on Generalization*, Konz and Mazurowski 2024, arXiv 2401.08865, section 5:
the distance at which a well-fitted classifier can be fooled goes as :math:`1/K_F`, so sharper labels go with a larger
loss of accuracy under attack. The attack is the fast gradient sign method (Goodfellow 2014, arXiv 1412.6572),

.. math:: x' = x + \epsilon\,\mathrm{sign}\,\nabla_x L(f(x), y),

and, stronger, its iteration with projection onto the ball of largest norm (PGD; Madry 2017, arXiv 1706.06083),

.. math:: x_{t+1} = \Pi_{\|x' - x\|_\infty \le \epsilon}\bigl(x_t + \alpha\,\mathrm{sign}\,\nabla_x L(f(x_t), y)\bigr).

============== ============= =================================================
in the papers  here          meaning
============== ============= =================================================
epsilon        ``eps``       largest change of any entry of the input
alpha          ``step_size`` of one step of PGD
L              cross-entropy of the logits, computed in double precision
============== ============= =================================================

Departures. The gradient of a cross-entropy vanishes in single precision where a model is sure, and the attack with it;
logits are therefore taken to double precision first. PGD starts from the input itself unless told otherwise, and
answers with the step of the largest loss of each sample, not the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from lodim.linalg.precision import as_tensor
from lodim.metrics import wilson_interval
from lodim.nets.activations import evaluation_mode, model_device
from lodim.nets.attacks import Bounds, Number, answer_of, check_bounds, check_classes, fgsm, is_right, pgd
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import (
    check_choice,
    check_in_range,
    check_labels,
    check_numbers,
    check_unmasked,
    checked,
)

__all__ = ["AdversarialAccuracy", "Bounds", "Number", "adversarial_accuracy", "fgsm", "pgd"]

ATTACKS = ("fgsm", "pgd")


@dataclass(frozen=True)
class AdversarialAccuracy(Result):
    """Accuracy under attacks of growing size.

    Attributes
    ----------
    eps : tuple of float
        Largest change of an entry, ascending.
    accuracy : tuple of float
        Share of samples still right at each of them.
    intervals : tuple of (float, float)
        Wilson's intervals of those shares.
    clean : float
        Accuracy without an attack.
    """

    eps: tuple[float, ...]
    accuracy: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    clean: float
    attack: str
    n_samples: int

    @property
    def drop(self) -> tuple[float, ...]:
        """Accuracy lost at each ``eps``."""
        return tuple(self.clean - value for value in self.accuracy)

    def to_frame(self) -> Any:
        """Return one row an ``eps``: eps, accuracy, low, high, drop."""
        import pandas as pd

        rows = [(e, a, *i, d) for e, a, i, d in zip(self.eps, self.accuracy, self.intervals, self.drop)]
        return pd.DataFrame(rows, columns=["eps", "accuracy", "low", "high", "drop"])

    def plot(self, ax: Any = None) -> Any:
        """Draw accuracy against ``eps`` with its intervals and return the axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        frame = self.to_frame()
        ax.plot(frame.eps, frame.accuracy, marker="o", color=COLORS[0], label=self.attack.upper())
        ax.fill_between(frame.eps, frame.low, frame.high, color=COLORS[0], alpha=0.15, linewidth=0)
        ax.axhline(self.clean, color=COLORS[6], linestyle="--", label="no attack")
        ax.set(xlabel="largest change of an entry", ylabel="accuracy", ylim=(0, 1.02))
        ax.legend()
        return ax

    def __str__(self) -> str:
        head = f"accuracy {self.clean:.3f} on {self.n_samples:,} samples, under {self.attack.upper()}:"
        lines = [
            f"  eps {e:.4g}: {a:.3f} ({low:.3f} to {high:.3f})"
            for e, a, (low, high) in zip(self.eps, self.accuracy, self.intervals)
        ]
        return "\n".join([head, *lines])


@checked
def adversarial_accuracy(
    model: nn.Module,
    X: Any,
    y: Any,
    eps_list: Any,
    attack: str = "fgsm",
    bounds: Bounds = None,
    *,
    batch_size: int | np.integer = 256,
    ci: float = 0.95,
    random_state: RandomState = 0,
    **options: Any,
) -> AdversarialAccuracy:
    """Measure a classifier's accuracy under attacks of several sizes.

    Parameters
    ----------
    model : nn.Module
        Returns logits (n, n_classes), or one logit a sample, the class being 1 where it is positive. It is evaluated in
        evaluation mode where its parameters are; its mode, its parameters and their gradients stay as they were.
    X : array-like or Tensor, shape (n, ...)
        Inputs as the model takes them.
    y : array-like, shape (n,)
        Class numbers 0, 1, ..., as the model's outputs are ordered.
    eps_list : float or array-like of float
        Largest changes of an entry, in the unit of ``X``.
    attack : {"fgsm", "pgd"}
    bounds : (float, float), optional
        Values that an entry can take, e.g. ``(0, 1)`` for pixels: inputs are kept within.
    ci : float
        Level of the intervals.
    random_state : int, Generator or None
        Draws PGD's start where ``random_start``.
    **options
        Of :func:`pgd`, such as ``steps``, ``step_size``, ``random_start``; not ``norm``, as sizes are those of entries.

    Raises
    ------
    ValueError
        Bad sizes, labels that are no classes of the model, inputs outside the bounds, an unknown attack, or a model
        that returns NaN.

    References
    ----------
    arXiv 2401.08865, section 5.

    Examples
    --------
    >>> import torch
    >>> from lodim.geometry import adversarial_accuracy
    >>> line = torch.nn.Linear(1, 1)
    >>> _ = torch.nn.init.ones_(line.weight), torch.nn.init.zeros_(line.bias)
    >>> adversarial_accuracy(line, [[-3.0], [-1.0], [1.0], [3.0]], [0, 0, 1, 1], [0.5, 2.0]).accuracy
    (1.0, 0.5)
    """
    check_choice(attack, ATTACKS, "attack")
    check_in_range(batch_size, "batch_size", low=1, integer=True)
    check_in_range(ci, "ci", low=1e-6, high=1 - 1e-6)
    if attack == "fgsm" and options:
        raise TypeError(f"attack='fgsm' takes no {', '.join(options)}")
    if "norm" in options:
        raise TypeError(
            "sizes are largest changes of an entry, which takes no norm=; for another ball call pgd itself"
        )
    sizes = _sizes(eps_list)
    inputs = _as_inputs(model, X)
    labels = torch.from_numpy(_class_numbers(y, len(inputs)))
    check_bounds(inputs, bounds)
    seed = root_seed(random_state)
    right = np.zeros((len(sizes) + 1, len(labels)), dtype=bool)
    with evaluation_mode(model):
        for start in range(0, len(inputs), int(batch_size)):
            part = slice(start, start + int(batch_size))
            x, t = inputs[part].to(model_device(model)), labels[part].to(model_device(model))
            for row, size in enumerate([0.0, *sizes]):
                if size and attack == "fgsm":
                    attacked = fgsm(model, x, t, size, bounds=bounds)
                elif size:
                    drawn = derive_seed(seed, start, size)
                    attacked = pgd(model, x, t, size, bounds=bounds, random_state=drawn, **options)
                else:
                    attacked = x
                with torch.no_grad():
                    outputs = answer_of(model, attacked)
                check_classes(outputs, t)
                if bool(outputs.isnan().any()):
                    raise ValueError(
                        "the model returns NaN, which is no answer; look at its weights and its inputs"
                    )
                right[row, part] = is_right(outputs, t).cpu().numpy()
    counts = right.sum(1).tolist()
    intervals = tuple(wilson_interval(k, len(labels), ci=ci) for k in counts[1:])
    shares = [k / len(labels) for k in counts]
    return AdversarialAccuracy(tuple(sizes), tuple(shares[1:]), intervals, shares[0], attack, len(labels))


def _sizes(eps_list: Any) -> list[float]:
    check_unmasked(eps_list, "eps_list")
    sizes = sorted(
        {
            float(check_in_range(e, "eps", low=0))
            for e in np.atleast_1d(check_numbers(eps_list, "eps_list")).ravel().tolist()
        }
    )
    if not sizes or np.isinf(sizes[-1]):
        raise ValueError(f"eps_list must hold finite sizes, at least one, got {eps_list!r}")
    return sizes


def _as_inputs(model: nn.Module, X: Any) -> Tensor:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    inputs = as_tensor(X, "X").detach()
    if not inputs.ndim or not len(inputs):
        raise ValueError(f"X must have samples, shape (n, ...), got shape {tuple(inputs.shape)}")
    if not torch.isfinite(inputs).all():
        raise ValueError("X has NaN or infinity; drop or impute them")
    return inputs.to(dtype)


def _class_numbers(y: Any, n: int) -> Int[np.ndarray, " n"]:
    labels = check_labels(y, n)
    if labels.dtype.kind not in "biu" or int(labels.min()) < 0:
        raise ValueError(
            f"y must be class numbers 0, 1, ... in the order of the model's outputs, got {labels.dtype} labels such as "
            f"{labels[:1].tolist()[0]!r}; encode them (numpy.unique(y, return_inverse=True))"
        )
    return labels.astype(np.int64)
