r"""Detect samples that belong to no training mode while they are drawn, and draw others in their place.

Where the data's density has two modes with nothing between, the true denoiser jumps from one to the other. A learnt one
is smooth: it interpolates, and now and then a sample ends in the gap. Such a sample's denoised estimate does not settle
as others' do, so its variance over a window W of the reverse steps tells it apart:

.. math:: \mathrm{Hal}(x) = \frac1d \sum_{j=1}^{d} \frac{1}{|W|} \sum_{i \in W}
          \left(\hat x_{0,j}^{(i)} - \bar x_{0,j}\right)^2, \qquad \bar x_0 = \frac{1}{|W|} \sum_{i \in W} \hat x_0^{(i)}.

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
1604.04173). Sampling may stop a sample before its window ends: the sum of squares only grows, so what is above the
threshold already would have been rejected anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, rankdata
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lodim.generative.diffusion import Diffusion
from lodim.generative.pictures import Trajectory, plot_samples
from lodim.generative.samplers import SAMPLERS, SamplerState, check_levels
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_labels, check_numbers, checked, warn

__all__ = ["Calibration", "FilteredSamples", "HallucinationDetector", "off_support", "sample_filtered"]

UNITS = ("step", "sigma", "logsnr")
Window = tuple[float | int, float | int]
_WITHOUT_MEMORY = {f.__name__: f for f in SAMPLERS.values()}.keys() - {"dpmpp_2m", "pc"}
_SHOWN_STEPS = 12


class _Spread:
    """The variance of arrays that come one after the other, number by number."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.empty(0)
        self.squares: Tensor = torch.empty(0)

    def add(self, x: Tensor) -> None:
        self.count += 1
        if self.count == 1:  # a copy: the sampler, and other callbacks, go on with their own
            self.mean = x.detach().to(torch.promote_types(x.dtype, torch.float32), copy=True)
            self.squares = torch.zeros_like(self.mean)
            return
        away = x.detach() - self.mean
        self.mean.add_(away, alpha=1 / self.count)
        self.squares.addcmul_(away, away, value=(self.count - 1) / self.count)

    def score(self, count: int) -> Tensor:
        """The variance of so many arrays, those still to come taken as the mean: it never falls."""
        return self.squares.flatten(1).mean(1) / count

    def keep(self, rows: Tensor) -> None:
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


def _is_inside(window: Window, unit: str, sigma: float, left: int) -> bool:
    """Whether a step from this level, with so many left after it, is within the window."""
    low, high = window
    if unit == "step":
        return bool(low <= left < high)
    return bool(low <= (sigma if unit == "sigma" else -2 * math.log(sigma)) <= high)


