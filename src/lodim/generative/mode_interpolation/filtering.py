"""Sampling that leaves off what a detector rejects, and draws others until enough have passed.

The sum of squares that a :class:`~lodim.generative.HallucinationDetector` keeps only grows. So a sample that is above
the threshold somewhere within the window would be at its end, and can be dropped at once: the samples' law is that of
filtering at the end.

Source: S. K. Aithal and others, arXiv 2406.09358, section 5, where samples are filtered once they are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.generative.diffusion import Diffusion
from lodim.generative.mode_interpolation.detector import HallucinationDetector, Spread, check_held, is_inside
from lodim.generative.pictures import Trajectory, plot_samples
from lodim.generative.samplers import SAMPLERS, SamplerState, check_levels
from lodim.plots import new_axes
from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import check_in_range, checked

__all__ = ["FilteredSamples", "sample_filtered"]

_WITHOUT_MEMORY = SAMPLERS.keys() - {"dpmpp_2m", "pc"}
_SHOWN_STEPS = 12


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
        if not images and len(self.samples) and self.samples[0].size == 2:
            plot_samples(self.samples.reshape(len(self.samples), -1), ax)
        if len(self.trajectories):
            steps = self.trajectories.shape[1]
            shown = np.unique(np.linspace(0, steps - 1, _SHOWN_STEPS if images else steps).astype(int))
            seen = Trajectory(len(self.trajectories))
            seen.x = seen.x0_hat = [torch.from_numpy(self.trajectories[:, i]) for i in shown]
            seen.plot(ax)
        elif images and len(self.samples):
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
    n_checks: int | None = None,
    show: int = 8,
    batch_size: int = 4096,
    max_draws: int | None = None,
    **options: Any,
) -> FilteredSamples:
    """Draw samples until n have passed a calibrated detector; a place whose sample is dropped is drawn again.

    Dropped samples are not run to their end: at ``n_checks`` places within the window, its end among them, those that
    are above the threshold are left off. They would have been dropped anyway, so the samples' law is that of filtering
    at the end; and what is saved is at most the share of the dropped.

    Parameters
    ----------
    model : Diffusion
    detector : HallucinationDetector
        With a threshold; use the sampler and levels that it was calibrated with.
    steps, sampler, sigmas, cond, batch_size, options
        As of :meth:`~lodim.generative.Diffusion.sample`. A condition for each sample stays with its place.
    n_checks : int, optional
        0: run all to the end. Default: 4, but 0 with "dpmpp_2m", "pc" and samplers of your own, since every check is a
        fresh start: the first one's next step is of first order again, the second one's corrector sees other rows'
        norms. Also 0 with a ``on_step``, which would see each part as a run.
    show : int
        Dropped samples to keep with their ways; the batches they are found in are computed again for that, so memory
        does not grow with the steps of all others. A ``on_step`` sees these batches twice.
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
    levels = check_levels(model.sigmas(steps) if sigmas is None else sigmas)
    given = model._condition(cond, n, model.denoiser.center.device)
    run = _Run(model, detector, levels, n_checks, sampler, given, options)
    source = generator if isinstance(generator, torch.Generator) else torch_generator(root_seed(generator))
    samples, score = np.zeros((n, *model.shape), np.float32), np.zeros(n)
    shown: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    waiting, n_drawn = torch.arange(n), 0
    with run.counting():
        while len(waiting):
            if n_drawn + len(waiting) > limit:
                raise ValueError(
                    f"{n_drawn} samples were drawn and {n - len(waiting)} of {n} passed the threshold "
                    f"{run.threshold:.4g}: calibrate it with this model, sampler and levels, or raise max_draws"
                )
            failed = []
            for own in waiting.split(int(batch_size)):
                start = model.prior(len(own), float(levels[0]), source)
                again = torch.Generator(source.device)
                again.set_state(source.get_state())
                x, passed, scores = run.draw(start, own, source)
                if n_drawn == 0:
                    samples = samples.astype(_array(x).dtype)
                samples[own[passed].numpy()], score[own[passed].numpy()] = _array(x), scores[passed].numpy()
                dropped = torch.ones(len(own), dtype=torch.bool)
                dropped[passed] = False
                n_drawn += len(own)
                failed.append(own[dropped])
                wanted = dropped.nonzero()[: show - sum(len(part[1]) for part in shown), 0]
                if len(wanted):
                    last, ways = run.follow(start, own, again, wanted)
                    shown.append((last, scores[wanted].numpy(), ways))
            waiting = torch.cat(failed)
    empty = (
        np.zeros((0, *model.shape), np.float32),
        np.zeros(0),
        np.zeros((0, run.steps, *model.shape), np.float32),
    )
    rejected, rejected_score, trajectories = (np.concatenate(part) for part in zip(*(shown or [empty])))
    whole = n_drawn * float(np.divide(run.evaluations, np.maximum(run.begun, 1)).sum())
    total = int(run.evaluations.sum())
    return FilteredSamples(
        samples, score, n_drawn, n_drawn - n, total, 1 - total / whole if whole else 0.0, rejected, rejected_score,
        trajectories, np.asarray(levels[:-1], dtype=float),
    )  # fmt: skip


