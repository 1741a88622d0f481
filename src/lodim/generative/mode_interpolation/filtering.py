"""Sampling that leaves off what a detector rejects, and draws others until enough have passed.

The sum of squares that a :class:`~lodim.generative.HallucinationDetector` keeps only grows. So a sample that is above
the threshold somewhere within the window would be at its end, and can be dropped at once: the samples' law is that of
filtering at the end.

Source: S. K. Aithal and others, arXiv 2406.09358, section 5, where samples are filtered once they are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
        does not grow with the steps of all others. A ``callback`` sees these batches twice.
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
    inside = [i for i in range(T) if is_inside(detector.window_, unit, levels[i], T - 1 - i)]
    check_held(detector.window_, unit, len(inside), T)
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

    def count(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        nonlocal calls
        calls += len(arguments[0] if arguments else named["x"])

    def advance(
        x: Any, own: Tensor, part: tuple[int, int], source: Any, watch: Callable[[int, Tensor], None]
    ) -> Any:
        a, b = part

        own_options = dict(options)
        if "churn" in options:  # of which every step of a run has an equal part
            own_options["churn"] = check_in_range(options["churn"], "churn", low=0) * (b - a) / T

        def step(state: SamplerState) -> None:
            watch(a + state.i, state.x0_hat)

        return model.sample(
            len(own), sampler=sampler, sigmas=levels[a : b + 1], start=x, generator=source,
            cond=None if given is None else {key: value[own.to(value.device)] for key, value in given.items()},
            callback=[step, *callbacks], batch_size=max(1, len(own)), **own_options,
        )  # fmt: skip

    def draw(
        start: Any, own: Tensor, source: Any, follow: Tensor | None = None
    ) -> tuple[Any, Tensor, Tensor, Any]:
        """Run a batch; return what is left, which rows those are, all rows' scores, and the ways of some rows."""
        nonlocal calls
        x, alive, spread = start, torch.arange(len(own)), Spread()
        scores = torch.full((len(own),), math.nan, dtype=torch.float64)
        ends: list[tuple[Tensor, Tensor, int]] = []
        ways = None if follow is None else np.zeros((len(follow), T, *model.shape), np.float32)

        def note(rows: Tensor, i: int, x0_hat: Tensor) -> None:
            if follow is not None and ways is not None:
                at, of = (rows[:, None] == follow).nonzero(as_tuple=True)
                ways[of.numpy(), i] = x0_hat[at.to(x0_hat.device)].float().cpu().numpy()

        def watch(i: int, x0_hat: Tensor) -> None:
            if i in window:
                spread.add(x0_hat)
            note(alive, i, x0_hat)

        for s, part in enumerate(parts):
            calls = 0
            x = torch.as_tensor(advance(x, own[alive], part, source, watch))
            if follow is None:
                evaluations[s] += calls
                begun[s] += len(alive)
            scores[alive] = spread.score(len(inside)).double().cpu()
            passed = scores[alive] <= threshold  # NaN does not
            if follow is not None:
                shown_now = ~passed & torch.isin(alive, follow)
                ends.append((alive[shown_now], x[shown_now.to(x.device)], part[1]))
            x, alive = x[passed.to(x.device)], alive[passed]
            spread.keep(passed.to(spread.mean.device))
            if not len(alive):
                break
        if follow is None:
            return x, alive, scores, None
        last = np.zeros((len(follow), *model.shape), _array(x).dtype)
        for rows, at, b in ends:  # on from where they were dropped
            if len(rows) and b < T:
                at = advance(at, own[rows], (b, T), source, partial(note, rows))
            last[torch.isin(follow, rows).numpy()] = _array(at)
        return last, follow, scores, ways

    window = frozenset(inside)
    samples, score = np.zeros((n, *model.shape), np.float32), np.zeros(n)
    shown: list[tuple[Any, np.ndarray, Any]] = []
    waiting, n_drawn = torch.arange(n), 0
    hook = model.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    try:
        while len(waiting):
            if n_drawn + len(waiting) > limit:
                raise ValueError(
                    f"{n_drawn} samples were drawn and {n - len(waiting)} of {n} passed the threshold "
                    f"{threshold:.4g}: calibrate it with this model, sampler and levels, or raise max_draws"
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
