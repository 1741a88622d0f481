"""What a reader must know before relying on a dimension: no finite value, more dimensions than columns, too few points.

Estimators of neighbour distances take the points as drawn from a density. On a lattice, in rounded or in categorical
data many distances tie; then ratios of distances are one and the answer is infinite, or large without a meaning.
"""

from __future__ import annotations

import math

import numpy as np

from lodim.dimension.calibrated import Calibrated
from lodim.dimension.methods import fewest_points
from lodim.neighbors import NeighborGraph

_TIES = "a lattice, rounded or categorical data"
_FEW_TIES = 0.01  # share of points
_ERROR = 1.35  # an estimate's relative error times sqrt(n): 1 in theory, 1.25 to 1.4 measured for twonn
_OF_WIDE_SPREAD = ("knn", "ph")  # fitted to a few lengths: several times the others' error


def _has_ties(graph: NeighborGraph) -> bool:
    """Whether points are as far from their second neighbour as from the first."""
    two = graph.dist[:, :2]
    return graph.k > 1 and bool(np.isclose(two[:, 0], two[:, -1], rtol=1e-9, atol=0).mean() > _FEW_TIES)


def doubts_about(value: int | float, graph: NeighborGraph, method: str | None = None) -> tuple[str, ...]:
    """Say what is wrong with an estimate that cannot be the dimension of a manifold.

    Methods of the widest spread (``"knn"``, ``"ph"``) may exceed the columns by it; the others may by four standard
    errors of their logarithm (three of theory where distances tie).
    """
    if not math.isfinite(value):
        return (f"no finite dimension: distances tie ({_TIES}), and neighbours equally far away show none",)
    columns, spread = graph.n_features, 1 / math.sqrt(graph.n_queries)
    if columns is None or method in _OF_WIDE_SPREAD:
        return ()
    if _has_ties(graph):
        text = f"exceeds the {columns} columns: the points are not spread like a manifold ({_TIES})"
        most = max(1.1, 1 + 3 * spread)
    else:
        text = f"is above the number of columns, {columns}"
        most = max(1.1, math.exp(4 * _ERROR * spread))
    return (f"the estimate {value:.4g} {text}",) if value > columns * most else ()


def doubts_of_consensus(found: Calibrated) -> tuple[str, ...]:
    """Say why the interval of a calibrated dimension may not hold."""
    texts = []
    if found.tied:
        texts.append(f"many distances tie ({_TIES}): the interval of the dimension says nothing")
    if found.unfamiliar:
        texts.append(
            "the data are unlike the shapes that the interval was calibrated on: it may not hold the dimension"
        )
    if found.scale_dependent:
        texts.append(
            "the dimension changes with the size of the neighbourhoods by more than its interval (noise, or curvature "
            "between neighbours): look at the dimension across scales"
        )
    return tuple(texts)


def check_enough(method: str, n: int, n_repeated: int = 0) -> None:
    """Raise if a method with its own k needs more than n distinct points, naming how many rows repeat one."""
    if n < fewest_points(method):
        repeated = f" ({n_repeated} of {n + n_repeated} rows are repeated)" if n_repeated else ""
        raise ValueError(
            f"method={method!r} needs at least {fewest_points(method)} distinct rows, "
            f"got n_samples = {n}{repeated}"
        )
