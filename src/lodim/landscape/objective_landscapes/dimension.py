r"""How many numbers does a model need? The intrinsic dimension of an objective landscape.

Train a model of D weights only along a random d-dimensional subspace through its initial point,
:math:`\theta = \theta_0 + P v`, and watch its score as d grows. If the solutions have dimension s, such a subspace
meets them with certainty once :math:`d \ge D - s`; the least such d measures the task, hardly the model's size.

.. math::
   d_{\text{int}90} = \min \{ d : s(d) \ge s_0 + 0.9\,(s^* - s_0) \},

with :math:`s(d)` the mean score in a d-dimensional subspace, :math:`s^*` the score of direct training (or any baseline
given) and :math:`s_0` the score of knowing nothing where that is not zero.

==============================  ===================================================================
Symbol                          Here
==============================  ===================================================================
D                               ``n_parameters_``
:math:`d_{\text{int}90}`        ``d_int_``, interval ``d_int_ci_``
:math:`d_{\text{int}100}`       ``d_int100_``
:math:`s^*`                     ``baseline_score_``
:math:`s_0`                     ``score_floor``
0.9                             ``threshold``
:math:`\theta_0, P, v`          see :class:`~lodim.landscape.SubspaceModule`
==============================  ===================================================================

A seed changes :math:`\theta_0`, P and the order of the data together, and every (d, replicate) has its own.

**The learning rate** decides whether the figure means anything. With unit columns the gradient of v is shorter than the
weights' by :math:`\sqrt{d/D}`, so the rate is :math:`\eta\, g \sqrt{D/d}`, with :math:`\eta` the rate of direct
training and one multiplier g, chosen on the score from ``lr_grid`` (and beyond its end, if the choice lies there) where
the threshold is first bracketed, and kept for every d. The largest is tried first, rates too small being the common
mistake, and stays unless another gains more than the noise of the scores
(:mod:`lodim.landscape.objective_landscapes.rates`). The
baseline chooses its own multiplier in the same way, so that it is not the one badly trained.

Source: C. Li, H. Farkhoor, R. Liu, J. Yosinski, "Measuring the Intrinsic Dimension of Objective Landscapes", 2018,
arXiv 1804.08838. Departures: a bracketing search and an isotonic crossing with an interval instead of a dense grid and
its first passing point (``search="grid", estimator="first_crossing"`` gives those); the cyclic projection by default;
the scaling of the learning rate.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from sklearn.base import BaseEstimator
from torch import nn

from lodim.landscape.objective_landscapes.answer import choose_direct, choose_run, summarise
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.preparation import floor_score, least_d, majority_score, score_name
from lodim.landscape.objective_landscapes.result import LandscapeResult
from lodim.landscape.objective_landscapes.structure import Grouping
from lodim.landscape.objective_landscapes.sweep import Settings, Sweep
from lodim.landscape.objective_landscapes.trials import Trained, Trainer
from lodim.parallel import ResultStore
from lodim.randomness import RandomState, root_seed
from lodim.training import Recipe, Task
from lodim.validation import check_choice, warn

__all__ = ["LandscapeDimension"]


class LandscapeDimension(BaseEstimator):
    """Measure how many trained dimensions a model needs on a task.

    Parameters
    ----------
    make_model : callable
        ``make_model() -> nn.Module`` with its ordinary random initialisation.
    fit_fn : callable, optional
        Your own training, ``fit_fn(module, train, *, lr, seed)``, which trains ``module.parameters()`` in place (and
        may return its number of steps). By default :func:`lodim.training.fit`.
    score_fn : callable, optional
        ``score_fn(module, data) -> float``; needed with ``fit_fn``. By default accuracy or R^2.
    task : Task, optional
        Data of the built-in training; or give them to :meth:`fit`.
    threshold : float
        Share of the baseline to be reached.
    baseline : "own" or float
        The score of this model's direct training, or a score given (1.0 for the published MNIST figures).
    score_floor : float or "majority"
        Score of knowing nothing where that is not zero (-21 for Pong); "majority": that of the most frequent class.
    projection, scale : str
        See :func:`lodim.sketch.make_projection`.
    said, train_directly
        See :class:`~lodim.landscape.SubspaceModule`; the factors of ``said`` and the directly trained parameters are
        counted in every d, which must exceed them.
    search : {"bracket", "grid"} or sequence of int
        Doubling and bisection, a fixed grid of about six d a decade, or your own list of d.
    n_seeds : int
        Runs at the two d that bracket the crossing (at every d where runs are vectorised and cheap).
    d_min, d_max : int
        Least (1: whatever is possible) and largest d; ``d_max=None`` means D.
    d0 : int
        Where doubling starts.
    resolution : float
        The bracket's ends are at most this factor apart.
    estimator : {"isotonic", "first_crossing", "success_probability"}
        How the crossing is read off the runs, see :mod:`lodim.landscape.crossing`.
    ci : float
        Nominal coverage of the interval.
    lr : float
        Learning rate that suits direct training.
    lr_grid : sequence of float
        Multipliers to choose from; where the choice is the largest (or least), larger (or smaller) ones are tried too,
        up to three steps. The largest stays unless another gains more than the noise of the scores: see
        :mod:`lodim.landscape.objective_landscapes.rates`. One number fixes it.
    recipe : Recipe, optional
        Epochs, batch size, optimiser and schedule of the built-in training.
    vectorize : {"auto", True, False}
        Whether the runs of a wave are trained as one; they give the same scores up to rounding.
    early_stop : bool
        End a run as soon as its score reaches the threshold (after any epoch). Cheaper, but scores above the
        threshold are then cut short, so the crossing is read from less.
    score_on : {"val", "train"}
        "train" counts memorisation, as for shuffled labels.
    greater_is_better : bool
        False for positive losses of your own ``score_fn``: the threshold is ``baseline / threshold``.
    n_jobs : int
        Local processes for runs that are not vectorised.
    ray : str, optional
        Address of a Ray cluster, see :func:`lodim.parallel.run_jobs`.
    cache_dir : path, optional
        Finished runs are kept there and not made again, whatever the search asks for next. What identifies a run: d,
        seed, learning rate, model, recipe, data, and the code of your own functions (but not of what they call).
    time_budget : float, optional
        Seconds for the whole of :meth:`fit`. Waves are planned from the measured cost of a run, and running ones are
        cut off; the answer then says how far it got. Your own ``fit_fn`` cannot be cut off, only not started.
    progress : callable, optional
        ``progress(done, text)`` with ``done`` in [0, 1].

    Attributes
    ----------
    d_int_ : float
        Least d that reaches the threshold (a whole number); infinity if none did, NaN if the least one did.
    d_int_ci_ : tuple of float
        Its interval.
    d_int100_ : float
        The same for the whole baseline score; moves with the baseline's noise.
    status_ : {"found", "not_reached", "below_d_min", "not_measured"}
    baseline_score_, threshold_score_ : float
    curve_, direct_ : list of RunRecord
        Runs in subspaces, and those of direct training at its chosen learning rate.
    compression_ratio_ : float
        D / d_int.
    n_parameters_ : int
    ci_method_ : str
    lr_multiplier_ : float
    result_ : LandscapeResult

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lodim.nets import mlp
    >>> X, y = load_digits(return_X_y=True)
    >>> measure = LandscapeDimension.for_classifier(
    ...     lambda: mlp([64, 64, 64, 10]), X[:1400] / 16, y[:1400], X[1400:] / 16, y[1400:]
    ... )
    >>> print(measure.fit().result_)  # doctest: +SKIP
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        fit_fn: Callable[..., Any] | None = None,
        score_fn: Callable[..., float] | None = None,
        *,
        task: Task | None = None,
        threshold: float | int = 0.9,
        baseline: str | float | int = "own",
        score_floor: float | int | str = 0.0,
        projection: str = "cyclic",
        scale: str = "column",
        said: Grouping = None,
        train_directly: Sequence[str] = (),
        search: str | Sequence[int] = "bracket",
        n_seeds: int = 3,
        d_min: int = 1,
        d_max: int | None = None,
        d0: int = 10,
        resolution: float | int = 1.1,
        estimator: str = "isotonic",
        ci: float = 0.95,
        n_bootstrap: int = 1000,
        lr: float | int = 1e-3,
        lr_grid: Sequence[float | int] = (1.0, 3.0, 10.0),
        recipe: Recipe | None = None,
        vectorize: bool | str = "auto",
        early_stop: bool = False,
        score_on: str = "val",
        greater_is_better: bool = True,
        n_jobs: int = 1,
        ray: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        time_budget: float | int | None = None,
        progress: Callable[[float, str], Any] | None = None,
        random_state: RandomState = 0,
    ):
        self.make_model = make_model
        self.fit_fn = fit_fn
        self.score_fn = score_fn
        self.task = task
        self.threshold = threshold
        self.baseline = baseline
        self.score_floor = score_floor
        self.projection = projection
        self.scale = scale
        self.said = said
        self.train_directly = train_directly
        self.search = search
        self.n_seeds = n_seeds
        self.d_min = d_min
        self.d_max = d_max
        self.d0 = d0
        self.resolution = resolution
        self.estimator = estimator
        self.ci = ci
        self.n_bootstrap = n_bootstrap
        self.lr = lr
        self.lr_grid = lr_grid
        self.recipe = recipe
        self.vectorize = vectorize
        self.early_stop = early_stop
        self.score_on = score_on
        self.greater_is_better = greater_is_better
        self.n_jobs = n_jobs
        self.ray = ray
        self.cache_dir = cache_dir
        self.time_budget = time_budget
        self.progress = progress
        self.random_state = random_state

    @classmethod
    def for_classifier(
        cls,
        make_model: Callable[[], nn.Module],
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        *,
        image_shape: Sequence[int] | None = None,
        **options: Any,
    ) -> LandscapeDimension:
        """Prepare a measurement by validation accuracy; call ``fit()`` on what it returns.

        Parameters
        ----------
        make_model : callable
            Makes a module with one output a class.
        X, X_val : array-like, shape (n, ...)
        y, y_val : array-like, shape (n,)
            Labels of any kind.
        image_shape : sequence of int, optional
            Shape given to each row of X.
        **options
            Of :class:`LandscapeDimension`.
        """
        task = Task.from_arrays(X, y, X_val, y_val, kind="classification", image_shape=image_shape)
        return cls(make_model, task=task, **options)

    @classmethod
    def for_regressor(
        cls,
        make_model: Callable[[], nn.Module],
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        *,
        image_shape: Sequence[int] | None = None,
        **options: Any,
    ) -> LandscapeDimension:
        """Prepare a measurement by validation R^2; call ``fit()`` on what it returns.

        Parameters
        ----------
        make_model : callable
            Makes a module with one output.
        X, X_val : array-like, shape (n, ...)
        y, y_val : array-like, shape (n,)
            Numbers; they are standardised.
        **options
            Of :class:`LandscapeDimension`.
        """
        task = Task.from_arrays(X, y, X_val, y_val, kind="regression", image_shape=image_shape)
        return cls(make_model, task=task, **options)

    def fit(self, train: Any = None, val: Any = None) -> LandscapeDimension:
        """Measure.

        Parameters
        ----------
        train, val : object, optional
            Handed to ``fit_fn`` and ``score_fn`` as they are. For the built-in training ``(X, y)`` each, unless a task
            was given.

        Returns
        -------
        LandscapeDimension
            Itself.

        Raises
        ------
        ValueError
            Parameters out of range, ``d_max > D``, or direct training that learns nothing.
        RuntimeError
            Direct training that fails, with its traceback.
        KeyboardInterrupt
            On Ctrl-C; ``result_`` and the other attributes then hold what was known by then.
        """
        trainer, settings = self._prepare(train, val)
        self._sweep = sweep = Sweep(settings, trainer)
        try:
            sweep.run()
        except KeyboardInterrupt:
            sweep.notes.append("interrupted before the search had ended")
            self._publish(summarise(sweep))
            raise
        self._publish(summarise(sweep))
        return self

    def partial_result(self) -> LandscapeResult:
        """Return what is known so far; callable from ``progress``, or after an interruption.

        Raises
        ------
        RuntimeError
            Before :meth:`fit` has begun.
        """
        return summarise(self._started())

    def report(self) -> str:
        """Return the verdict in one sentence, and a table of d, mean score, deviation, runs and learning rate."""
        return str(self.partial_result())

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, see :meth:`LandscapeResult.plot`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        return self.partial_result().plot(ax)

    @property
    def best_(self) -> Trained:
        """The best run at the least d that reaches the threshold: its record (d, seed, ...) and its v."""
        return choose_run(self._started(), None, getattr(self, "d_int_", math.nan))

    def model_at(self, d: int | None = None) -> SubspaceModule:
        """Return a trained model.

        Its initial weights are ``build_seeded(make_model, seed)`` and its projection has the same seed, that of
        ``best_.record``.

        Parameters
        ----------
        d : int, optional
            The best of the runs made at this d. By default the best run at the least d (not below ``d_int_`` where that
            was found) that reaches the threshold.

        Raises
        ------
        ValueError
            No run was made at this d, or none reaches the threshold.
        """
        sweep = self._started()
        return sweep.trainer.rebuild(choose_run(sweep, d, getattr(self, "d_int_", math.nan)))

    def direct_model(self) -> nn.Module:
        """Return the best model of direct training at any rate tried; ValueError without one (a given baseline)."""
        sweep = self._started()
        return sweep.trainer.rebuild(choose_direct(sweep))

    def _started(self) -> Sweep:
        if not hasattr(self, "_sweep"):
            raise RuntimeError("nothing has been measured yet; call fit() first")
        return self._sweep

    # Inputs

    def _prepare(self, train: Any, val: Any) -> tuple[Trainer, Settings]:
        check_choice(self.score_on, ("val", "train"), "score_on")
        if (self.fit_fn is None) != (self.score_fn is None):
            raise ValueError(
                "fit_fn and score_fn go together: give both, or neither for the built-in training"
            )
        if self.fit_fn is None and not self.greater_is_better:
            raise ValueError("greater_is_better=False needs a score_fn of your own: accuracy and R^2 grow")
        task = self.task
        if self.fit_fn is None and task is None:
            if train is None or val is None:
                raise ValueError("give the data: fit((X, y), (X_val, y_val)), a task, or for_classifier(...)")
            task = Task.from_arrays(*train, *val)
        trainer = Trainer(
            self.make_model,
            task=None if self.fit_fn is not None else task,
            recipe=self.recipe or Recipe(),
            fit_fn=self.fit_fn,
            score_fn=self.score_fn,
            train=train,
            val=val,
            projection=self.projection,
            scale=self.scale,
            score_on=self.score_on,
            n_jobs=self.n_jobs,
            ray=self.ray,
            store=None if self.cache_dir is None else ResultStore(self.cache_dir),
            vectorize=self.vectorize,
            said=self.said,
            train_directly=self.train_directly,
        )
        d_max = trainer.D if self.d_max is None else int(self.d_max)
        largest = d_max if isinstance(self.search, str) else max([d_max, *self.search])
        if largest > trainer.D:
            raise ValueError(f"d_max={largest} is more than the model's D={trainer.D} parameters")
        trivial = majority_score(trainer.job.task, self.score_on)
        computed = {"d_min", "d_max", "lr_grid", "score_name", "score_floor", "seed", "trivial_score"}
        given = {name: getattr(self, name) for name in Settings.__dataclass_fields__.keys() - computed}
        for name in ("threshold", "resolution", "lr"):
            given[name] = float(given[name])
        return trainer, Settings(
            **given,
            d_min=least_d(self.d_min, self.search, trainer.fixed),
            d_max=d_max,
            score_floor=floor_score(self.score_floor, trivial),
            trivial_score=trivial,
            score_name=score_name(trainer.job.task, self.score_on),
            lr_grid=tuple(float(g) for g in self.lr_grid),
            seed=root_seed(self.random_state),
        )

    def _publish(self, result: LandscapeResult) -> None:
        self.result_, self.direct_ = result, self._sweep.direct_records
        self.d_int_, self.d_int_ci_, self.d_int100_ = result.d_int90, result.interval, result.d_int100
        self.status_, self.ci_method_ = result.status, result.ci_method
        self.baseline_score_, self.threshold_score_ = result.baseline_score, result.threshold_score
        self.curve_, self.n_parameters_ = list(result.curve), result.n_parameters
        self.compression_ratio_, self.lr_multiplier_ = result.compression_ratio, result.lr_multiplier
        for note in result.notes:
            if "failed" in note or "failures" in note or "score falls" in note or "majority" in note:
                warn(note, stacklevel=4)
