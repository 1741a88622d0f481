r"""What can be said of probabilities from outcomes: :func:`calibration_check`; and outcomes to try it on.

The expected calibration error of K bins is biased: with :math:`d_k = \bar p_k - \bar y_k` of n_k samples, and
:math:`\delta_k` its expectation,

.. math:: T = \sum_k w_k |d_k|, \quad d_k \approx N(\delta_k, \sigma_k^2), \qquad
          E\,T \ge \theta = \sum_k w_k |\delta_k|,

by up to :math:`\sqrt{2/\pi} \sum_k w_k \sigma_k`, which is what probabilities that are true show. The interval inverts
tests of the population's :math:`\theta` at the :math:`\delta` that are the hardest to tell:

- from above where the bias is least, that is where all :math:`\delta_k = c\, \sigma_k` (the mean of a folded normal is
  convex in :math:`\delta_k / \sigma_k`): the upper end is the largest :math:`c \sum_k w_k \sigma_k` at which a T as
  small as the one seen, or as the median of true probabilities, still has probability :math:`\alpha/2`;
- from below where it is largest, all of :math:`\theta` in one bin: the lower end is T less the
  :math:`1 - \alpha/2` quantile of :math:`\sum_k w_k \sigma_k |Z_k|`.

It is cautious in between. Gaps are taken as normal: with few rows a bin coverage is measured, not proved (the
tests, and the documentation's table).

Source: arXiv 2111.10734 (scenarios, linear theory). The interval is our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import betaincinv, expit
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from lodim.linalg.precision import computable
from lodim.metrics import ReliabilityCurve, probability_metrics, reliability_curve
from lodim.pages.words import plural
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.training import DescentRecipe, descend
from lodim.validation import check_choice, check_counts, check_in_range, check_labels, checked

__all__ = [
    "CalibrationCheck",
    "MemorizationPath",
    "calibration_check",
    "simulate_memorization",
    "simulate_outcomes",
]

_BLOCK = 4_000_000  # outcomes simulated at a time


@dataclass(frozen=True)
class CalibrationCheck(Result):
    """What outcomes say of probabilities.

    Attributes
    ----------
    ece : float
        Expected calibration error as it is computed; biased upwards.
    interval : pair of float
        For its value in the population, in bins with these edges. It need not contain ``ece``.
    ece_if_true : float
        Mean of what true probabilities would show on as many rows: outcomes simulated from ``p_hat``.
    p_value : float
        Share of such simulations with an error as large, exact under the hypothesis that the probabilities are true.
    ks, brier : float
    n, n_bins : int
        Rows, and bins that hold any.
    ci : float
    curve : ReliabilityCurve
    low, high : ndarray, shape (n_bins,)
        Clopper-Pearson interval of each bin's share of events, one at a time.
    kind : {"event", "top label"}
        What the probabilities are of: the event, or that the most probable of several classes is right.
    """

    ece: float
    interval: tuple[float, float]
    ece_if_true: float
    p_value: float
    ks: float
    brier: float
    n: int
    n_bins: int
    ci: float
    curve: ReliabilityCurve
    low: np.ndarray
    high: np.ndarray
    kind: str

    @property
    def verdict(self) -> str:
        """One sentence: whether the probabilities are off, and by how much."""
        what = "these probabilities" if self.kind == "event" else "the confidence in the most probable class"
        low, high = self.interval
        if self.p_value > 1 - self.ci:
            return (
                f"The data cannot tell {what} from true ones: an error of {self.ece:.3f} where true ones would show "
                f"{self.ece_if_true:.3f} (p = {self.p_value:.2g}); it is at most {high:.3f}."
            )
        worst = int(np.abs(self.curve.predicted - self.curve.observed).argmax())
        return (
            f"{what[0].upper()}{what[1:]} {'are' if self.kind == 'event' else 'is'} off: by {low:.3f} to {high:.3f} on "
            f"average (p = {self.p_value:.2g}), most where {self.curve.predicted[worst]:.2f} is said and "
            f"{self.curve.observed[worst]:.2f} happens."
        )

    def to_frame(self) -> Any:
        """Return a row a bin: predicted, observed, its interval, count."""
        import pandas as pd

        columns = {"low": self.low, "high": self.high, "count": self.curve.counts}
        return pd.DataFrame({"predicted": self.curve.predicted, "observed": self.curve.observed, **columns})

    def plot(self, ax: Any = None) -> Any:
        """Draw the reliability diagram with the bins' intervals, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, curve = new_axes(ax), self.curve
        ax.plot([0, 1], [0, 1], color=COLORS[6], linestyle="--", linewidth=1, label="true")
        bars = [curve.observed - self.low, self.high - curve.observed]
        ax.errorbar(curve.predicted, curve.observed, bars, color=COLORS[0], marker="o", capsize=2,
                    label=f"{plural(self.n_bins, 'bin')}, {100 * self.ci:.10g}% each")  # fmt: skip
        names = {"event": ("predicted probability", "share of events")}
        x, y = names.get(self.kind, ("confidence", "share right"))
        ax.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"{self.verdict}\n{plural(self.n, 'row')} in {plural(self.n_bins, 'bin')}: ECE {self.ece:.4f}, "
            f"{100 * self.ci:.10g}% interval "
            f"{self.interval[0]:.4f} to {self.interval[1]:.4f}, KS {self.ks:.4f}, Brier {self.brier:.4f}"
        )


