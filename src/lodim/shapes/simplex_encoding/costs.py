"""What an encoding costs by dimension, measured where it runs: :func:`encoding_costs`.

A grid looks up 2^d rows a level, simplices d + 1 and sort d fractions. How much of that is time depends on the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from lodim.randomness import RandomState, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.shapes.simplex_encoding.encoding import MOST_GRID, HashEncoding
from lodim.training.descent import Progress
from lodim.validation import check_choice, check_counts, check_device, checked

__all__ = ["EncodingCosts", "encoding_costs"]


@dataclass(frozen=True)
class EncodingCosts(Result):
    """Seconds of a forward and a backward by dimension.

    Attributes
    ----------
    dims : tuple of int
    seconds : dict of str to ndarray, shape (dims,)
        Medians, for each kind of encoding; NaN where a grid has too many dimensions.
    n_points, n_levels, n_rows : int
        Points at once, levels, and the most rows of a level.
    n_repeats : int
        Interleaved rounds.
    threads : int
        Of torch.
    """

    dims: tuple[int, ...]
    seconds: dict[str, Float[np.ndarray, " dims"]]
    n_points: int
    n_levels: int
    n_rows: int
    n_repeats: int
    threads: int

    def look_ups(self, kind: str) -> Float[np.ndarray, " dims"]:
        """Return the rows that a point looks up in a level, by dimension."""
        check_choice(kind, tuple(self.seconds), "kind")
        d = np.array(self.dims, float)
        return 2**d if kind == "grid" else d + 1

    def growth(self, kind: str) -> float:
        """Return how many times as long a further dimension takes, the geometric mean over those measured."""
        d, t = np.array(self.dims), self.seconds[kind]
        there = np.isfinite(t)
        if there.sum() < 2:
            return math.nan
        return float(np.exp(np.polyfit(d[there], np.log(t[there]), 1)[0]))

    def to_frame(self) -> Any:
        """Return a row for each kind and dimension: look-ups, seconds, and the share of the grid's seconds."""
        import pandas as pd

        rows = [
            (kind, d, int(n), t, t / of_grid)
            for kind, times in self.seconds.items()
            for d, n, t, of_grid in zip(
                self.dims, self.look_ups(kind), times, self.seconds["grid"], strict=True
            )
        ]
        return pd.DataFrame(rows, columns=["kind", "dim", "look_ups", "seconds", "ratio_to_grid"])

    def plot(self, ax: Any = None) -> Any:
        """Draw the seconds by dimension, and as dotted lines what look-ups alone would make of the first."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        for color, (kind, times) in zip(COLORS, self.seconds.items(), strict=False):
            ax.semilogy(self.dims, times, "o-", color=color, label=kind)
            if kind != "kuhn":
                n = self.look_ups(kind)
                ax.semilogy(self.dims, times[0] * n / n[0], ":", color=color, label=f"look-ups of {kind}")
        ax.set(xlabel="dimension", ylabel="seconds, forward and backward", xticks=self.dims)
        ax.legend()
        return ax

    def __str__(self) -> str:
        lines = [
            f"{self.n_points:,} points, {self.n_levels} levels of at most {self.n_rows:,} rows, "
            f"{self.threads} thread(s); milliseconds of forward and backward, medians of {self.n_repeats}",
            "kind    " + "".join(f"{f'd = {d}':>9}" for d in self.dims),
        ]
        for kind, times in self.seconds.items():
            lines.append(f"{kind:8}" + "".join(f"{1e3 * t:9.2f}" for t in times))
        words = {"grid": "look-ups 2^d", "simplex": "look-ups d + 1", "kuhn": "look-ups d + 1, no skewing"}
        if len(self.dims) > 1:
            grown = (f"{k} {self.growth(k):.2f} times ({words[k]})" for k in self.seconds)
            lines.append("a further dimension takes " + ", ".join(grown) + " as long")
        return "\n".join(lines)


@checked
def encoding_costs(
    dims: Sequence[int] = range(2, 7),
    *,
    n_points: int = 20_000,
    n_levels: int = 4,
    log2_table: int = 14,
    n_min: int = 16,
    n_max: int = 256,
    n_repeats: int = 7,
    random_state: RandomState = 0,
    device: Any = None,
    progress: Progress | None = None,
) -> EncodingCosts:
    """Time the three kinds of encoding at equal tables and points, in turns.

    Parameters
    ----------
    dims : sequence of int
        Dimensions; beyond 8 there is no grid.
    n_points : int
        Uniform points at once.
    n_repeats : int
        Rounds, in each of which every kind comes once; one more before warms up.
    """
    check_counts(n_points=n_points, n_repeats=n_repeats)
    dims = tuple(int(d) for d in dims)
    check_counts(**{f"dims[{i}]": d for i, d in enumerate(dims)})
    if not dims:
        raise ValueError("dims must name at least one dimension")
    where, seed = check_device("cpu" if device is None else device), root_seed(random_state)
    seconds = {kind: np.full(len(dims), np.nan) for kind in ("grid", "simplex", "kuhn")}
    for i, d in enumerate(dims):
        if progress is not None:
            progress(i / len(dims), f"{d} dimensions")
        draws = torch_generator(derive_seed(seed, "points", d))
        x = torch.rand(n_points, d, generator=draws).to(where)
        steps = {}
        for kind in seconds:
            if kind != "grid" or d <= MOST_GRID:
                made = HashEncoding(
                    d, n_levels, log2_table=log2_table, n_min=n_min, n_max=n_max, kind=kind, random_state=seed
                ).to(where)
                steps[kind] = _step(made, x, torch.ones(n_points, made.out_dim, device=where))
        rounds = [{kind: step() for kind, step in steps.items()} for _ in range(n_repeats + 1)]
        for kind in steps:
            seconds[kind][i] = np.median([times[kind] for times in rounds[1:]])
    return EncodingCosts(dims, seconds, n_points, n_levels, 2**log2_table, n_repeats, torch.get_num_threads())


def _step(encoding: HashEncoding, x: torch.Tensor, grad: torch.Tensor) -> Callable[[], float]:
    """Return what takes a forward and a backward, and says how long they took."""

    def take() -> float:
        encoding.table.grad = None
        begun = time.perf_counter()
        encoding(x).backward(grad)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter() - begun

    return take
