r"""Detect samples that belong to no training mode while they are drawn.

Where the data's density has two modes with nothing between, the true denoiser jumps from one to the other. A learnt one
is smooth: it interpolates, and now and then a sample ends in the gap. Such a sample's denoised estimate does not settle
as others' do, so its variance over a window W of the reverse steps tells it apart:

.. math:: \mathrm{Hal}(x) = \frac1d \sum_{j=1}^{d} \frac{1}{|W|} \sum_{i \in W}
          \left(\hat x_{0,j}^{(i)} - \bar x_{0,j}\right)^2, \qquad
          \bar x_0 = \frac{1}{|W|} \sum_{i \in W} \hat x_0^{(i)}.

===============================================  =====================================================================
symbol in the paper                              name here
===============================================  =====================================================================
:math:`\hat x_0^{(t)}`                           ``state.x0_hat`` of a sampler's step
:math:`[T_1, T_2]`                               ``window``, counted from the last step, or in levels
:math:`\mathrm{Hal}(x)`                          ``score_``
threshold :math:`\tau`                           ``threshold_``
===============================================  =====================================================================

The window is a parameter to be chosen: for modes a few deviations wide it lies among the last steps, where the level is
between a mode's deviation and a fraction of the distance between modes; for images far earlier. The sum of squares is
streamed (Welford, float64), so that memory does not grow with the number of steps.

Source: S. K. Aithal and others, arXiv 2406.09358, section 4 (interpolation) and section 5 (the statistic).

Departures. Windows may be given as levels or log signal-to-noise ratios, which carry over between samplers. The
threshold is not a quantile of all scores but of held-out samples within the support, which makes the rate of false
alarms a guarantee (V. Vovk and others, *Algorithmic learning in a random world*, 2005; J. Lei and others, arXiv
1604.04173).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, rankdata
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lodim.generative.samplers import SamplerState
from lodim.linalg.precision import as_tensor, power_of_two
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import (
    check_choice,
    check_in_range,
    check_labels,
    check_numbers,
    checked,
    warn,
)

__all__ = ["Calibration", "HallucinationDetector", "Spread", "check_held", "is_inside", "off_support"]

UNITS = ("step", "sigma", "logsnr")
Window = tuple[float | int, float | int]


class Spread:
    """The variance of arrays that come one after the other, number by number."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.empty(0)
        self.squares: Tensor = torch.empty(0)

    def add(self, x: Tensor) -> None:
        """Take one more."""
        self.count += 1
        if self.count == 1:  # a copy: the sampler, and other callbacks, go on with their own
            self.mean = x.detach().to(torch.promote_types(x.dtype, torch.float32), copy=True)
            self.squares = torch.zeros_like(self.mean)
            return
        away = x.detach() - self.mean
        self.mean.add_(away, alpha=1 / self.count)
        self.squares.addcmul_(away, away, value=(self.count - 1) / self.count)

    def score(self, count: int) -> Tensor:
        """Return the variance of so many arrays, those still to come taken as the mean: it never falls."""
        return self.squares.flatten(1).mean(1) / count

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows."""
        self.mean, self.squares = self.mean[rows], self.squares[rows]


def _check_window(window: Any, unit: str) -> Window:
    ends = tuple(window) if isinstance(window, Iterable) and not isinstance(window, str) else ()
    if len(ends) != 2:
        raise ValueError(f"a window must be two numbers, the lower one first, got {window!r}")
    low, high = (check_in_range(end, "a window's end", integer=unit == "step") for end in ends)
    if not low < high or (unit != "logsnr" and low < 0):
        least = "" if unit == "logsnr" else " from 0 on"
        raise ValueError(
            f"a window must be two numbers{least}, the lower one first, got {window}: it is empty"
        )
    return (int(low), int(high)) if unit == "step" else (float(low), float(high))


def is_inside(window: Window, unit: str, sigma: float, left: int) -> bool:
    """Return whether a step from this level, with so many left after it, is within the window."""
    low, high = window
    if unit == "step":
        return bool(low <= left < high)
    return bool(low <= (sigma if unit == "sigma" else -2 * math.log(sigma)) <= high)


def check_held(window: Window, unit: str, held: int, n_steps: int) -> None:
    """Refuse a window that holds no variance of this sampler's steps."""
    if held < 2 or (unit == "step" and window[1] > n_steps):
        raise ValueError(
            f"the window {window} (unit {unit!r}) holds {held} of the sampler's {n_steps} steps; a variance needs two, "
            "and a window of steps must not be longer than the sampler: move the window, or take more (other sigmas)"
        )


