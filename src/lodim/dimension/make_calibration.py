"""Write the arrays of :mod:`lodim.dimension.calibrated`: ``python -m lodim.dimension.make_calibration FOLDER``.

Three steps, each of which can be taken up again: simulate (:mod:`lodim.dimension.simulation`; half an hour on one
core), observe (features and raw estimates of every set; as long), learn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lodim.dimension.features import ORDERS, features
from lodim.dimension.methods import GRAPH_METHODS, default_k
from lodim.dimension.simulation import ROOT, Simulated, read_shard, write_shard

SETS, OF_SHARD = 52_000, 520
_SUBSET = 0.15  # share of the sets of which only some points are queries


def observe(i: int, found: Simulated) -> dict[str, np.ndarray]:
    """What the machines see of the i-th set: features by each number of neighbours, base, estimates."""
    rng = np.random.default_rng([ROOT, i, 1])
    dist, n = found.dist, found.n
    if rng.random() < _SUBSET and len(dist) > 60:
        m = int(np.exp(rng.uniform(np.log(30), np.log(len(dist)))))
        dist = dist[np.sort(rng.choice(len(dist), m, replace=False))]
    out = {"n_queries": np.array(len(dist))}
    for order in ORDERS:
        seen = features(dist, n, order) if dist.shape[1] >= order else None
        if seen is not None:
            out[f"features_{order}"] = np.append(seen.values, seen.base).astype(np.float32)
    raw = np.full(len(GRAPH_METHODS), np.nan)
    for j, (name, method) in enumerate(GRAPH_METHODS.items()):
        k = default_k(name, n)
        if k <= dist.shape[1]:
            raw[j] = method.combine(method.contributions(dist, k), k, None)
    return out | {"raw": raw}


def observe_shard(path: Path, to: Path) -> None:
    """Observe every set of a shard; sets too small for a number of neighbours have NaN for its features."""
    sets = read_shard(path)
    with np.load(path) as kept:
        first = int(kept["first"])
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = [observe(first + i, s) for i, s in enumerate(sets)]
    columns = {
        name: np.array([getattr(s, name) for s in sets]) for name in ("n", "family", "dimension", "bending", "noise")
    }
    for name in (*(f"features_{order}" for order in ORDERS), "raw", "n_queries"):
        shape = next(s[name].shape for s in seen if name in s)
        columns[name] = np.array([s.get(name, np.full(shape, np.nan, np.float32)) for s in seen])
    np.savez(to, **columns)  # type: ignore[arg-type]


def make_observations(folder: Path, sets: int = SETS) -> None:
    """Simulate and observe what ``folder`` does not hold yet."""
    for shard in range(-(-sets // OF_SHARD)):
        path, to = folder / "shards" / f"{shard:04d}.npz", folder / "seen" / f"{shard:04d}.npz"
        if not path.exists():
            write_shard(path, shard * OF_SHARD, (shard + 1) * OF_SHARD)
        if not to.exists():
            observe_shard(path, to)


if __name__ == "__main__":
    make_observations(Path(sys.argv[1]))
