"""Intrinsic dimension of a data set as a scikit-learn estimator.

One estimator of :mod:`lodim.dimension.nearest`, :mod:`~lodim.dimension.tight`,
:mod:`~lodim.dimension.pairs` or :mod:`~lodim.dimension.spectrum` (or the consensus of several) with
its neighbours, its calibration, its interval and its local values. The choice of methods follows the study of
Konz and Mazurowski (arXiv 2401.08865), who take ``mle`` with k = 20 for images and ``twonn`` for activations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.dimension.answers import (
    Answer,
    answer,
    local_of_consensus,
    percentile_interval,
    smooth,
)
from lodim.dimension.bounds import in_blocks
from lodim.dimension.calibrated import Calibrated, calibrated_dimension
from lodim.dimension.doubts import check_enough, doubts_about, doubts_of_consensus
from lodim.dimension.features import order_for
from lodim.dimension.methods import (
    AGGREGATES,
    GRAPH_METHODS,
    LEAST_K,
    LOCAL_METHODS,
    METHODS,
    default_k,
    points_needed,
)
from lodim.dimension.scales import decimation_points, gride_points
from lodim.dimension.spectrum import LPCA_RULES
from lodim.dimension.units import in_safe_unit, read_points
from lodim.neighbors import NeighborGraph, n_distinct
from lodim.randomness import derive_seed, root_seed
from lodim.validation import check_choice, check_in_range, check_kind, warn

_NO_GRAPH = ("lpca", "fishers", "knn", "ph")


class IntrinsicDimension(BaseEstimator):
    """How many degrees of freedom the points of a data set have.

    Parameters
    ----------
    method : str
        ``"twonn"`` (default), ``"twonn_fit"``, ``"l2n2"``, ``"mle"``, ``"mle_unbiased"``, ``"gride"``, ``"mind"``,
        ``"mom"``, ``"mada"``, ``"tle"``, ``"corrint"``, ``"lpca"``, ``"fishers"``, ``"mind_integer"``, ``"danco"``,
        ``"ess"``, ``"geomle"``, ``"abide"``, ``"knn"`` (graph length), ``"ph"`` (minimum spanning tree), or
        ``"consensus"``: the calibrated dimension (:mod:`lodim.dimension.calibrated`), learnt from what neighbours of
        simulated shapes show.
    k : int or (int, int), optional
        Farthest neighbour used (none by ``"fishers"`` and ``"ph"``, two by twonn and l2n2); for ``"mle"`` a pair
        averages over that range. Default: 2 for twonn and l2n2, 4 for gride, 11 for mind and danco, 100 for mom, ess,
        geomle and abide, else 20, but at most a tenth of the points (at least 5), and for the consensus the most of 64,
        20 and 5 that is at most a third of them; see ``k_``. With ``"lpca"`` a number looks at neighbourhoods instead
        of at all points at once; with ``"knn"`` it is the edges of a point (5).
    calibrate : {None, "ball"}
        ``"ball"`` corrects the finite-sample bias: the dimension of the uniform ball on which the estimator would
        answer the same with as many points. For the estimators of neighbour distances; the consensus is calibrated
        already.
    aggregate : {None, "inverse_mean", "mean", "median"}
        How local values are put together (mle, mom, mada, tle, ess, geomle); None is the method's own way.
    n_queries : int, optional
        Measure at so many random points only, all points staying neighbours. Not for ``"knn"``, ``"ph"`` and
        ``"lpca"`` without ``k``, which look at all points at once.
    ci : float, optional
        Level of a percentile bootstrap interval over query points (200 resamples, graph fixed), e.g. 0.95. There is no
        interval, but a warning, where a resample has no finite dimension. That interval holds the sample's doubt alone;
        the one of the consensus is nominal for shapes like those simulated and holds the method's too.
    backend : str
        Neighbour search, see :meth:`lodim.neighbors.NeighborGraph.from_data`.
    random_state : int, Generator or None
    rule : str, optional
        For ``"lpca"``: which eigenvalues count, a name of :data:`~lodim.dimension.spectrum.LPCA_RULES`;
        default ``"FO"``.

    Attributes
    ----------
    dimension_pw_ : ndarray, shape (n_samples,) or (n_queries,)
        Local dimensions: of every row without ``n_queries`` (a repeated row has its twin's), else aligned with
        ``graph_.query_idx``. None for methods without local values; infinite where all distances of a point tie.
    dimension_pw_smooth_ : ndarray
        The same, averaged over neighbours (inverse mean).
    calibrated_ : Calibrated or None
        Of ``"consensus"``: the interval at its level (95 % without ``ci``) and what limits the trust in it.
    saturated_ : bool
        Whether ``dimension_`` is only a lower bound (FisherS with all pairs separable, DANCo at its largest ball).
    sufficient_ : bool
        Whether there are the 10^(d/2) points below which pair counts cannot show the dimension found (Eckmann and
        Ruelle 1992); ``"corrint"`` warns if not, the other estimators lean less on it.
    warnings_ : tuple of str
        What ``fit`` warned of: no finite dimension (distances tie), more dimensions than columns, ...

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import IntrinsicDimension
    >>> t = np.random.default_rng(0).uniform(0, 6, size=(500, 1))
    >>> curve = np.hstack([np.cos(t), np.sin(t), t])
    >>> round(IntrinsicDimension("mle").fit(curve).dimension_, 1)
    1.0
    """

    dimension_: float
    dimension_pw_: np.ndarray | None
    dimension_pw_smooth_: np.ndarray | None
    ci_: tuple[float, float] | None
    n_duplicates_: int
    calibrated_: Calibrated | None
    graph_: NeighborGraph | None
    k_: int | tuple[int, ...] | None
    saturated_: bool
    sufficient_: bool
    warnings_: tuple[str, ...]
    _data: np.ndarray | None

    def __init__(
        self,
        method: Any = "twonn",
        k: Any = None,
        calibrate: Any = None,
        aggregate: Any = None,
        n_queries: Any = None,
        ci: Any = None,
        backend: Any = "auto",
        random_state: Any = None,
        rule: Any = None,
    ):
        self.method = method
        self.k = k
        self.calibrate = calibrate
        self.aggregate = aggregate
        self.n_queries = n_queries
        self.ci = ci
        self.backend = backend
        self.random_state = random_state
        self.rule = rule

    def _check_parameters(self) -> None:
        check_choice(self.method, METHODS, "method")
        check_choice(self.calibrate, (None, "ball"), "calibrate")
        for k in self.k if isinstance(self.k, tuple) else (self.k,):
            check_kind(k, int | None, "k")
        if self.calibrate and self.method not in (*GRAPH_METHODS, "consensus"):
            raise ValueError(
                f"method={self.method!r} has no calibration; use one of {', '.join(GRAPH_METHODS)}"
            )
        if self.aggregate is not None:
            local = (*LOCAL_METHODS, "lpca") if self.k is not None else LOCAL_METHODS
            known: tuple[str, ...] = AGGREGATES if self.method in local else ()
            if self.method in GRAPH_METHODS:
                known = GRAPH_METHODS[self.method].aggregates
            if not known:
                raise ValueError(
                    f"method={self.method!r} has one way to put points together; leave aggregate=None"
                )
            check_choice(self.aggregate, known, "aggregate")
        if self.ci is not None:
            check_in_range(self.ci, "ci", low=1e-6, high=1 - 1e-6)
        if self.n_queries is not None:
            check_in_range(self.n_queries, "n_queries", low=2, integer=True)
            if self.method in ("knn", "ph") or (self.method == "lpca" and self.k is None):
                advice = "; give k for neighbourhoods" if self.method == "lpca" else ""
                raise ValueError(
                    f"method={self.method!r} looks at all points at once: leave n_queries=None{advice}"
                )
        if isinstance(self.k, tuple) and self.method not in ("mle", "mle_unbiased"):
            raise ValueError(f"a range of k is for method='mle'; {self.method!r} takes one number")
        if self.rule is not None:
            check_choice(self.rule, LPCA_RULES, "rule")
            if self.method != "lpca":
                raise ValueError(f"rule is for method='lpca'; leave rule=None with {self.method!r}")
        if self.k is not None and self.method in ("fishers", "ph"):
            raise ValueError(f"method={self.method!r} looks at no neighbours; leave k=None")
        if self.k not in (None, 2) and self.method in ("twonn", "twonn_fit"):
            raise ValueError(
                f"method={self.method!r} compares two neighbours; leave k=None, or take method='gride'"
            )
        if self.k is not None and self.method == "consensus":
            raise ValueError(
                "method='consensus' chooses its neighbours by the number of points; leave k=None"
            )

    def _orders(self, n: int) -> tuple[int, ...]:
        """The values of k to use on n distinct points, checked."""
        if self.k is None:
            return (default_k(self.method, n),)
        orders = tuple(self.k) if isinstance(self.k, tuple) else (self.k,)
        least = LEAST_K.get(self.method, 2)
        for k in orders:
            check_in_range(k, "k", low=least, integer=True)
        if len(orders) == 2:
            if orders[0] > orders[1]:
                raise ValueError(f"k must be an ascending range, got {orders}")
            orders = tuple(range(orders[0], orders[1] + 1))
        if self.method == "gride" and orders[0] % 2:
            raise ValueError(
                f"gride compares the k-th with the (k/2)-th neighbour: k must be even, got {orders[0]}"
            )
        return tuple(int(k) for k in orders)

    def fit(self, X: Any, y: Any = None) -> IntrinsicDimension:
        """Estimate the dimension.

        Parameters
        ----------
        X : array-like, Tensor or NeighborGraph
            Points as rows, at least ``k + 2`` different ones (a repeated row counts once); or their neighbour graph,
            for the methods that need no more.
        y : ignored

        Raises
        ------
        ValueError
            Not a finite matrix, too few distinct rows for ``k``, or parameters that do not fit together.
        """
        self._check_parameters()
        if isinstance(X, NeighborGraph):
            return self._fit_graph(X)
        seed = root_seed(self.random_state)
        self.warnings_, self.calibrated_ = (), None
        data = read_points(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        if (data == data[0]).all():
            return self.fit_constant(len(data))
        self._data: np.ndarray | None = data
        source, data, unit = in_safe_unit(X, data)
        graph = self._search(source, data, seed)
        self.graph_ = graph if unit == 1.0 else replace(graph, dist=graph.dist * unit)
        self.n_duplicates_ = graph.n_dropped_duplicates
        self._answer(graph, data, seed, in_blocks(data))
        return self

    def _fit_graph(
        self, graph: NeighborGraph, blocks: Iterable[np.ndarray] | None = None
    ) -> IntrinsicDimension:
        """Fit a graph; ``blocks`` of the rows bound the consensus by their rank."""
        self._check_parameters()
        self.warnings_, self.calibrated_ = (), None
        self._data = None
        self.graph_ = graph
        self.n_duplicates_ = graph.n_dropped_duplicates
        self._answer(graph, None, root_seed(self.random_state), blocks)
        return self

    def fit_constant(self, n: int) -> IntrinsicDimension:
        """Set what ``fit`` finds in data whose rows are all equal: dimension 0, with a warning.

        Parameters
        ----------
        n : int
            Rows.
        """
        self._check_parameters()
        self._data, self.warnings_, self.calibrated_ = None, (), None
        self._warn("all rows of X are equal: the dimension of one point is 0")
        self.dimension_, self.ci_ = 0.0, None if self.ci is None else (0.0, 0.0)
        self.dimension_pw_ = self.dimension_pw_smooth_ = np.zeros(n)
        self.n_duplicates_, self.graph_, self.k_, self.saturated_ = n - 1, None, None, False
        self.sufficient_ = True
        return self

    def _warn(self, text: str) -> None:
        self.warnings_ += (text,)
        warn(text, stacklevel=5)

    def _search(self, X: Any, data: np.ndarray, seed: int) -> NeighborGraph:
        local = self.method not in _NO_GRAPH or self.k is not None
        n = len(data) if self.k is not None else n_distinct(data)
        if self.k is None:
            check_enough(self.method, n, len(data) - n)
        k = max(2, *self._orders(n)) if local else 1
        if local and len(data) < k + 2:
            raise ValueError(
                f"method={self.method!r} with k={k} needs at least {k + 2} rows, got n_samples = {len(data)}"
            )
        graph = NeighborGraph.from_data(
            X, k, self.backend, self.n_queries, random_state=derive_seed(seed, "queries")
        )
        if local and graph.n_ref < k + 2:
            raise ValueError(
                f"method={self.method!r} with k={k} needs at least {k + 2} distinct rows, got {graph.n_ref}: "
                f"{graph.n_dropped_duplicates} of {len(data)} are repeated"
            )
        return graph

    def _answer(
        self,
        graph: NeighborGraph,
        data: np.ndarray | None,
        seed: int,
        blocks: Iterable[np.ndarray] | None = None,
    ) -> None:
        if self.method == "consensus":
            result = self._consensus(graph, blocks)
        else:
            orders = self._orders(graph.n_ref)
            given = None if self.k is None else orders
            options: dict[str, Any] = {"rule": self.rule, "seed": derive_seed(seed, "subsamples")}
            parts = [answer(self.method, graph, data, k, self.aggregate, **options) for k in given or (None,)]
            result = parts[0] if len(parts) == 1 else _averaged(parts)
            self.k_ = result.k if len(parts) == 1 else (orders[0], orders[-1])
        to_ball = result.to_ball if self.calibrate else None
        raw = result.dimension
        self.dimension_ = raw if to_ball is None else float(to_ball(np.array(raw)))
        self.saturated_ = result.saturated
        self.sufficient_ = graph.n_ref >= points_needed(self.dimension_)
        doubts = () if self.calibrated_ else doubts_about(self.dimension_, graph, self.method)
        for text in doubts:
            self._warn(f"method={self.method!r}: {text}")
        if self.method == "corrint" and not self.sufficient_ and math.isfinite(self.dimension_):
            self._warn(
                f"{graph.n_ref} points are too few for the correlation dimension found ({self.dimension_:.1f}): pair "
                f"counts cannot show more than {2 * math.log10(graph.n_ref):.1f} (2 log10 n)"
            )
        self.ci_ = self._interval(result, graph.n_queries, to_ball, seed)
        self._set_pointwise(graph, result)

    def _consensus(self, graph: NeighborGraph, blocks: Iterable[np.ndarray] | None) -> Answer:
        found = self.calibrated_ = calibrated_dimension(graph, blocks, self.ci or 0.95)
        local = answer("mle", graph)
        self.k_ = order_for(graph.n_ref, graph.k)
        for text in doubts_of_consensus(found):
            self._warn(f"method='consensus': {text}")
        return Answer(found.dimension, local.k, local_of_consensus(local, found.dimension))

    def _interval(self, result: Answer, n: int, to_ball: Any, seed: int) -> tuple[float, float] | None:
        if self.ci is None:
            return None
        if self.calibrated_ is not None:
            return self.calibrated_.interval
        if result.resampled is None:
            raise ValueError(f"method={self.method!r} has no bootstrap over points; leave ci=None")
        seed = derive_seed(seed, "bootstrap")
        draws, interval = percentile_interval(result.resampled, n, self.ci, seed, to_ball)
        if interval is None and math.isfinite(self.dimension_):
            n_lost = int((~np.isfinite(draws)).sum())
            self._warn(f"no interval: {n_lost} of {len(draws)} resamples show no finite dimension")
        return interval

    def _set_pointwise(self, graph: NeighborGraph, result: Answer) -> None:
        self.dimension_pw_ = self.dimension_pw_smooth_ = None
        if result.pointwise is None:
            return
        smoothed = smooth(graph, result.pointwise, max(2, result.k))
        if self.n_queries is None and graph.n_queries == graph.n_ref:
            self.dimension_pw_, self.dimension_pw_smooth_ = (
                graph.spread(result.pointwise),
                graph.spread(smoothed),
            )
        else:
            self.dimension_pw_, self.dimension_pw_smooth_ = result.pointwise, smoothed

    def scale_profile(self) -> Any:
        """Return the dimension at growing scales as a data frame.

        Columns: ``kind`` (``"gride"`` or ``"decimation"``), ``n1``, ``n_used``, ``dimension``, ``se``, ``radius``. A
        model fitted on a graph has only the Gride rows its neighbours allow.
        """
        import pandas as pd

        check_is_fitted(self, "dimension_")
        points: tuple[Any, ...] = ()
        if self.graph_ is not None:
            graph, seed = self.graph_, derive_seed(root_seed(self.random_state), "scales")
            wanted = min(64, (graph.n_ref - 1) // 2)
            if self._data is not None and graph.k < wanted:
                graph = NeighborGraph.from_data(self._data, wanted, self.backend, graph.query_idx)
            points = gride_points(graph)
            if self._data is not None:
                points += decimation_points(self._data, graph, backend=self.backend, random_state=seed)
        columns = ["kind", "n1", "n_used", "dimension", "se", "radius"]
        return pd.DataFrame([p.to_dict() for p in points], columns=columns)


def _averaged(parts: list[Answer]) -> Answer:
    """Levina and Bickel's average over a range of k."""
    pointwise = np.mean([p.pointwise for p in parts if p.pointwise is not None], axis=0)

    def resampled(drawn: np.ndarray) -> float:
        return float(np.mean([p.resampled(drawn) for p in parts]))  # type: ignore[misc]

    def to_ball(values: np.ndarray) -> np.ndarray:
        # each k has its own relation; on the average, apply the mean of their corrections
        factors = [p.calibrated / p.dimension for p in parts]  # type: ignore[operator]
        return np.asarray(values * float(np.mean(factors)))

    mean = float(np.mean([p.dimension for p in parts]))
    return Answer(mean, parts[-1].k, pointwise, resampled, to_ball=to_ball)