@dataclass(frozen=True)
class Calibration(Result):
    """How well a window's score tells hallucinations, and the threshold it is used with.

    Attributes
    ----------
    windows : ndarray, shape (windows, 2)
        Those compared, in ``unit``.
    areas : ndarray, shape (windows,)
        Area under the ROC curve of each, on the half of the samples that chose.
    window : (float, float)
        The one chosen.
    auc : float
        Its area on the samples that did not choose (all of them, where there was one window).
    interval : (float, float)
        Of ``auc``: the areas that this one does not contradict at ``ci``; rough below some 20 hallucinations.
    threshold : float
    false_alarm : float
        At most this share of samples within the support is rejected, on average over calibrations: if ``n_in`` of them
        and a new one are exchangeable, the new one is rejected with at most this probability, whatever the model.
    removed : float
        Share of the hallucinations above the threshold, on samples that did not choose.
    removed_interval : (float, float)
        Clopper and Pearson's, at ``ci``.
    n_in, n_out : int
        Samples within the support and hallucinations that ``auc``, ``threshold`` and ``removed`` rest on.
    ci : float
    """

    windows: Float[np.ndarray, "windows 2"]
    areas: Float[np.ndarray, " windows"]
    unit: str
    window: tuple[float, float]
    auc: float
    interval: tuple[float, float]
    threshold: float
    false_alarm: float
    removed: float
    removed_interval: tuple[float, float]
    n_in: int
    n_out: int
    ci: float

    @property
    def tells(self) -> bool:
        """Whether the score ranks hallucinations above others at all: the interval of its area lies above 1/2."""
        return self.interval[0] > 0.5

    def to_frame(self) -> Any:
        """Return a row a window compared."""
        import pandas as pd

        chosen = (self.windows == np.asarray(self.window)).all(1)
        low, high = self.windows.T
        return pd.DataFrame({"low": low, "high": high, "auc": self.areas, "chosen": chosen})

    def plot(self, ax: Any = None) -> Any:
        """Draw every window as a bar at its area; and return the axes."""
        ax = new_axes(ax)
        for (low, high), area in zip(self.windows, self.areas, strict=True):
            color = COLORS[1] if (low, high) == self.window else COLORS[0]
            ax.plot([low, high], [area, area], "|-", color=color)
        ax.axhline(0.5, color="gray", linestyle=":", linewidth=1)
        ax.set(xlabel=f"window ({self.unit})", ylabel="area under the ROC curve")
        return ax

    def __str__(self) -> str:
        window = f"window {self.window[0]:g} to {self.window[1]:g} ({self.unit})"
        area = f"AUC {self.auc:.3f} ({self.interval[0]:.3f} to {self.interval[1]:.3f})"
        if not self.tells:
            return (
                f"cannot tell: {window} has {area} on {self.n_out} hallucinations, which chance may have too"
            )
        return (
            f"{window}: {area}; above {self.threshold:.4g} at most {self.false_alarm:.1%} of good samples and "
            f"{self.removed:.1%} ({self.removed_interval[0]:.1%} to {self.removed_interval[1]:.1%}) of "
            f"{self.n_out} hallucinations"
        )


