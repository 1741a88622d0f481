r"""Models trained on what models drew: each generation's samples are the next one's data.

Hallucinations are then data, and their share grows from generation to generation. Each draws N + m samples and keeps N:
those of least variance on their way (:class:`HallucinationDetector`), or any, as the control.

============================================  ======================================
symbol in the paper                           name here
============================================  ======================================
N, surplus m, generations G                   rows of ``data``, ``surplus``, ``generations``
filter: variance, random                      ``filter``
============================================  ======================================

Source: S. K. Aithal and others, arXiv 2406.09358, section 6.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from lodim.generative.diffusion import Diffusion, figure_of
from lodim.generative.mode_interpolation.detector import HallucinationDetector
from lodim.metrics import sliced_wasserstein
from lodim.parallel import ResultStore
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, build_seeded, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, checked, warn

__all__ = ["RecursiveTraining", "recursive_training"]

_COMPARED = 10_000  # rows of each set in the distances between generations


@dataclass(frozen=True)
class RecursiveTraining(Result):
    """Figures of the data (generation 0) and of every generation's kept samples.

    Attributes
    ----------
    filter : str
        "variance", "random", or the name of a function.
    distance : tuple of float
        Sliced Wasserstein distance to generation 0; of generation 0 itself between two halves, which is its floor.
    figures : dict of tuples
        Of every metric asked for.
    samples : ndarray, shape (n, ...)
        The last generation's.
    finished : bool
        Whether all generations were made.
    """

    filter: str
    distance: tuple[float, ...]
    figures: dict[str, tuple[float, ...]]
    samples: Float[np.ndarray, "n ..."]
    finished: bool

    def to_frame(self) -> Any:
        """Return a row a generation."""
        import pandas as pd

        return pd.DataFrame(
            {"generation": range(len(self.distance)), "distance": self.distance, **self.figures}
        )

    def plot(self, ax: Any = None, *, what: str = "distance") -> Any:
        """Draw the distance, or a metric, over the generations; and return the axes."""
        check_choice(what, ("distance", *self.figures), "what")
        ax = new_axes(ax)
        values = self.distance if what == "distance" else self.figures[what]
        ax.plot(
            range(len(values)),
            values,
            "o-",
            color=COLORS[self.filter == "variance"],
            label=f"{self.filter} filter",
        )
        ax.set(xlabel="generation", ylabel=what)
        ax.legend()
        return ax

    def __str__(self) -> str:
        rows = {"distance": self.distance, **self.figures}
        told = "; ".join(f"{name} " + ", ".join(f"{v:.4g}" for v in values) for name, values in rows.items())
        state = "" if self.finished else ", stopped early"
        return f"{len(self.distance) - 1} generations, {self.filter} filter{state}: {told}"


@checked
def recursive_training(
    model_factory: Callable[[], Diffusion],
    data: Any,
    *,
    generations: int = 5,
    surplus: int = 2500,
    filter: str | Callable[..., Any] = "variance",
    detector: HallucinationDetector | None = None,
    metrics: Mapping[str, Callable[[Any], Any]] | None = None,
    fit: Mapping[str, Any] | None = None,
    sample: Mapping[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], Any] | None = None,
    random_state: RandomState = 0,
) -> RecursiveTraining:
    """Train, draw, filter, and again.

    Ctrl-C ends with the generations that are done.

    Parameters
    ----------
    model_factory : callable
        Makes an untrained :class:`~lodim.generative.Diffusion`.
    data : array or Tensor, shape (n, ...)
    surplus : int
        Samples drawn beyond n, of which as many are dropped.
    filter : {"variance", "random"} or callable
        What is dropped: the highest scores of the detector, any, or the highest of ``filter(samples)``, one number a
        sample, e.g. the distance to the data as a bound on what filters can do.
    detector : HallucinationDetector, optional
        Says the window, and needs no threshold. Default: the last ten steps.
    metrics : mapping of callables, optional
        Of samples: a number each, or an object with a ``value``.
    fit, sample : mapping, optional
        Options of :meth:`~lodim.generative.Diffusion.fit` and :meth:`~lodim.generative.Diffusion.sample`.
    checkpoint : path, optional
        A folder for finished generations, from which the same call goes on; with more generations too.
    progress : callable, optional
        ``progress(share, text)``.
    """
    check_in_range(generations, "generations", low=1, integer=True)
    check_in_range(surplus, "surplus", low=0, integer=True)
    if not callable(filter):
        check_choice(filter, ("variance", "random"), "filter")
    X = first = check_numbers(data, "data", dtype=np.float32)
    if X.ndim < 2 or len(X) < 4:
        raise ValueError(f"data must be rows, four or more, got shape {X.shape}")
    metrics, fit, sample = metrics or {}, fit or {}, sample or {}
    if "distance" in metrics:
        raise ValueError("a metric must not be named distance, which is the distance to generation 0")
    if rows_of := {"cond", "each"} & fit.keys():
        raise ValueError(
            f"fit must not hold {', '.join(sorted(rows_of))}: what belongs to rows of the data belongs to no "
            "samples of later generations"
        )
    watching = detector or HallucinationDetector()
    root, store = root_seed(random_state), None if checkpoint is None else ResultStore(checkpoint)
    order = as_generator(derive_seed(root, "halves")).permutation(len(X))
    rows: list[dict[str, float]] = [_figures(first[order[::2]], first[order[1::2]], {}, root)]
    rows[0].update(_figures(first, first, metrics, root, distance=False))
    settings = (filter, int(surplus), watching.window_, watching.unit, dict(fit), dict(sample), dict(metrics))
    for generation in range(1, int(generations) + 1):
        key = ("recursive training", model_factory, first, settings, root, generation)
        found = None if store is None else store.get(key)
        if found is not None:
            X, figures = found.value or (X, {})
        else:
            try:
                made = _next(
                    model_factory, X, filter, int(surplus), watching, fit, sample, derive_seed(root, generation),
                    progress, (generation - 1) / int(generations), 1 / int(generations),
                )  # fmt: skip
                if made is None:
                    break
                X, figures = made, _figures(made, first, metrics, root)
            except KeyboardInterrupt:
                break
            if store is not None:
                store.put(key, (X, figures))
        rows.append(figures)
    done = len(rows) - 1
    if done < generations:
        if not done:
            raise KeyboardInterrupt
        warn(f"stopped after {done} of {generations} generations")
    name = filter if isinstance(filter, str) else getattr(filter, "__name__", type(filter).__name__)
    columns = {key: tuple(row[key] for row in rows) for key in rows[-1]}
    return RecursiveTraining(name, columns.pop("distance"), columns, np.asarray(X), done == generations)


def _next(
    make: Callable[[], Diffusion], X: np.ndarray, filter: Any, surplus: int, detector: HallucinationDetector,
    fit: Mapping[str, Any], sample: Mapping[str, Any], seed: int, progress: Any, before: float, share: float,
) -> np.ndarray | None:  # fmt: skip
    """One generation's samples; None where its training was stopped."""

    def told(done: float, text: str) -> None:
        if progress is not None:
            progress(before + share * done, text)

    model = build_seeded(make, derive_seed(seed, "model"))
    if not isinstance(model, Diffusion) or model.training_ is not None:
        raise ValueError(
            "model_factory must return a fresh Diffusion each time, one that was not trained yet"
        )
    model.fit(
        X, **{"random_state": derive_seed(seed, "training"), "progress": lambda d, t: told(0.9 * d, t), **fit}
    )
    if model.training_ is not None and model.training_.stopped == "interrupted":
        return None
    told(0.9, "sampling")
    options: dict[str, Any] = {"generator": derive_seed(seed, "samples"), **sample}
    if filter == "variance":
        others = sample.get("on_step") or ()
        options["on_step"] = [detector.record(), *((others,) if callable(others) else others)]
    drawn = np.asarray(torch.as_tensor(model.sample(len(X) + surplus, **options)).cpu())
    if filter == "random":
        rank = as_generator(derive_seed(seed, "kept")).permutation(len(drawn)).astype(float)
    else:
        rank = (
            detector.score_
            if filter == "variance"
            else check_numbers(filter(drawn), "what filter returns").ravel()
        )
    if len(rank) != len(drawn):
        raise ValueError(f"filter must return one number a sample, {len(drawn)}, got {len(rank)}")
    kept: np.ndarray = drawn[np.sort(np.argsort(rank, kind="stable")[: len(X)])]
    return kept


def _figures(
    X: np.ndarray, first: np.ndarray, metrics: Mapping[str, Callable[[Any], Any]], seed: int, *, distance: bool = True
) -> dict[str, float]:  # fmt: skip
    found = {}
    if distance:
        n = min(len(X), len(first), _COMPARED)
        a, b = (_some(rows, n, seed).reshape(n, -1) for rows in (X, first))
        found["distance"] = sliced_wasserstein(a, b, random_state=derive_seed(seed, "distance")).value
    for name, metric in metrics.items():
        found[name] = figure_of(metric, X, f"metrics[{name!r}]")
    return {name: float(value) for name, value in found.items()}


def _some(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """As many rows, any of them: the first ones of sorted data are of one kind."""
    if len(rows) == n:
        return rows
    return rows[as_generator(derive_seed(seed, "compared")).permutation(len(rows))[:n]]
