"""Samples of the world of :mod:`lodim.dimension.world` as what the calibration reads: distances to nearest neighbours.

The i-th data set depends on i alone, so that any part of a simulation can be made again. Of each the steps of
``log r_j`` along the neighbours are kept in half precision (right to 5e-4 of every step, without drift).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from lodim.dimension.world import FAMILIES, draw_sample
from lodim.files import open_whole

ROOT = 20261129
NEIGHBOURS = 100
_SMALLEST, _USUAL, _LARGE, _LARGEST = 8, 300, 5_000, 50_000
_QUERIES_OF_LARGE = 1_000
_BLOCK = 1 << 22  # entries of a block of squared distances


@dataclass(frozen=True)
class Simulated:
    """One simulated data set: its neighbours' distances (up to a factor) and what they came from."""

    dist: Float[np.ndarray, "n_queries k"]
    n: int
    family: str
    dimension: int
    bending: float
    noise: float


def draw_size(rng: np.random.Generator, i: int) -> int:
    """Points of the i-th set: of 26 in a row 20 log-uniform in 300 ... 5,000, five in 8 ... 300, one up to 50,000."""
    place = i % 26
    low, high = (_USUAL, _LARGE) if place < 20 else (_SMALLEST, _USUAL) if place < 25 else (_LARGE, _LARGEST)
    return int(math.exp(rng.uniform(math.log(low), math.log(high + 1))))


def simulate(i: int) -> Simulated:
    """Draw the i-th data set of the world and search its neighbours."""
    rng = np.random.default_rng([ROOT, i])
    n = draw_size(rng, i)
    family = list(FAMILIES)[int(rng.integers(len(FAMILIES)))]
    sample = draw_sample(rng, n, family)
    queries = np.arange(n) if n <= _LARGE else np.sort(rng.choice(n, _QUERIES_OF_LARGE, replace=False))
    dist = nearest_distances(sample.points, queries, min(NEIGHBOURS, n - 1))
    return Simulated(dist, n, sample.family, sample.dimension, sample.bending, sample.noise)


def nearest_distances(
    X: Float[np.ndarray, "n m"], queries: np.ndarray, k: int
) -> Float[np.ndarray, "n_queries k"]:
    """Distances to the k nearest, by products where those leave them right to 1e-4, else by a tree."""
    X = X - X.mean(0)
    widest = float(np.square(X).sum(1).max()) ** 0.5
    X = X / widest
    found = _by_product(X.astype(np.float32), queries, k)
    if float(found[:, 0].min()) > 0.05:
        return found
    found = _by_product(X, queries, k)
    if float(found[:, 0].min()) > 3e-6:
        return found
    distances: np.ndarray = cKDTree(X).query(X[queries], k + 1)[0]  # type: ignore[assignment]
    return distances[:, 1:]


def _by_product(X: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    squares = np.einsum("ij,ij->i", X, X)
    rows = max(1, _BLOCK // len(X))
    found = np.empty((len(queries), k))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        block = X[part] @ X.T
        block *= -2
        block += squares
        block[np.arange(len(part)), part] = np.inf
        block.partition(k - 1, axis=1)
        near = np.sort(block[:, :k], axis=1) + squares[part, None]
        found[start : start + len(part)] = np.sqrt(np.maximum(near, 0))
    return found


def write_shard(path: Path, first: int, last: int) -> None:
    """Simulate the sets ``first`` ... ``last - 1`` and keep them in a file."""
    sets = [simulate(i) for i in range(first, last)]
    columns = {
        name: np.array([getattr(s, name) for s in sets])
        for name in ("n", "family", "dimension", "bending", "noise")
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(s.dist) for s in sets]
        steps = [np.diff(l, axis=1).astype(np.float16).ravel() for l in logs]
    with open_whole(path) as file:
        np.savez(
            file,
            first=np.array(first),
            queries=np.array([len(s.dist) for s in sets]),
            k=np.array([s.dist.shape[1] for s in sets]),
            start=np.concatenate([l[:, 0] for l in logs]).astype(np.float32),
            steps=np.concatenate(steps),
            **columns,  # type: ignore[arg-type]
        )


def read_shard(path: Path) -> list[Simulated]:
    """The data sets that :func:`write_shard` kept."""
    with np.load(path) as kept:
        parts = {name: kept[name] for name in kept.files}
    sets, row, entry = [], 0, 0
    for i, (queries, k) in enumerate(zip(parts["queries"], parts["k"])):
        size = int(queries * (k - 1))
        logs = np.empty((int(queries), int(k)))
        logs[:, 0] = parts["start"][row : row + queries]
        logs[:, 1:] = parts["steps"][entry : entry + size].reshape(int(queries), int(k) - 1)
        row, entry = row + int(queries), entry + size
        kept_of = [parts[name][i].item() for name in ("n", "family", "dimension", "bending", "noise")]
        sets.append(Simulated(np.exp(logs.cumsum(1)), *kept_of))
    return sets
