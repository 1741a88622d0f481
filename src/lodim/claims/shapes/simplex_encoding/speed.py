"""What a forward and a backward of the encoding take, on simplices and on a grid, from 2 to 6 dimensions.

20,000 points, four levels of 16 to 256 cells a side and at most 2^14 rows, all kinds in turns, medians of 21 rounds.

Ranges, set before anything was run, from an independent prototype: the grid took 1.19, 1.58, 2.32, 3.84 and 10.8 times
as long as simplices in 2 to 6 dimensions. Both kinds are written with the same care here, so that the bounds are on the
side of the grid.

Source: Y. Wen, Y. Yang, 2023, arXiv 2311.15439, which measures kernels of CUDA.
"""

from __future__ import annotations

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.shapes.simplex_encoding import encoding_costs

BOUNDS = {2: 0.97, 3: 0.75, 4: 0.5}


def run(seed: int, progress: Progress, n_points: int = 20_000, n_repeats: int = 21) -> Findings:
    """Measure, and divide."""
    costs = encoding_costs(
        range(2, 7), n_points=n_points, n_repeats=n_repeats, random_state=seed, progress=progress
    )
    ratios = dict(zip(costs.dims, costs.seconds["simplex"] / costs.seconds["grid"], strict=True))
    checks = tuple(
        check_between(f"seconds of simplices over those of a grid, d = {d}", ratios[d], 0, bound)
        for d, bound in BOUNDS.items()
    )
    figures = {
        "milliseconds": {kind: (1e3 * t).round(3).tolist() for kind, t in costs.seconds.items()},
        "simplex over grid": {str(d): float(ratio) for d, ratio in ratios.items()},
        "times as long for a further dimension": {kind: costs.growth(kind) for kind in costs.seconds},
    }
    return Findings(checks, figures, ("plain torch on a processor; the paper compares kernels of CUDA",))


CLAIM = Claim(
    name="simplex-encoding/speed",
    arxiv="2311.15439",
    statement="Features out of d + 1 vertices of a simplex take less time than out of 2^d corners, ever less with d.",
    laptop=run,
    minutes=0.2,
)