@checked
def calibration_check(
    p_hat: Any,
    y: Any,
    *,
    n_bins: int | np.integer = 15,
    n_bootstrap: int | np.integer = 1000,
    ci: float = 0.95,
    random_state: RandomState = 0,
) -> CalibrationCheck:
    """Ask outcomes whether probabilities are true: an error with an interval, and a test.

    Parameters
    ----------
    p_hat : array-like, shape (n,) or (n, n_classes)
        Probabilities of the event; of two classes those in the second column are taken. Of more, the largest of each
        row is judged by whether that class is right (top-label calibration), which says nothing of the other classes.
    y : array-like, shape (n,)
        Outcomes, 0 or 1; with several classes the numbers of the right columns.
    n_bins : int
        Of equal counts; at most n.
    n_bootstrap : int
        Simulations, from 100.
    ci : float
        Rate of the intervals, in (0, 1).

    Raises
    ------
    ValueError
        Probabilities outside [0, 1] or rows that do not sum to one, outcomes that are none, fewer rows than bins.
    """
    check_counts(n_bins=n_bins)
    check_in_range(n_bootstrap, "n_bootstrap", low=100, integer=True)
    if not 0 < check_in_range(ci, "ci", low=0, high=1) < 1:
        raise ValueError(f"ci must lie between 0 and 1, got {ci}")
    p, outcome, kind = _of_the_event(p_hat, y)
    curve = reliability_curve(p, outcome, n_bins=int(n_bins))
    metrics = probability_metrics(p, outcome, n_bins=int(n_bins))
    rng, alpha = _own_generator(random_state, "calibration"), 1 - ci
    order = np.argsort(p, kind="stable")
    starts = np.concatenate([[0], np.cumsum(curve.counts)[:-1]])
    simulated = _simulated_errors(p[order], starts, int(n_bootstrap), rng)
    happened = np.rint(curve.observed * curve.counts)
    low, high = _clopper_pearson(happened, curve.counts, alpha)
    # the share of simulations as large; rounding must not part what is equal
    as_large = int((simulated >= metrics.ece - 1e-12).sum())
    sigma = _spread(p[order], outcome[order].astype(float), starts, curve.counts)
    return CalibrationCheck(
        ece=metrics.ece,
        interval=_invert(metrics.ece, curve.counts / len(p), sigma, alpha, int(n_bootstrap), rng),
        ece_if_true=float(simulated.mean()),
        p_value=(1 + as_large) / (int(n_bootstrap) + 1),
        ks=metrics.ks,
        brier=metrics.brier,
        n=len(p),
        n_bins=len(curve.counts),
        ci=float(ci),
        curve=curve,
        low=low,
        high=high,
        kind=kind,
    )


