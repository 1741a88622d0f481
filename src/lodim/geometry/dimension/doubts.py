"""What a reader must know before relying on a dimension: no finite value, more dimensions than columns, too few points.

Estimators of neighbour distances take the points as drawn from a density. On a lattice, in rounded or in categorical
data many distances tie; then ratios of distances are one and the answer is infinite, or large without a meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lodim.geometry.dimension.methods import fewest_points
from lodim.neighbors import NeighborGraph

__all__ = ["check_enough", "doubts_about", "most_to_vote", "silent_text"]

_TIES = "a lattice, rounded or categorical data"


def _three_errors(graph: NeighborGraph) -> float:
    """What sampling alone may add to an estimate, as a factor: a neighbour estimate's relative error is n^(-1/2)."""
    return 1 + 3 / math.sqrt(graph.n_queries)


def most_to_vote(graph: NeighborGraph) -> float:
    """Largest estimate that counts in a consensus: half more than there are columns, and three standard errors.

    Parameters
    ----------
    graph : NeighborGraph
        Without a limit if it does not know its data's columns.
    """
    return math.inf if graph.n_features is None else graph.n_features * (0.5 + _three_errors(graph))


def doubts_about(value: int | float, graph: NeighborGraph) -> tuple[str, ...]:
    """Say what is wrong with an estimate that cannot be the dimension of a manifold.

    Parameters
    ----------
    value : float
    graph : NeighborGraph
    """
    if not math.isfinite(value):
        return (f"no finite dimension: distances tie ({_TIES}), and neighbours equally far away show none",)
    columns = graph.n_features
    if columns is not None and value > columns * max(1.1, _three_errors(graph)):
        return (
            f"the estimate {value:.4g} exceeds the {columns} columns: the points are not spread like a manifold "
            f"({_TIES})",
        )
    return ()


def silent_text(methods: Sequence[str]) -> str:
    """Say which estimators a consensus leaves out.

    Parameters
    ----------
    methods : sequence of str
    """
    verb = "does" if len(methods) == 1 else "do"
    return (
        f"{' and '.join([', '.join(methods[:-1]), methods[-1]] if len(methods) > 1 else methods)} {verb} not vote: "
        "an estimate that is not finite, or far more than the columns, means that distances tie"
    )


def check_enough(method: str, n: int, n_repeated: int = 0) -> None:
    """Raise if a method with its own k needs more points.

    Parameters
    ----------
    method : str
    n : int
        Distinct points.
    n_repeated : int
        Rows that equal one of them, for the message.

    Raises
    ------
    ValueError
        Saying how many are needed.
    """
    if n < fewest_points(method):
        repeated = f" ({n_repeated} of {n + n_repeated} rows are repeated)" if n_repeated else ""
        raise ValueError(
            f"method={method!r} needs at least {fewest_points(method)} distinct rows, "
            f"got n_samples = {n}{repeated}"
        )