def _check_held(window: Window, unit: str, held: int, n_steps: int) -> None:
    """Refuse a window that holds no variance of this sampler's steps."""
    if held < 2 or (unit == "step" and window[1] > n_steps):
        raise ValueError(
            f"the window {window} (unit {unit!r}) holds {held} of the sampler's {n_steps} steps; a variance needs two, "
            "and a window of steps must not be longer than the sampler: move the window, or take more steps"
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
        Of ``auc``: the areas that this one does not contradict at ``confidence``.
    threshold : float
    false_alarm : float
        At most this share of samples within the support is rejected, on average over calibrations: if ``n_in`` of them
        and a new one are exchangeable, the new one is rejected with at most this probability, whatever the model.
    removed : float
        Share of the hallucinations above the threshold, on samples that did not choose.
    removed_interval : (float, float)
        Clopper and Pearson's, at ``confidence``.
    n_in, n_out : int
        Samples within the support and hallucinations that ``auc``, ``threshold`` and ``removed`` rest on.
    confidence : float
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
    confidence: float

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

    ``callback()`` begins a record and is what a sampler takes; batches are joined in the order in which they are drawn.

    Parameters
    ----------
    window : (float, float)
        In ``unit``, the lower end first.
    unit : {"step", "sigma", "logsnr"}
        "step" counts from the end: (0, 10) are the last ten steps. "sigma" is the level of the noise, in the data's
        unit, that the denoiser sees; "logsnr" is minus twice its logarithm. Both ends belong to a window of levels.
    candidates : sequence of windows
        Others that are watched in the same run, for :meth:`calibrate` to choose from.

    Attributes
    ----------
    score_ : ndarray, shape (n,)
        Of the samples drawn since ``callback()``: the higher, the likelier between modes. In the data's unit, squared.
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
    >>> x = euler(exact, 80 * torch.ones(3, 1), EDM().sigmas(18), callback=detector.callback())
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
        self.window_, self.threshold_ = self.window, None
        self.calibration_: Calibration | None = None
        self.callback()

    def callback(self) -> HallucinationDetector:
        """Forget the record and begin another; return what a sampler takes as its callback."""
        self._watched = (self.window_,) if self.calibration_ else (self.window, *self.candidates)
        self._done: list[Tensor] = []
        self._running: list[_Spread] | None = None
        return self

    def __call__(self, state: SamplerState) -> None:
        """Note a step; the first one of a sampler's run begins a batch of rows, the last one ends it."""
        left = state.n_steps - 1 - state.i
        if state.i == 0:
            self._running = [_Spread() for _ in self._watched]
            if self.unit == "step":
                for low, high in self._watched:
                    held = min(high, state.n_steps) - min(low, state.n_steps)
                    _check_held((low, high), self.unit, int(held), state.n_steps)
        if self._running is None:
            raise ValueError(
                "the detector has not seen this run's first step: give it to the sampler from there on"
            )
        for window, spread in zip(self._watched, self._running, strict=True):
            if _is_inside(window, self.unit, state.sigma, left):
                spread.add(state.x0_hat)
        if left == 0:
            for window, spread in zip(self._watched, self._running, strict=True):
                _check_held(window, self.unit, spread.count, state.n_steps)
            self._done.append(torch.stack([spread.score(spread.count) for spread in self._running]).cpu())
            self._running = None

    @property
    def scores_(self) -> Float[np.ndarray, "windows n"]:
        """Scores of all windows watched, a row a window."""
        if not self._done:
            raise ValueError("nothing was sampled yet: give the sampler callback=detector.callback()")
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
        way = (
            x0_hats
            if isinstance(x0_hats, Tensor)
            else torch.from_numpy(check_numbers(x0_hats, "x0_hats").copy())
        )
        if way.ndim < 3:
            raise ValueError(f"x0_hats must have shape (steps, n, ...), got {tuple(way.shape)}")
        T = len(way)
        if self.unit == "step":
            levels = np.ones(T)
        elif sigmas is None:
            raise ValueError(f"a window in {self.unit} needs sigmas, the level of each step")
        else:
            levels = check_numbers(sigmas, "sigmas").ravel()
            if len(levels) != T or not (levels > 0).all():
                raise ValueError(f"sigmas must be {T} positive levels, one a step, got {len(levels)}")
        chosen = [i for i in range(T) if _is_inside(self.window_, self.unit, float(levels[i]), T - 1 - i)]
        _check_held(self.window_, self.unit, len(chosen), T)
        score = way[chosen].double().var(0, correction=0).flatten(1).mean(1)
        return score if isinstance(x0_hats, Tensor) else score.numpy()

    def calibrate(
        self,
        is_hallucination: Any,
        *,
        false_alarm: float | int = 0.04,
        confidence: float | int = 0.95,
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
        confidence : float
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
        level = float(check_in_range(confidence, "confidence"))
        for value, name in ((alpha, "false_alarm"), (level, "confidence")):
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
        exact = removed.proportion_ci(level)
        found = Calibration(
            np.array(self._watched, dtype=float), areas, self.unit,
            (float(self._watched[best][0]), float(self._watched[best][1])), auc,
            _area_interval(auc, len(bad), len(good), level), threshold, alpha, float(removed.statistic),
            (float(exact.low), float(exact.high)), len(good), len(bad), level,
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
                f"X has {len(X)} rows, but {len(kept)} samples were watched: begin a record with detector.callback() "
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


def _area_interval(area: float, m: int, n: int, confidence: float) -> tuple[float, float]:
    """The areas that this one, of m and n scores, does not contradict: their own spread (Hanley and McNeil, 1982) judges.

    At 1/2 that spread is Mann and Whitney's, so an interval above 1/2 is their test; at an area of 1 it does not vanish.
    """
    z = float(norm.isf((1 - confidence) / 2))

    def beyond(a: float) -> float:
        pairs = a * (1 - a) + (m - 1) * (a / (2 - a) - a * a) + (n - 1) * (2 * a * a / (1 + a) - a * a)
        return (area - a) ** 2 - z * z * pairs / (m * n)

    within = min(max(area, 1e-9), 1 - 1e-9)  # at 0 and 1 the spread is nothing, and beside them more than the way there
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
    near = NearestNeighbors(n_neighbors=k).fit(y.reshape(len(y), -1))
    limit = np.quantile(near.kneighbors()[0][:, -1], 1 - share)  # without a row's distance to itself
    far: np.ndarray = near.kneighbors(x.reshape(len(x), -1))[0][:, -1] > limit
    return far


@dataclass(frozen=True)
class FilteredSamples(Result):
    """Samples that passed a detector, what they cost, and some that did not.

    Attributes
    ----------
    samples : ndarray, shape (n, ...)
    score : ndarray, shape (n,)
    n_drawn, n_rejected : int
        Samples begun, and those of them that were dropped.
    evaluations : int
        Of the network, a row each.
    saved : float
        Share of the evaluations that running every sample to its end would have taken, which stopping saved.
    rejected : ndarray, shape (shown, ...)
        Some dropped samples, run to their end.
    rejected_score : ndarray, shape (shown,)
        By which they were dropped, which is before their window's end where that sufficed.
    trajectories : ndarray, shape (shown, steps, ...)
        Their denoised estimates, from noise to data.
    sigmas : ndarray, shape (steps,)
        The level each estimate was made at.
    """

    samples: Float[np.ndarray, "n ..."]
    score: Float[np.ndarray, " n"]
    n_drawn: int
    n_rejected: int
    evaluations: int
    saved: float
    rejected: Float[np.ndarray, "shown ..."]
    rejected_score: Float[np.ndarray, " shown"]
    trajectories: Float[np.ndarray, "shown steps ..."]
    sigmas: Float[np.ndarray, " steps"]

    def plot(self, ax: Any = None) -> Any:
        """Draw the ways of the dropped samples: images a row each, a dozen steps of it; points as lines over the kept.

        Returns the axes.
        """
        ax = new_axes(ax)
        images = self.samples.ndim > 3
        if not images and self.samples[0].size == 2:
            plot_samples(self.samples.reshape(len(self.samples), -1), ax)
        if len(self.trajectories):
            steps = self.trajectories.shape[1]
            shown = np.unique(np.linspace(0, steps - 1, _SHOWN_STEPS if images else steps).astype(int))
            seen = Trajectory(len(self.trajectories))
            seen.x = seen.x0_hat = [torch.from_numpy(self.trajectories[:, i]) for i in shown]
            seen.plot(ax)
        elif images:
            plot_samples(self.samples, ax)
        return ax

    def __str__(self) -> str:
        return (
            f"{len(self.samples)} samples kept of {self.n_drawn} drawn, {self.n_rejected} rejected "
            f"({self.n_rejected / max(1, self.n_drawn):.2%}); {self.evaluations} evaluations, {self.saved:.1%} saved"
        )


@checked
def sample_filtered(
    model: Diffusion,
    n: int | np.integer,
    detector: HallucinationDetector,
    *,
    steps: int = 18,
    sampler: str | Callable[..., Tensor] = "heun",
    sigmas: Any = None,
    cond: Any = None,
    generator: torch.Generator | RandomState = None,
    checks: int | None = None,
    show: int = 8,
    batch_size: int = 4096,
    max_draws: int | None = None,
    **options: Any,
) -> FilteredSamples:
    """Draw samples until n have passed a calibrated detector; a place whose sample is dropped is drawn again.

    Dropped samples are not run to their end: at ``checks`` places within the window, its end among them, those that
    are above the threshold are left off. They would have been dropped anyway, so the samples' law is that of filtering
    at the end; and what is saved is at most the share of the dropped.

    Parameters
    ----------
    model : Diffusion
    detector : HallucinationDetector
        With a threshold; use the sampler and levels that it was calibrated with.
    steps, sampler, sigmas, cond, batch_size, options
        As of :meth:`~lodim.generative.Diffusion.sample`. A condition for each sample stays with its place.
    checks : int, optional
        0: run all to the end. Default: 4, but 0 with "dpmpp_2m", "pc" and samplers of your own, since every check is a
        fresh start: the first one's next step is of first order again, the second one's corrector sees other rows'
        norms. Also 0 with a ``callback``, which would see each part as a run.
    show : int
        Dropped samples to keep with their ways; the batches they are found in are computed again for that, so memory
        does not grow with the steps of all others.
    max_draws : int, optional
        Give up beyond; default 100 n.

    Raises
    ------
    ValueError
        A detector without a threshold, a window that does not fit the steps, or more than ``max_draws`` samples.
    """
    n = int(check_in_range(n, "n", low=0, integer=True))
    show = int(check_in_range(show, "show", low=0, integer=True))
    check_in_range(batch_size, "batch_size", low=1, integer=True)
    limit = 100 * n if max_draws is None else check_in_range(max_draws, "max_draws", low=n, integer=True)
    threshold, unit = detector.threshold_, detector.unit
    if threshold is None:
        raise ValueError("the detector has no threshold: calibrate it on samples of this model first")
    levels = check_levels(model.sigmas(steps) if sigmas is None else sigmas)
    T = len(levels) - 1
    inside = [i for i in range(T) if _is_inside(detector.window_, unit, levels[i], T - 1 - i)]
    _check_held(detector.window_, unit, len(inside), T)
    callbacks = options.pop("callback", None) or ()
    callbacks = (callbacks,) if callable(callbacks) else tuple(callbacks)
    if checks is None:
        name = sampler if isinstance(sampler, str) else getattr(sampler, "__name__", "")
        checks = 4 if name in _WITHOUT_MEMORY and not callbacks else 0
    check_in_range(checks, "checks", low=0, integer=True)
    places = np.linspace(inside[0] + 1, inside[-1] + 1, checks + 1)[1:].astype(int)
    parts = list(pairwise([0, *(int(b) for b in np.unique(places) if b < T), T]))
    given = model._condition(cond, n, model.denoiser.center.device)
    source = generator if isinstance(generator, torch.Generator) else torch_generator(root_seed(generator))
    evaluations, begun, calls = np.zeros(len(parts), int), np.zeros(len(parts), int), 0

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += len(arguments[0])

    def advance(
        x: Any, own: Tensor, part: tuple[int, int], source: Any, watch: Callable[[int, Tensor], None]
    ) -> Any:
        a, b = part

        def step(state: SamplerState) -> None:
            watch(a + state.i, state.x0_hat)

        return model.sample(
            len(own), sampler=sampler, sigmas=levels[a : b + 1], start=x, generator=source,
            cond=None if given is None else {key: value[own.to(value.device)] for key, value in given.items()},
            callback=[step, *callbacks], batch_size=max(1, len(own)), **options,
        )  # fmt: skip

    def draw(
        start: Any, own: Tensor, source: Any, follow: Tensor | None = None
    ) -> tuple[Any, Tensor, Tensor, Any]:
        """Run a batch; return what is left, which rows those are, all rows' scores, and the ways of some rows."""
        nonlocal calls
        x, alive, spread = start, torch.arange(len(own)), _Spread()
        scores, ends = torch.full((len(own),), math.nan, dtype=torch.float64), {}
        ways = None if follow is None else np.zeros((len(follow), T, *model.shape), np.float32)

        def note(i: int, rows: Tensor, x0_hat: Tensor) -> None:
            if follow is not None and ways is not None:
                at, of = (rows[:, None] == follow).nonzero(as_tuple=True)
                ways[of.numpy(), i] = x0_hat[at.to(x0_hat.device)].float().cpu().numpy()

        def watch(i: int, x0_hat: Tensor) -> None:
            if i in window:
                spread.add(x0_hat)
            note(i, alive, x0_hat)

        for s, part in enumerate(parts):
            calls = 0
            x = advance(x, own[alive], part, source, watch)
            if follow is None:
                evaluations[s] += calls
                begun[s] += len(alive)
            if part[1] <= inside[0]:
                continue
            scores[alive] = spread.score(len(inside)).double().cpu()
            passed = scores[alive] <= threshold  # NaN does not
            for row in () if follow is None else alive[~passed & torch.isin(alive, follow)].tolist():
                ends[row] = (x[int((alive == row).nonzero())], part[1])
            x, alive = x[passed.numpy() if isinstance(x, np.ndarray) else passed.to(x.device)], alive[passed]
            spread.keep(passed.to(spread.mean.device))
            if not len(alive):
                break
        if follow is None:
            return x, alive, scores, None
        last = []
        for row in follow.tolist():  # on from where it was dropped
            at, b = ends[row]
            only = torch.tensor([row])
            rest = torch.as_tensor(at)[None]
            if b < T:
                rest = advance(
                    rest, own[only], (b, T), source, lambda i, x0_hat, only=only: note(i, only, x0_hat)
                )
            last.append(_array(rest)[0])
        return np.stack(last), follow, scores, ways

    window = frozenset(inside)
    samples, score = np.zeros((n, *model.shape), np.float32), np.zeros(n)
    shown: list[tuple[Any, np.ndarray, Any]] = []
    waiting, n_drawn = torch.arange(n), 0
    hook = model.denoiser.register_forward_pre_hook(count)
    try:
        while len(waiting):
            if n_drawn + len(waiting) > limit:
                raise ValueError(
                    f"{n_drawn} samples were drawn and {n - len(waiting)} of {n} passed the threshold "
                    f"{threshold:.4g}: was the detector calibrated with this model, sampler and levels? Or raise max_draws"
                )
            failed = []
            for own in waiting.split(int(batch_size)):
                start = model.prior(len(own), float(levels[0]), source)
                again = torch.Generator(source.device)
                again.set_state(source.get_state())
                x, alive, scores, _ = draw(start, own, source)
                if n_drawn == 0:
                    samples = samples.astype(_array(x).dtype)
                samples[own[alive].numpy()], score[own[alive].numpy()] = _array(x), scores[alive].numpy()
                dropped = torch.ones(len(own), dtype=torch.bool)
                dropped[alive] = False
                n_drawn += len(own)
                failed.append(own[dropped])
                wanted = dropped.nonzero()[: show - sum(len(part[1]) for part in shown), 0]
                if len(wanted):
                    last, _, _, ways = draw(start, own, again, wanted)
                    shown.append((last, scores[wanted].numpy(), ways))
            waiting = torch.cat(failed)
    finally:
        hook.remove()
    empty = (np.zeros((0, *model.shape), np.float32), np.zeros(0), np.zeros((0, T, *model.shape), np.float32))
    rejected, rejected_score, trajectories = (np.concatenate(part) for part in zip(*(shown or [empty])))
    whole = n_drawn * float(np.divide(evaluations, np.maximum(begun, 1)).sum())
    total = int(evaluations.sum())
    return FilteredSamples(
        samples, score, n_drawn, n_drawn - n, total, 1 - total / whole if whole else 0.0, rejected, rejected_score,
        trajectories, np.asarray(levels[:-1], dtype=float),
    )  # fmt: skip


def _array(x: Any) -> np.ndarray:
    return x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