def _of_the_event(p_hat: Any, y: Any) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"], str]:
    """One probability a row, whether what it is of came true, and what it is of."""
    p = computable(p_hat, "p_hat").detach().double().cpu().numpy()
    if p.ndim not in (1, 2) or not p.size:
        raise ValueError(f"p_hat must have shape (n,) or (n, n_classes), got {p.shape}")
    labels = check_labels(y, len(p))
    if p.ndim == 2:
        if p.shape[1] == 1:
            raise ValueError("p_hat of one column must have shape (n,); use p_hat.ravel()")
        if not ((p >= 0) & (p <= 1)).all() or np.abs(p.sum(1) - 1).max() > 1e-3:
            raise ValueError("rows of p_hat must be probabilities that sum to one")
        known = np.isin(labels, np.arange(p.shape[1]))
        if not known.all():
            raise ValueError(
                f"y must be numbers of the columns of p_hat, 0 to {p.shape[1] - 1}, got {str(labels[~known][0])!r}; of "
                "sorted labels they are numpy.unique(y, return_inverse=True)[1]"
            )
        if p.shape[1] > 2:
            return p.max(1), (p.argmax(1) == labels.astype(int)).astype(int), "top label"
        p = p[:, 1]
    if not np.isin(labels, (0, 1)).all():
        kinds = np.unique(labels)[:5].tolist()
        raise ValueError(
            f"y must be outcomes, 0 or 1, got {kinds}; give y == {kinds[-1]!r}, or what the event is"
        )
    return p, labels.astype(int), "event"


