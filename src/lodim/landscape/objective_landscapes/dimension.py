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
(:mod:`lodim.landscape.objective_landscapes.size_search`). The
baseline chooses its own multiplier in the same way, so that it is not the one badly trained.

Source: C. Li, H. Farkhoor, R. Liu, J. Yosinski, "Measuring the Intrinsic Dimension of Objective Landscapes", 2018,
arXiv 1804.08838. Departures: a bracketing search and an isotonic crossing with an interval instead of a dense grid and
its first passing point (``search="grid", estimator="first_crossing"`` gives those); the cyclic projection by default;
the scaling of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from lodim.landscape.objective_landscapes.answer import choose_direct, choose_run, summarise
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.options import (
    RunOptions,
    SearchOptions,
    floor_score,
    least_d,
    majority_score,
    score_name,
)
from lodim.landscape.objective_landscapes.result import LandscapeResult, RunRecord
from lodim.landscape.objective_landscapes.structure import Grouping
from lodim.landscape.objective_landscapes.sweep import Settings, Sweep
from lodim.landscape.objective_landscapes.trials import Setup, Trained, Trainer
from lodim.randomness import RandomState, root_seed
from lodim.training import Recipe, Task
from lodim.validation import check_choice, check_in_range, check_kind, close_matches, warn

__all__ = ["LandscapeDimension"]

_SEARCH, _RUN = SearchOptions(), RunOptions()
_GROUPS = {f.name: "search" for f in fields(SearchOptions)} | {f.name: "run" for f in fields(RunOptions)}
del _GROUPS["sizes"]  # whose own name is ``search``


