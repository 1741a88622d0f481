"""Write the tables of :mod:`lodim.dimension.ball_tables`: ``python -m lodim.dimension.make_ball_tables``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lodim.dimension.ball_tables import DANCO_K, FOLDER, ball_dimensions
from lodim.dimension.calibration import ball_distances, draws_for
from lodim.dimension.danco import LARGEST, ball_statistics
from lodim.dimension.methods import GRAPH_METHODS
from lodim.files import open_whole

_BALL_SIZES = tuple(round(10**e) for e in (*np.arange(1.5, 5.01, 0.125), *np.arange(5.25, 7.01, 0.25)))
_DANCO_SIZES = tuple(round(10**e) for e in np.arange(1.5, 6.01, 0.25))


def make_ball_table(path: Path) -> None:
    """Compute and write the table of :func:`ball_answers`."""
    columns: dict[str, np.ndarray] = {}
    for k in sorted({chosen.k for chosen in GRAPH_METHODS.values()}):
        methods = [m for m, chosen in GRAPH_METHODS.items() if chosen.k == k]
        sizes = [n for n in _BALL_SIZES if n > k + 1]
        answers = {m: np.empty((len(sizes), len(ball_dimensions()))) for m in methods}
        for i, n in enumerate(sizes):
            for j, d in enumerate(ball_dimensions()):
                dist = ball_distances(d, n, k, draws_for(k))
                for m in methods:
                    chosen = GRAPH_METHODS[m]
                    answers[m][i, j] = chosen.combine(chosen.contributions(dist, k), k, None)
        for m in methods:
            columns |= {f"{m}_k": np.array(k), f"{m}_sizes": np.array(sizes)}
            columns[f"{m}_answers"] = answers[m].astype(np.float32)
    with open_whole(path) as file:
        np.savez_compressed(file, methods=np.array(list(GRAPH_METHODS)), **columns)  # type: ignore[arg-type]


def make_danco_table(path: Path) -> None:
    """Compute and write the table of :func:`danco_table`."""
    statistics = [[ball_statistics(d, n, DANCO_K) for d in range(1, LARGEST + 1)] for n in _DANCO_SIZES]
    with open_whole(path) as file:
        np.savez_compressed(
            file, sizes=np.array(_DANCO_SIZES), statistics=np.array(statistics, dtype=np.float32)
        )


if __name__ == "__main__":
    make_ball_table(FOLDER / "ball_table.npz")
    make_danco_table(FOLDER / "danco_table.npz")
