r"""The bits of inductive bias that a task asks of a model, in closed form.

*Model-agnostic Measure of Generalization Difficulty*, Boopathy et al. 2023, arXiv 2305.01034. Among all functions that
could be the answer to a task and fit its training data, which share generalises to an error of at most eps? Minus its
logarithm is what a model's designer has to put in beside the data,

.. math:: I = -\log_2 P(\text{test error} \le \epsilon \mid \text{the training set is fitted}).

The candidates are the functions on a sphere of the data's intrinsic dimension m that vary no faster than two classes
lie apart. They are spanned by the spherical harmonics up to a degree K, E of them, and

.. math::

    M = \frac{2 \pi R}{\delta}, \qquad K (K + m - 1) = M^2, \qquad E = \binom{m+K}{m} + \binom{m+K-1}{m},

    L_f = \frac{K \sqrt{D}}{R}, \qquad
    \ln W = \tfrac12 \ln \tfrac m6 + \tfrac1m \ln \frac{2 \pi^{(m+1)/2} q}{\Gamma((m+1)/2)} + \ln R - \tfrac1m \ln n,

    I = (2 D q E - n D) \; \log_2 \frac{B \sqrt{D q} \, L_f W}{\epsilon}.

The first factor counts the numbers that the training set leaves free, the second the bits to which each has to be
known: W bounds how far a test point is from a training point, L_f how much the answer changes on the way.

============== ================== ====================================================================
in the paper   here               meaning
============== ================== ====================================================================
eps            ``eps``            wanted error
n              ``n``              training points
m              ``m``              intrinsic dimension of the inputs
R              ``radius``         largest norm of an input
delta          ``delta``          spatial resolution: distance between points of different classes
D              ``n_outputs``      numbers that the answer has; C - 1 for C classes
q              ``n_combinations`` values of the discrete part of the input; C for C classes
B              ``bound``          bound on the answer
K, E           ``degree``, ``n_basis``
============== ================== ====================================================================

E passes the largest double near m = 150, so everything is computed in logarithms; ``log10_bits`` is the number to read.
The measure is exponential in m while M is well above m (beyond that the functions run out of room to vary and it falls
again), polynomial in 1 / delta, and falls linearly in n.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from scipy.special import gammaln

from lodim.results import Result
from lodim.validation import check_in_range, checked

Number: TypeAlias = float | int | np.integer[Any] | np.floating[Any]
LN2, LN10 = math.log(2), math.log(10)
_HIGHEST = 1e150  # frequency whose square is a float


@dataclass(frozen=True)
class TaskGeometry(Result):
    """What the measure knows of a task.

    Attributes
    ----------
    n : float
        Training points.
    m : float
        Intrinsic dimension of the inputs, at least 1.
    radius : float
        Largest norm of an input.
    delta : float
        Distance between points of different classes.
    ln_outputs : float
        Natural logarithm of D; that of a meta-learning task is beyond every double.
    n_combinations : float
        q.
    bound : float
        B.
    """

    n: Number
    m: Number
    radius: Number
    delta: Number
    ln_outputs: Number
    n_combinations: Number = 1.0
    bound: Number = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, float(check_in_range(getattr(self, field.name), field.name)))
        for name in ("n", "m", "radius", "delta", "n_combinations", "bound"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        check_in_range(self.m, "m", low=1)
        if not (self.ln_outputs >= 0 and math.isfinite(self.ln_outputs)):
            raise ValueError(
                f"ln_outputs must be finite, as n_outputs, and at least 0: a task has at least one output, "
                f"got {self.ln_outputs!r}"
            )

    def at(self, eps: Number) -> Difficulty:
        """Return the difficulty of reaching an error.

        Parameters
        ----------
        eps : float
            In the unit of the loss, positive.
        """
        check_in_range(eps, "eps", low=0.0)
        if eps == 0:
            raise ValueError("eps=0: no finite number of bits gives an error of zero; give a positive one")
        degree, ln_basis = _basis(self.m, 2 * math.pi * self.radius / self.delta)
        if degree <= 0:
            raise ValueError(
                f"delta={self.delta:g} is so far beyond radius={self.radius:g} that no function varies"
            )
        ln_lipschitz = math.log(degree) + self.ln_outputs / 2 - math.log(self.radius)
        ln_ratio = (
            math.log(self.bound)
            + (self.ln_outputs + math.log(self.n_combinations)) / 2
            - math.log(eps)
            + ln_lipschitz
            + self._ln_wasserstein()
        )
        ln_free = LN2 + math.log(self.n_combinations) + ln_basis
        return bits_of(
            self, eps, degree, ln_basis, self.ln_outputs, ln_free, math.log(self.n), ln_ratio / LN2
        )

    def _ln_wasserstein(self) -> float:
        """Bound on how far the training points lie from all others (ln W)."""
        m = self.m
        surface = LN2 + (m + 1) / 2 * math.log(math.pi) + math.log(self.n_combinations) - gammaln((m + 1) / 2)
        return float(0.5 * math.log(m / 6) + (surface - math.log(self.n)) / m + math.log(self.radius))


Task = TaskGeometry  # its name in version 0.1, and in pickles of it


@dataclass(frozen=True)
class Difficulty(Result):
    """Bits of inductive bias that a task asks for.

    Attributes
    ----------
    log10_bits : float
        Decimal logarithm of the bits; -inf for none.
    bits : float
        The bits; infinity beyond the largest double.
    data_sufficient : bool
        The training data alone suffice: nothing is left free, or every number free is known well enough.
    eps : float
        The error asked for.
    degree : float
        K (real, not rounded; NaN where the closed form has none).
    ln_basis : float
        Natural logarithm of E.
    log2_ratio : float
        Bits to which every free number has to be known.
    task : TaskGeometry or None
        None for the closed forms of reinforcement learning.
    """

    log10_bits: float
    bits: float
    data_sufficient: bool
    eps: float
    degree: float
    ln_basis: float
    log2_ratio: float
    task: TaskGeometry | None = None

    def __str__(self) -> str:
        if self.data_sufficient:
            return f"no bias needed for an error of {self.eps:g}: the data suffice"
        return f"10^{self.log10_bits:.2f} bits of inductive bias for an error of {self.eps:g}"


def _ln_binomial(a: Number, b: Number) -> float:
    return float(gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1))


def _basis(m: Number, frequency: Number) -> tuple[float, float]:
    """Degree K of the root of K (K + m - 1) = M^2, and ln E."""
    m, frequency = float(m), float(frequency)
    root = math.hypot(m - 1, 2 * frequency)
    if frequency > _HIGHEST:
        raise ValueError(
            f"delta is too far below radius: a frequency of {frequency:.3g} is beyond double precision"
        )
    degree = 2 * frequency**2 / (root + m - 1)  # (root - (m - 1)) / 2 without its cancellation
    return degree, float(np.logaddexp(_ln_binomial(m + degree, m), _ln_binomial(m + degree - 1, m)))


def bits_of(
    task: TaskGeometry | None,
    eps: Number,
    degree: Number,
    ln_basis: Number,
    ln_outputs: Number,
    ln_free: Number,
    ln_known: Number,
    log2_ratio: Number,
) -> Difficulty:
    """Return the difficulty of D (free - known) numbers of ``log2_ratio`` bits each.

    Parameters
    ----------
    degree, ln_basis : float
        K and ln E.
    ln_outputs, ln_free, ln_known : float
        Logarithms of D, of the numbers that an output has, and of those that the data fix.
    """
    log10 = -math.inf
    if ln_free > ln_known and log2_ratio > 0:
        ln_left = ln_free + math.log1p(-math.exp(ln_known - ln_free))
        log10 = float(ln_outputs + ln_left + math.log(log2_ratio)) / LN10
    bits = math.inf if log10 > 308 else 10.0**log10
    return Difficulty(
        log10, bits, log10 == -math.inf, float(eps), float(degree), float(ln_basis), float(log2_ratio), task
    )


@checked
def generalization_difficulty(
    eps: Number,
    n: Number,
    m: Number,
    radius: Number,
    delta: Number,
    n_outputs: Number,
    n_combinations: Number = 1.0,
    bound: Number = 1.0,
) -> Difficulty:
    """Bits of inductive bias that a task asks for.

    Parameters
    ----------
    eps : float
        Wanted error.
    n, m, radius, delta : float
        Training points, intrinsic dimension of the inputs, largest norm of one, distance between classes.
    n_outputs : float
        D; C - 1 for C classes.
    n_combinations : float
        q; C for C classes.
    bound : float
        B; 1 for classes.

    Raises
    ------
    ValueError
        A parameter that is not positive, m or n_outputs below 1.

    Examples
    --------
    Handwritten digits, with the paper's dimension and margin:

    >>> found = generalization_difficulty(0.001, 60_000, 14, 17.179, 2.3987, n_outputs=9, n_combinations=10)
    >>> print(f"{found.bits:.3e}")
    1.485e+16
    """
    check_in_range(n_outputs, "n_outputs", low=1)
    return TaskGeometry(n, m, radius, delta, math.log(n_outputs), n_combinations, bound).at(eps)


@checked
def combined_task(first: TaskGeometry, second: TaskGeometry) -> TaskGeometry:
    """Return the task of answering two classification tasks about a pair of inputs at once.

    Any input of one comes with any of the other: samples and classes multiply, dimensions and squared radii add.

    Parameters
    ----------
    first, second : TaskGeometry
        Of classification: C - 1 outputs for q = C.

    Raises
    ------
    ValueError
        One is not.

    Notes
    -----
    Two pairs of different classes differ at least in one half, so the smaller of the two margins counts; the paper's
    choice of delta for pairs was not checked.
    """
    for task in (first, second):
        if not math.isclose(math.expm1(task.ln_outputs) + 2, task.n_combinations, rel_tol=1e-6):
            raise ValueError(
                f"only classification tasks combine (D = C - 1, q = C), got D = {math.exp(task.ln_outputs):g}, "
                f"q = {task.n_combinations:g}"
            )
    classes = first.n_combinations * second.n_combinations
    return TaskGeometry(
        n=first.n * second.n,
        m=first.m + second.m,
        radius=math.hypot(first.radius, second.radius),
        delta=min(first.delta, second.delta),
        ln_outputs=math.log(classes - 1),
        n_combinations=classes,
    )


@checked
def meta_difficulty(
    eps: Number,
    n: Number,
    m: Number,
    radius: Number,
    delta: Number,
    *,
    m_task: Number,
    n_ways: Number = 20,
) -> Difficulty:
    r"""Bits for learning to learn from one example a class (section on meta-learning).

    The answer to an episode of N examples is itself a function of a further input: a vector of as many numbers as the
    basis of that function space has, :math:`D_g = 2 N (N - 1) E(m_0, 2 \pi R / \delta)`. The input of the whole is
    the N examples: dimension :math:`m_1 + (N - 1) m_0`, radius :math:`\sqrt N R`.

    Parameters
    ----------
    n : float
        Episodes that the training set can form, such as the sum over alphabets of
        ``comb(characters, 20) * 20**20``.
    m : float
        m_1, dimension of all inputs of the training set together.
    radius, delta : float
        Of single inputs.
    m_task : float
        m_0, dimension of the inputs of one episode.
    n_ways : int
        N.

    Raises
    ------
    ValueError
        As in :func:`generalization_difficulty`.
    """
    check_in_range(n_ways, "n_ways", low=2, integer=True)
    check_in_range(m_task, "m_task", low=1)
    TaskGeometry(n, m, radius, delta, 0.0)  # for its messages
    _, ln_basis = _basis(m_task, 2 * math.pi * radius / delta)
    outputs = n_ways * (n_ways - 1)
    return TaskGeometry(
        n=n,
        m=m + (n_ways - 1) * m_task,
        radius=radius * math.sqrt(n_ways),
        delta=delta,
        ln_outputs=math.log(2 * outputs) + ln_basis,
        bound=math.sqrt(outputs),
    ).at(eps)


@checked
def provided_bias(task: TaskGeometry | Difficulty, model_error: Number) -> Difficulty:
    """Bits of inductive bias that a model has supplied: the difficulty of the error that it reaches.

    Parameters
    ----------
    model_error : float
        Test error of the model, positive.

    Raises
    ------
    ValueError
        A difficulty without its task, or an error that is not positive.
    """
    return _task_of(task).at(model_error)


def _task_of(task: TaskGeometry | Difficulty) -> TaskGeometry:
    found = task.task if isinstance(task, Difficulty) else task
    if found is None:
        raise ValueError("closed forms of reinforcement learning carry no task; call their functions instead")
    return found


@checked
def difficulty_sweep(
    task: TaskGeometry | Difficulty, *, at_eps: Number | None = None, **values: Iterable[Any]
) -> Any:
    """Return the difficulty while one property of the task, or the wanted error, changes.

    Parameters
    ----------
    at_eps : float, optional
        Wanted error; by default that of the difficulty.
    **values : iterable of float
        One of ``eps`` and the fields of :class:`TaskGeometry`, with the values that it takes.

    Returns
    -------
    DataFrame
        Columns: the name, ``log10_bits``, ``data_sufficient``.

    Raises
    ------
    ValueError
        Not exactly one name, an unknown one, or no error given.
    """
    import pandas as pd

    base = _task_of(task)
    names = ("eps", *(f.name for f in fields(TaskGeometry)))
    if len(values) != 1 or next(iter(values)) not in names:
        raise ValueError(f"vary one of {', '.join(names)}, got {', '.join(values) or 'none'}")
    ((name, given),) = values.items()
    if not isinstance(given, Iterable):
        raise TypeError(f"{name} must hold the values that it takes, such as [{given!r}], got {given!r}")
    if name == "eps" and at_eps is not None:
        raise ValueError("at_eps is the error while something else varies; where eps does, leave it out")
    steps = list(given)
    wanted = task.eps if at_eps is None and isinstance(task, Difficulty) else at_eps
    if wanted is None and name != "eps":
        raise ValueError("say which error is wanted: at_eps=")
    found = [base.at(v) if name == "eps" else replace(base, **{name: v}).at(wanted or 0.0) for v in steps]
    return pd.DataFrame(
        {
            name: [float(v) for v in steps],
            "log10_bits": [f.log10_bits for f in found],
            "data_sufficient": [f.data_sufficient for f in found],
        }
    )