class LandscapeDimension(BaseEstimator):
    """Measure how many trained dimensions a model needs on a task.

    Parameters
    ----------
    make_model : callable
        ``make_model() -> nn.Module``, a new one at each call, with its ordinary random initialisation.
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
    score_floor : float, "majority" or callable
        Score of knowing nothing where that is not zero (-21 for Pong); "majority": that of the most frequent class. A
        function is called without arguments once the baseline is trained (:meth:`direct_model` can be asked then) and
        returns it; a ValueError of it ends the measurement there.
    projection, scale : str
        See :func:`lodim.sketch.make_projection`.
    said, train_directly
        See :class:`~lodim.landscape.SubspaceModule`; the factors of ``said`` and the directly trained parameters are
        counted in every d, which must exceed them.
    recipe : Recipe, optional
        Epochs, batch size, optimiser and schedule of the built-in training.
    lr : float
        Learning rate that suits direct training.
    score_on : {"val", "train"}
        "train" counts memorisation, as for shuffled labels.
    greater_is_better : bool
        False for positive losses of your own ``score_fn``: the threshold is ``baseline / threshold``, and there is no
        ``score_floor``.
    search : SearchOptions, {"bracket", "grid"} or sequence of int
        Which sizes and learning rates are tried.
    run : RunOptions
        Where and how long runs are made, and where they are kept.
    **options
        Single options of ``search`` and ``run`` by their own names: ``n_seeds``, ``d_min``, ``d_max``, ``d0``,
        ``resolution``, ``lr_grid``, ``estimator``, ``ci``, ``n_bootstrap``; ``vectorize``, ``early_stop``,
        ``n_jobs``, ``ray``, ``cache_dir``, ``max_runs``, ``time_budget``, ``progress``. They are attributes and
        parameters of :meth:`set_params` too.

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

    search: SearchOptions

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        fit_fn: Callable[..., Any] | None = None,
        score_fn: Callable[..., float] | None = None,
        *,
        task: Task | None = None,
        threshold: float | int = 0.9,
        baseline: str | float | int = "own",
        score_floor: float | int | str | Callable[[], float] = 0.0,
        projection: str = "cyclic",
        scale: str = "column",
        said: Grouping = None,
        train_directly: Sequence[str] = (),
        recipe: Recipe | None = None,
        lr: float | int = 1e-3,
        score_on: str = "val",
        greater_is_better: bool = True,
        search: SearchOptions | str | Sequence[int] | np.ndarray = _SEARCH,
        run: RunOptions = _RUN,
        random_state: RandomState = 0,
        **options: Any,
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
        self.recipe = recipe
        self.lr = lr
        self.score_on = score_on
        self.greater_is_better = greater_is_better
        self.search = search  # type: ignore[assignment]  # __setattr__ makes options of it
        self.run = run
        self.random_state = random_state
        for name, value in options.items():
            group = _GROUPS.get(name)
            if group is None:
                raise TypeError(
                    f"LandscapeDimension has no option {name!r}{close_matches(name, self.get_params())}"
                )
            if isinstance(search, SearchOptions) and search is not _SEARCH and group == "search":
                raise ValueError(
                    f"{name} was given twice: by itself, and in search={search}; put it there only"
                )
            if run is not _RUN and group == "run":
                raise ValueError(f"{name} was given twice: by itself, and in run={run}; put it there only")
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:  # an option of a group by its own name
        if name not in _GROUPS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(getattr(self, _GROUPS[name]), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "search" and not isinstance(value, SearchOptions):
            value = replace(vars(self).get("search", _SEARCH), sizes=value)
        if name in _GROUPS:
            group = _GROUPS[name]
            name, value = group, replace(getattr(self, group), **{name: value})
        super().__setattr__(name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with ``deep`` those of ``search`` and ``run`` by their own names, too."""
        own = super().get_params(deep=False)
        return own | {name: getattr(self, name) for name in _GROUPS} if deep else own

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
        """As :meth:`for_classifier`, for a module with one output and numbers ``y``, which are standardised: R^2."""
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
        TypeError
            With ``cache_dir``: a function, model or data whose content cannot be told, such as an open file.
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
        """Return what is known so far; callable from ``progress``, or after an interruption of :meth:`fit`."""
        return summarise(self._started())

    def report(self) -> str:
        """Return the verdict in one sentence, and a table of d, mean score, deviation, runs and learning rate."""
        return str(self.partial_result())

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, see :meth:`LandscapeResult.plot`."""
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

    def direct_runs(self) -> list[RunRecord]:
        """Return every run of direct training so far, at any rate; the best of them is :meth:`direct_model`."""
        return [t.record for t in self._started().direct]

    def _started(self) -> Sweep:
        if not hasattr(self, "_sweep"):
            raise RuntimeError("nothing has been measured yet; call fit() first")
        return self._sweep

    # Inputs

    def _prepare(self, train: Any, val: Any) -> tuple[Trainer, Settings]:
        check_choice(self.score_on, ("val", "train"), "score_on")
        self.search.check()
        self.run.check()
        if (self.fit_fn is None) != (self.score_fn is None):
            raise ValueError(
                "fit_fn and score_fn go together: give both, or neither for the built-in training"
            )
        if self.fit_fn is None and not self.greater_is_better:
            raise ValueError("greater_is_better=False needs a score_fn of your own: accuracy and R^2 grow")
        if not self.greater_is_better and (callable(self.score_floor) or self.score_floor != 0):
            raise ValueError(
                "score_floor is not used with greater_is_better=False, where the threshold is baseline / threshold; "
                "return minus the loss as the score to count from a floor"
            )
        if isinstance(self.make_model, nn.Module):
            raise TypeError(
                f"make_model must be a function that makes a module, got a {type(self.make_model).__name__}; give "
                "lambda: copy.deepcopy(model) to start every run at this one's weights"
            )
        task = self.task
        if self.fit_fn is None and task is None:
            if train is None or val is None:
                raise ValueError("give the data: fit((X, y), (X_val, y_val)), a task, or for_classifier(...)")
            task = Task.from_arrays(*train, *val)
        check_kind(task, Task | None, "task")
        check_kind(self.recipe, Recipe | None, "recipe")
        check_kind(self.said, Grouping, "said")
        check_kind(self.train_directly, Sequence[str], "train_directly")
        setup = Setup(
            self.make_model,
            task=None if self.fit_fn is not None else task,
            recipe=Recipe() if self.recipe is None else self.recipe,
            fit_fn=self.fit_fn,
            score_fn=self.score_fn,
            train=train,
            val=val,
            projection=self.projection,
            scale=self.scale,
            score_on=self.score_on,
            said=self.said,
            train_directly=tuple(self.train_directly),
        )
        trainer, search = Trainer(setup, self.run), self.search
        d_max = trainer.D if search.d_max is None else int(search.d_max)
        largest = d_max if isinstance(search.sizes, str) else max([d_max, *search.sizes])
        if largest > trainer.D:
            raise ValueError(f"d_max={largest} is more than the model's D={trainer.D} parameters")
        trivial = majority_score(setup.task, self.score_on)
        return trainer, Settings(
            search=replace(search, d_min=least_d(search, trainer.fixed), d_max=d_max),
            run=self.run,
            threshold=float(check_in_range(self.threshold, "threshold")),
            baseline=self.baseline,
            score_floor=floor_score(self.score_floor, trivial),
            greater_is_better=self.greater_is_better,
            lr=float(check_in_range(self.lr, "lr", low=0.0)),
            projection=self.projection,
            scale=self.scale,
            score_name=score_name(setup.task, self.score_on),
            seed=root_seed(self.random_state),
            trivial_score=trivial,
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