@checked
class HallucinationDetector:
    """The variance of each sample's denoised estimate over a window of the reverse steps, kept by a sampler's callback.

    ``record()`` begins a record and is what a sampler takes; batches are joined in the order in which they are drawn.

    Parameters
    ----------
    window : (float, float)
        In ``unit``, the lower end first.
    unit : {"step", "sigma", "logsnr"}
        "step" counts from the end: (0, 10) are the last ten steps. "sigma" is the level of the noise, in the data's
        unit, that a step begins at; "logsnr" is minus twice its logarithm. Both ends belong to a window of levels.
    candidates : sequence of windows
        Others that are watched in the same run, for :meth:`calibrate` to choose from.

    Attributes
    ----------
    score_ : ndarray, shape (n,)
        Of the samples drawn since ``record()``: the higher, the likelier between modes. In the data's unit, squared.
    scores_ : ndarray, shape (windows, n)
        Of ``window`` and the candidates.
    calibration_ : Calibration or None
    window_, threshold_ : (float, float), float or None
        As :meth:`calibrate` chose; from then on this window alone is watched.

    Raises
    ------
    ValueError
        An empty window; while sampling, one that is longer than the sampler or holds fewer than two of its steps.

    Examples
    --------
    >>> from lodim.generative import EDM, MixtureDenoiser, euler
    >>> detector = HallucinationDetector((0, 4))
    >>> exact = MixtureDenoiser(torch.tensor([[-1.0], [1.0]]), 0.05)
    >>> x = euler(exact, 80 * torch.ones(3, 1), EDM().sigmas(18), on_step=detector.record())
    >>> detector.score_.shape
    (3,)
    """

    def __init__(
        self,
        window: Any = (0, 10),
        unit: str = "step",
        *,
        candidates: Sequence[Any] = (),
    ) -> None:
        self.unit = check_choice(unit, UNITS, "unit")
        self.window = _check_window(window, unit)
        others = (_check_window(other, unit) for other in candidates)
        self.candidates = tuple(dict.fromkeys(other for other in others if other != self.window))
        self.window_ = self.window
        self.threshold_: float | None = None
        self.calibration_: Calibration | None = None
        self.record()

    def record(self) -> HallucinationDetector:
        """Forget the record and begin another; return what a sampler takes as ``on_step``."""
        self._watched = (self.window_,) if self.calibration_ else (self.window, *self.candidates)
        self._done: list[Tensor] = []
        self._running: list[Spread] | None = None
        return self

    def __call__(self, state: SamplerState) -> None:
        """Note a step; the first one of a sampler's run begins a batch of rows, the last one ends it."""
        left = state.steps - 1 - state.i
        if state.i == 0:
            self._running = [Spread() for _ in self._watched]
            if self.unit == "step":
                for low, high in self._watched:
                    held = min(high, state.steps) - min(low, state.steps)
                    check_held((low, high), self.unit, int(held), state.steps)
        if self._running is None:
            raise ValueError(
                "the detector has not seen this run's first step: give it to the sampler from there on"
            )
        for window, spread in zip(self._watched, self._running, strict=True):
            if is_inside(window, self.unit, state.sigma, left):
                spread.add(state.x0_hat)
        if left == 0:
            for window, spread in zip(self._watched, self._running, strict=True):
                check_held(window, self.unit, spread.count, state.steps)
            self._done.append(torch.stack([spread.score(spread.count) for spread in self._running]).cpu())
            self._running = None

    @property
    def scores_(self) -> Float[np.ndarray, "windows n"]:
        """Scores of all windows watched, a row a window."""
        if not self._done:
            raise ValueError("nothing was sampled yet: give the sampler on_step=detector.record()")
        return torch.cat(self._done, 1).double().numpy()

    @property
    def score_(self) -> Float[np.ndarray, " n"]:
        """Scores of the samples drawn, in order."""
        return self.scores_[self._watched.index(self.window_)]

    def detect_from_trajectory(self, x0_hats: Any, sigmas: Any = None) -> Any:
        """Score stored denoised estimates, such as another library's sampler gives.

        Parameters
        ----------
        x0_hats : array or Tensor, shape (steps, n, ...)
            From the first step to the last.
        sigmas : array or Tensor, shape (steps,), optional
            The levels they were made at, unless the window counts steps.

        Returns
        -------
        Tensor or ndarray, shape (n,)
        """
        way = as_tensor(x0_hats, "x0_hats")
        if way.ndim < 3 or not math.prod(way.shape[2:]):
            raise ValueError(
                f"x0_hats must have shape (steps, n, ...), with numbers of each sample, got {tuple(way.shape)}"
            )
        T = len(way)
        if self.unit == "step":
            levels = np.ones(T)
        elif sigmas is None:
            raise ValueError(f"a window in {self.unit} needs sigmas, the level of each step")
        else:
            levels = check_numbers(sigmas, "sigmas").ravel()
            if len(levels) != T or not (levels > 0).all():
                raise ValueError(f"sigmas must be {T} positive levels, one a step, got {len(levels)}")
        chosen = [i for i in range(T) if is_inside(self.window_, self.unit, float(levels[i]), T - 1 - i)]
        check_held(self.window_, self.unit, len(chosen), T)
        part = way[chosen].double()
        score = (part - part.mean(0)).square().mean(0).flatten(1).mean(1)
        return score if isinstance(x0_hats, Tensor) else score.numpy()

    def calibrate(
        self,
        is_hallucination: Any,
        *,
        false_alarm: float | int = 0.04,
        ci: float | int = 0.95,
        random_state: RandomState = 0,
    ) -> Calibration:
        """Choose window and threshold by the samples of the record, whose labels are known.

        With candidates, one half of the samples of either label, drawn at random, chooses the window of the largest
        area under the ROC curve; the other half gives its area and the threshold, so that both are honest. With the one
        window all samples do.

        Parameters
        ----------
        is_hallucination : array, shape (n,)
            True where a sample of the record, in its order, is a hallucination: by eye, by a rule, or by
            :func:`off_support`.
        false_alarm : float
            Share of samples within the support that may be rejected.
        ci : float
            Of the intervals.

        Raises
        ------
        ValueError
            Labels of one class, of another number than the record, or too few good samples for this rate.

        Warns
        -----
        UserWarning
            Scores that cannot tell: the area's interval includes 1/2. So it is with an undertrained model, whose
            samples are bad everywhere.
        """
        alpha = float(check_in_range(false_alarm, "false_alarm"))
        coverage = float(check_in_range(ci, "ci"))
        for value, name in ((alpha, "false_alarm"), (coverage, "ci")):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be above 0 and below 1, got {value}")
        scores = self.scores_
        if not np.isfinite(scores).all():
            raise ValueError(
                "some scores of the record are NaN or infinite: the model's estimates are; train it again"
            )
        labels = check_labels(is_hallucination, scores.shape[1], name="is_hallucination")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("is_hallucination must hold truth values (or 0 and 1)")
        labels = labels.astype(bool)
        several = len(scores) > 1
        least = 2 if several else 1
        if min(labels.sum(), (~labels).sum()) < least:
            raise ValueError(
                f"is_hallucination has {int(labels.sum())} hallucinations and {int((~labels).sum())} others; at least "
                f"{least} of either are needed: draw more samples"
            )
        judges = np.ones(len(labels), bool)
        if several:
            rng = as_generator(random_state)
            for label in (False, True):
                rows = rng.permutation(np.flatnonzero(labels == label))
                judges[rows[: len(rows) // 2]] = False
        choosers = ~judges if several else judges
        areas = _areas(scores[:, choosers], labels[choosers])
        best = int(areas.argmax())
        good, bad = (np.sort(scores[best][judges & (labels == label)]) for label in (False, True))
        rank = math.ceil((len(good) + 1) * (1 - alpha))
        if rank > len(good):
            raise ValueError(
                f"a rate of false alarms of {alpha} needs at least {math.ceil(1 / alpha) - 1} good samples that do not "
                f"choose the window, got {len(good)}: draw more, or allow more"
            )
        threshold = float(good[rank - 1])
        auc = float(_areas(scores[best : best + 1, judges], labels[judges])[0])
        removed = binomtest(int((bad > threshold).sum()), len(bad))
        exact = removed.proportion_ci(coverage)
        found = Calibration(
            np.array(self._watched, dtype=float), areas, self.unit,
            (float(self._watched[best][0]), float(self._watched[best][1])), auc,
            _area_interval(auc, len(bad), len(good), coverage, _placement_variance(bad, good)), threshold, alpha,
            float(removed.statistic),
            (float(exact.low), float(exact.high)), len(good), len(bad), coverage,
        )  # fmt: skip
        self.window_, self.threshold_, self.calibration_ = self._watched[best], threshold, found
        if not found.tells:
            warn(f"{found}. Is the model trained, and the window where estimates still waver?")
        return found

    def keeps(
        self, *, keep_fraction: float | int | None = None, threshold: float | int | None = None
    ) -> Bool[np.ndarray, " n"]:
        """Return which samples of the record to keep: those of the lowest scores, or up to a threshold.

        Parameters
        ----------
        keep_fraction : float, optional
            Share of the samples, in (0, 1].
        threshold : float, optional
            Default: that of :meth:`calibrate`.
        """
        score = self.score_
        if keep_fraction is not None:
            if threshold is not None:
                raise ValueError("give keep_fraction or threshold, not both")
            if not 0 < check_in_range(keep_fraction, "keep_fraction") <= 1:
                raise ValueError(f"keep_fraction must be above 0 and at most 1, got {keep_fraction}")
            kept = np.zeros(len(score), bool)
            kept[np.argsort(score, kind="stable")[: round(keep_fraction * len(score))]] = (
                True  # NaN sort last
            )
            return kept
        limit = self.threshold_ if threshold is None else check_in_range(threshold, "threshold")
        if limit is None:
            raise ValueError(
                "the detector has no threshold yet: calibrate it, or give keep_fraction or threshold"
            )
        return score <= limit  # NaN is not kept

    def filter(
        self, X: Any, *, keep_fraction: float | int | None = None, threshold: float | int | None = None
    ) -> Any:
        """Return the rows of X, the samples of the record, that :meth:`keeps` keeps."""
        kept = self.keeps(keep_fraction=keep_fraction, threshold=threshold)
        if len(X) != len(kept):
            raise ValueError(
                f"X has {len(X)} rows, but {len(kept)} samples were watched: begin a record with detector.record() "
                "for every draw"
            )
        if isinstance(X, Tensor):
            return X[torch.from_numpy(kept).to(X.device)]
        return check_numbers(X, "X", dtype=np.asarray(X).dtype)[kept]


def _areas(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The chance, for each row, that a score of a labelled column is above one of another, ties counting half."""
    m = int(labels.sum())
    ranks: np.ndarray = rankdata(scores, axis=1)[:, labels].sum(1)
    return (ranks - m * (m + 1) / 2) / (m * (len(labels) - m))


def _placement_variance(bad: np.ndarray, good: np.ndarray) -> float:
    """The variance of the area that the scores themselves show (DeLong and others, 1988); of a single one, nothing."""
    together = rankdata(np.r_[bad, good])
    variance = 0.0
    for own, ranks, others in ((bad, together[: len(bad)], good), (good, together[len(bad) :], bad)):
        if len(own) > 1:
            variance += float(((ranks - rankdata(own)) / len(others)).var(ddof=1)) / len(own)
    return variance


def _area_interval(area: float, m: int, n: int, ci: float, least: float = 0.0) -> tuple[float, float]:
    """The areas that this one, of m and n scores, does not contradict.

    By the spread that such an area has (Hanley and McNeil, 1982): at 1/2 Mann and Whitney's, so that an interval above
    1/2 implies their test, and that of 1 has a width. It supposes scores of a kind; where those of hallucinations are
    of two, some high and some low, they show more, and then ``least``, the variance that they show, counts.
    """
    z = float(norm.isf((1 - ci) / 2))

    def beyond(a: float) -> float:
        pairs = a * (1 - a) + (m - 1) * (a / (2 - a) - a * a) + (n - 1) * (2 * a * a / (1 + a) - a * a)
        return (area - a) ** 2 - z * z * max(pairs / (m * n), least)

    within = min(
        max(area, 1e-9), 1 - 1e-9
    )  # at 0 and 1 the spread is nothing, and beside them more than the way there
    low = 0.0 if beyond(0.0) <= 0 else brentq(beyond, 0.0, within)
    high = 1.0 if beyond(1.0) <= 0 else brentq(beyond, within, 1.0)
    return float(low), float(high)


@checked
def off_support(samples: Any, data: Any, *, k: int = 5, share: float | int = 1e-3) -> Bool[np.ndarray, " n"]:
    """Say which samples are farther from the data than the data are from each other.

    A label where nobody has labelled: "hallucination" then means, no more and no less, that the distance to the k-th
    nearest datum exceeds what all but ``share`` of the data have among themselves. It needs the data at hand and a
    distance that means something, which between pixels it seldom does.

    Parameters
    ----------
    samples, data : array or Tensor, shape (n, ...), (m, ...)
    k : int
    share : float
        Of the data themselves that lie as far out.

    Warns
    -----
    UserWarning
        So many duplicates among the data that their distances are 0.
    """
    x, y = (check_numbers(rows, name) for rows, name in ((samples, "samples"), (data, "data")))
    check_in_range(k, "k", low=1, integer=True)
    check_in_range(share, "share", low=0, high=1)
    if x.ndim < 2 or y.ndim < 2 or x.shape[1:] != y.shape[1:] or len(y) <= k:
        raise ValueError(
            f"samples and data must have rows of one shape, and data more than k = {k} of them, got shapes {x.shape} "
            f"and {y.shape}"
        )
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise ValueError("samples and data must be finite; drop rows with NaN or infinity")
    if not len(x):
        return np.zeros(0, bool)
    middle = y.mean(0)  # without it squares of large numbers cancel
    x, y = x - middle, y - middle
    unit = power_of_two(float(np.abs(y).max()))  # so that squares are doubles too, and no digit changes
    x, y = np.clip(x / unit, -1e100, 1e100), y / unit
    near = NearestNeighbors(n_neighbors=k).fit(y.reshape(len(y), -1))
    limit = np.quantile(near.kneighbors()[0][:, -1], 1 - share)  # without a row's distance to itself
    if limit == 0:
        warn(
            f"more than {share:.2g} of the data have {k} equals or more, so every sample off them counts as far; drop "
            "duplicates, or take a larger k"
        )
    far: np.ndarray = near.kneighbors(x.reshape(len(x), -1))[0][:, -1] > limit
    return far