def _simulated_errors(
    p: Float[np.ndarray, " n"], starts: Int[np.ndarray, " k"], n_bootstrap: int, rng: np.random.Generator
) -> Float[np.ndarray, " b"]:
    """Calibration errors of outcomes drawn from p, which is sorted."""
    size, found = max(1, _BLOCK // len(p)), []
    expected = np.add.reduceat(p, starts)
    for done in range(0, n_bootstrap, size):
        drawn = rng.random((min(size, n_bootstrap - done), len(p)), dtype=np.float32) < p.astype(np.float32)
        happened = np.add.reduceat(drawn, starts, axis=1, dtype=np.int32)
        found.append(np.abs(expected - happened).sum(1) / len(p))
    return np.concatenate(found)


def _spread(
    p: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    starts: Int[np.ndarray, " k"],
    counts: Int[np.ndarray, " k"],
) -> Float[np.ndarray, " k"]:
    """Standard deviation of each bin's gap: of its residuals, where these are few towards what p says itself."""
    rest = y - p
    mean = np.add.reduceat(rest, starts) / counts
    seen = np.add.reduceat((rest - np.repeat(mean, counts)) ** 2, starts)
    said = np.add.reduceat(p * (1 - p), starts) / counts
    # as if two more residuals had the variance that p says, and some squares besides: a bin of one kind of outcomes
    # must not seem certain, and it alone, holding all rows, leaves a share of 3.7 / n at 97.5 %
    more = 0.25 + 2 * counts / counts.sum()
    return np.sqrt(np.minimum((seen + 2 * said + more) / (counts + 2), 0.25) / counts)


def _invert(
    error: float,
    share: Float[np.ndarray, " k"],
    sigma: Float[np.ndarray, " k"],
    alpha: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The interval of the module's text."""
    weight, noise = share * sigma, rng.standard_normal((n_bootstrap, len(share)))
    if not weight.any():
        return error, error

    def quantile(c: float, at: float) -> float:
        return float(np.quantile(np.abs(noise + c) @ weight, at))

    low = max(0.0, error - quantile(0.0, 1 - alpha / 2))
    target = max(error, quantile(0.0, 0.5))
    left, right = 0.0, 1.0
    while quantile(right, alpha / 2) < target:
        left, right = right, 2 * right
    for _ in range(40):
        middle = (left + right) / 2
        left, right = (middle, right) if quantile(middle, alpha / 2) < target else (left, middle)
    return low, max(low, min(1.0, right * float(weight.sum())))


def _clopper_pearson(
    happened: Float[np.ndarray, " k"], counts: Int[np.ndarray, " k"], alpha: float
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    none, every = happened == 0, happened == counts
    low = np.where(none, 0.0, betaincinv(np.maximum(happened, 1), counts - happened + 1, alpha / 2))
    high = np.where(every, 1.0, betaincinv(happened + 1, np.maximum(counts - happened, 1), 1 - alpha / 2))
    return low, high


# ---- outcomes whose probabilities are known


SCENARIOS = {
    "uniform": lambda z: z,
    "sigmoid": lambda z: expit(25 * (z - 0.29)),
    "skewed": lambda z: z / 2.5,
    "centred": lambda z: z / 3 + 0.35,
    "discrete": lambda z: 0.1 + 0.2 * sum((z > cut).astype(float) for cut in (0.2, 0.4, 0.6, 0.8)),
}


@checked
def simulate_outcomes(
    z: Any, scenario: str = "uniform", random_state: RandomState = None
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Draw outcomes whose probability is a known function of a latent number.

    Parameters
    ----------
    z : array-like, shape (n,)
        In [0, 1], e.g. age / 100, or an angle's place in its range.
    scenario : {"uniform", "sigmoid", "skewed", "centred", "discrete"}
        z; sigmoid(25 (z - 0.29)); z / 2.5; z / 3 + 0.35; steps of 0.2 from 0.1 to 0.9.

    Returns
    -------
    p, y : ndarray, shape (n,)
        Probabilities, and outcomes 0 or 1 drawn from them once.
    """
    check_choice(scenario, SCENARIOS, "scenario")
    latent = computable(z, "z").detach().double().cpu().numpy()
    if latent.ndim != 1 or not ((latent >= 0) & (latent <= 1)).all():
        raise ValueError(f"z must be numbers in [0, 1], shape (n,); got shape {latent.shape}")
    p = SCENARIOS[scenario](latent)
    return p, (_own_generator(random_state, "outcomes").random(len(p)) < p).astype(int)


def _own_generator(random_state: RandomState, part: str) -> np.random.Generator:
    """A stream that is not the caller's with the same seed, of which the probabilities may have been drawn."""
    as_generator(random_state)  # which refuses what is none
    return np.random.default_rng(derive_seed(root_seed(random_state), part))


# ---- the linear theory


@dataclass(frozen=True)
class MemorizationPath(Result):
    """Gradient descent of a logistic regression with more columns than rows, followed by the true probabilities.

    Attributes
    ----------
    step : tuple of int
    loss : tuple of float
        Cross-entropy of the training outcomes; goes to 0.
    mse_p : tuple of float
        Mean squared error of probabilities of the training rows; falls, then rises to ``limit``.
    mse_p_new : tuple of float
        That of new rows.
    limit : float
        Mean squared difference of outcomes and probabilities: the error of one who has memorised all outcomes.
    """

    step: tuple[int, ...]
    loss: tuple[float, ...]
    mse_p: tuple[float, ...]
    mse_p_new: tuple[float, ...]
    limit: float

    @property
    def best_step(self) -> int:
        """Step of the least error on the training rows."""
        return self.step[int(np.argmin(self.mse_p))]

    def to_frame(self) -> Any:
        """Return a row for each step that was looked at."""
        import pandas as pd

        return pd.DataFrame({k: getattr(self, k) for k in ("step", "loss", "mse_p", "mse_p_new")})

    def plot(self, ax: Any = None) -> Any:
        """Draw errors and loss over the steps, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.plot(self.step, self.mse_p, color=COLORS[0], label="error of probabilities, training rows")
        ax.plot(self.step, self.mse_p_new, color=COLORS[2], label="error of probabilities, new rows")
        ax.plot(self.step, self.loss, color=COLORS[1], label="training loss")
        ax.axhline(self.limit, color=COLORS[6], linestyle="--", linewidth=1, label="all outcomes memorised")
        ax.set(xscale="log", xlabel="step of gradient descent")
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"error of probabilities {self.mse_p[0]:.3f} at first, {min(self.mse_p):.3f} at step {self.best_step}, "
            f"{self.mse_p[-1]:.3f} in the end (memorised: {self.limit:.3f}), training loss {self.loss[-1]:.3f}"
        )


@checked
def simulate_memorization(
    n: int | np.integer = 50,
    d: int | np.integer = 400,
    *,
    signal: float | int = 1.0,
    steps: int | np.integer = 1000,
    lr: float | int = 2.0,
    random_state: RandomState = None,
) -> MemorizationPath:
    r"""Show why one must stop early, where all can be computed: a linear model of more columns than rows.

    Rows have a mean :math:`\pm \mu`, :math:`|\mu|` = ``signal``, and standard normal noise in d dimensions over
    :math:`\sqrt d`; the probability of the event is that of a logistic model along :math:`\mu`. The direction of
    :math:`\mu`, which all rows share, is learnt first; then each row's noise identifies its outcome.

    Parameters
    ----------
    n, d : int
        Rows and columns, d > n.
    signal : float
        Length of the mean, and largest log-odds.
    steps, lr
        Of gradient descent on all rows from zero.

    Raises
    ------
    ValueError
        d <= n, where outcomes cannot all be memorised.

    References
    ----------
    Liu et al. 2021, arXiv 2111.10734, the section on early learning in linear models.
    """
    check_counts(n=n, d=d, steps=steps)
    check_in_range(signal, "signal", low=0.0, high=100.0)
    if d <= n:
        raise ValueError(f"d must be larger than n, so that outcomes can be memorised; got d={d}, n={n}")
    seed = root_seed(random_state)

    def drawn(count: int, part: str) -> tuple[Any, Any]:
        rng = np.random.default_rng(derive_seed(seed, part))
        side = rng.choice([-1.0, 1.0], count)
        X = rng.standard_normal((count, int(d))) / math.sqrt(d)
        X[:, 0] += side * float(signal)
        return torch.from_numpy(X), torch.from_numpy(expit(side * float(signal)))

    (X, p), (X_new, p_new) = drawn(int(n), "rows"), drawn(1000, "new rows")
    y = torch.from_numpy(
        (np.random.default_rng(derive_seed(seed, "outcomes")).random(int(n)) < p.numpy()) * 1.0
    )
    model = nn.Linear(int(d), 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    looks = set(np.unique(np.geomspace(1, int(steps), 60).astype(int)).tolist())
    found: list[tuple[int, float, float, float]] = []

    @torch.no_grad()
    def look(step: int) -> None:
        z = model(X)[:, 0]
        errors = [
            float((torch.sigmoid(a) - b).square().mean()) for a, b in ((z, p), (model(X_new)[:, 0], p_new))
        ]
        found.append((step, float(cross_entropy(z, y)), errors[0], errors[1]))

    recipe = DescentRecipe(
        steps=int(steps), lr=lr, optimizer=partial(torch.optim.SGD), epoch_steps=int(steps)
    )
    look(0)
    descend(
        lambda: cross_entropy(model(X)[:, 0], y), model, recipe,
        on_step=lambda run: look(run.step) if run.step in looks else None, interruptible=False,
    )  # fmt: skip
    columns = tuple(zip(*found, strict=True))
    return MemorizationPath(columns[0], columns[1], columns[2], columns[3], float((y - p).square().mean()))