class _Run:
    """A sampler's way in parts, after each of which a batch's rows above the threshold are left off.

    Attributes
    ----------
    evaluations, begun : int array, shape (parts,)
        Of the network and of samples in each part, of the batches of :meth:`draw`.
    """

    def __init__(
        self, model: Diffusion, detector: HallucinationDetector, levels: Any, n_checks: Any, sampler: Any, given: Any,
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        if detector.threshold_ is None:
            raise ValueError("the detector has no threshold: calibrate it on samples of this model first")
        self.model, self.sampler, self.given, self.levels = model, sampler, given, levels
        self.threshold: float = detector.threshold_
        self.steps = T = len(levels) - 1
        unit = detector.unit
        self.inside = [i for i in range(T) if is_inside(detector.window_, unit, levels[i], T - 1 - i)]
        check_held(detector.window_, unit, len(self.inside), T)
        self.options = dict(options)
        on_step = self.options.pop("on_step", None) or ()
        self.calls = (on_step,) if callable(on_step) else tuple(on_step)
        if "churn" in options:
            check_in_range(options["churn"], "churn", low=0)
        if n_checks is None:
            name = sampler if isinstance(sampler, str) else getattr(sampler, "__name__", "")
            n_checks = 4 if name in _WITHOUT_MEMORY and not self.calls else 0
        check_in_range(n_checks, "n_checks", low=0, integer=True)
        places = np.linspace(self.inside[0] + 1, self.inside[-1] + 1, n_checks + 1)[1:].astype(int)
        self.parts = list(pairwise([0, *(int(b) for b in np.unique(places) if b < T), T]))
        self.evaluations, self.begun = np.zeros(len(self.parts), int), np.zeros(len(self.parts), int)
        self._calls = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the network is given."""

        def count(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._calls += len(arguments[0] if arguments else named["x"])

        hook = self.model.denoiser.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def draw(self, start: Any, own: Tensor, source: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Run a batch whose samples have the places ``own``; return what is left, its row numbers, all rows' scores."""
        scores = torch.full((len(own),), math.nan, dtype=torch.float64)
        x, left, self._calls = start, torch.arange(len(own)), 0
        for s, (rows, at, found, passed, _) in enumerate(self._run(start, own, source, None)):
            self.evaluations[s] += self._calls
            self.begun[s] += len(rows)
            scores[rows], self._calls = found, 0
            x, left = at[passed.to(at.device)], rows[passed]
        return x, left, scores

    def follow(self, start: Any, own: Tensor, source: Any, wanted: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Run a batch once more, and some of its dropped rows to their ends; return those ends and the ways there."""
        ways = np.zeros((len(wanted), self.steps, *self.model.shape), np.float32)

        def note(rows: Tensor, i: int, x0_hat: Tensor) -> None:
            at, of = (rows[:, None] == wanted).nonzero(as_tuple=True)
            ways[of.numpy(), i] = x0_hat[at.to(x0_hat.device)].float().cpu().numpy()

        ends = []
        for rows, at, _, passed, b in self._run(start, own, source, note):
            now = ~passed & torch.isin(rows, wanted)
            ends.append((rows[now], at[now.to(at.device)], b))
        last = np.zeros((len(wanted), *self.model.shape), _array(ends[0][1]).dtype)
        for rows, at, b in ends:
            if len(rows) and b < self.steps:
                at = self._advance(at, own[rows], (b, self.steps), source, partial(note, rows))
            last[torch.isin(wanted, rows).numpy()] = _array(at)
        return last, ways

    def _run(
        self, x: Any, own: Tensor, source: Any, note: Callable[[Tensor, int, Tensor], None] | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, int]]:
        """Yield after each part its rows' numbers, samples and scores, which of them pass, and the step it ends at."""
        rows, spread = torch.arange(len(own)), Spread()

        def watch(i: int, x0_hat: Tensor) -> None:
            if i in self.inside:
                spread.add(x0_hat)
            if note is not None:
                note(rows, i, x0_hat)

        for part in self.parts:
            x = torch.as_tensor(self._advance(x, own[rows], part, source, watch))
            scores = spread.score(len(self.inside)).double().cpu()
            passed = scores <= self.threshold  # NaN does not
            yield rows, x, scores, passed, part[1]
            x, rows = x[passed.to(x.device)], rows[passed]
            spread.keep(passed.to(spread.mean.device))
            if not len(rows):
                return

    def _advance(
        self, x: Any, own: Tensor, part: tuple[int, int], source: Any, watch: Callable[[int, Tensor], None]
    ) -> Any:
        """Sample on over some of the steps."""
        a, b = part
        options = dict(self.options)
        if "churn" in options:  # of which every step of a run has an equal part
            options["churn"] *= (b - a) / self.steps

        def step(state: SamplerState) -> None:
            watch(a + state.i, state.x0_hat)

        given = self.given
        return self.model.sample(
            len(own), sampler=self.sampler, sigmas=self.levels[a : b + 1], start=x, generator=source,
            cond=None if given is None else {key: value[own.to(value.device)] for key, value in given.items()},
            on_step=[step, *self.calls], batch_size=max(1, len(own)), **options,
        )  # fmt: skip


def _array(x: Any) -> np.ndarray:
    return x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
