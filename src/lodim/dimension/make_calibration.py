"""Write the arrays of :mod:`lodim.dimension.calibrated`: ``python -m lodim.dimension.make_calibration FOLDER``.

Three steps on one core, the first two of which can be taken up again: simulate (:mod:`lodim.dimension.simulation`; a
quarter of an hour, 11 GB), observe (features and raw estimates of every set; as long), learn (ten minutes). 40,560
sets: 31,200 of 300 to 5,000 points, 7,800 smaller ones, 1,560 of up to 50,000; those whose points cannot show the
dimension (7 %) are left out of the learning. Last run on an AMD EPYC with NumPy 2.4 and torch 2.13.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from lodim.dimension.calibrated import (
    _MIDDLE,
    ARRAYS,
    CHANGE,
    LEVELS,
    ROW_SIZES,
    Layers,
    residual_inputs,
    run_layers,
    spread_out,
    squash,
)
from lodim.dimension.features import ORDERS, features, scale_gap
from lodim.dimension.methods import GRAPH_METHODS, default_k
from lodim.dimension.simulation import ROOT, Simulated, read_shard, simulate, write_shard
from lodim.dimension.world import FAMILIES, MOST_BENT, MOST_NOISE
from lodim.files import open_whole

SETS, OF_SHARD = 40_560, 520
_BATCH, _FOLDS, _MEMBERS = 512, 8, 6
_STEPS, _RESIDUAL_STEPS, _ROW_STEPS = 4000, 1500, 3000
_CHECKED = range(20, 25)
_AXES, _WORLD, _GAP = 16, 1200, 1e-3
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
        if k <= dist.shape[1] and (dist[:, 0] > 0).all():
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
        name: np.array([getattr(s, name) for s in sets])
        for name in ("n", "family", "dimension", "bending", "noise")
    }
    for name in (*(f"features_{order}" for order in ORDERS), "raw", "n_queries"):
        shape = next(s[name].shape for s in seen if name in s)
        columns[name] = np.array([s.get(name, np.full(shape, np.nan, np.float32)) for s in seen])
    with open_whole(to) as file:
        np.savez(file, **columns)  # type: ignore[arg-type]


def make_observations(folder: Path, sets: int = SETS) -> None:
    """Simulate and observe what ``folder`` does not hold yet."""
    for name in ("shards", "seen"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for shard in range(-(-sets // OF_SHARD)):
        path, to = folder / "shards" / f"{shard:04d}.npz", folder / "seen" / f"{shard:04d}.npz"
        if not path.exists():
            write_shard(path, shard * OF_SHARD, (shard + 1) * OF_SHARD)
        if not to.exists():
            observe_shard(path, to)


# learning


@dataclass(frozen=True)
class Observed:
    """Resolved simulated sets as one number of neighbours shows them."""

    features: np.ndarray
    base: np.ndarray
    target: np.ndarray  # log d - base
    family: np.ndarray
    resolved: np.ndarray

    def part(self, chosen: np.ndarray) -> Observed:
        """Some of the sets."""
        return Observed(*(getattr(self, name)[chosen] for name in self.__annotations__))


def load(folder: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of all observed sets."""
    shards = [np.load(path) for path in sorted((folder / "seen").glob("[0-9]*.npz"))]
    return {name: np.concatenate([shard[name] for shard in shards]) for name in names}


def observed(folder: Path, order: int) -> Observed:
    """What :func:`observe` saw by so many neighbours, sets left out that have too few or repeated points."""
    kept = load(folder, (f"features_{order}", "dimension", "family", "bending", "noise"))
    seen = kept[f"features_{order}"].astype(np.float64)
    whole = np.asarray(np.isfinite(seen).all(1))
    base = seen[:, -1]
    resolved = (kept["bending"] < MOST_BENT) & (kept["noise"] < MOST_NOISE)
    found = Observed(seen[:, :-1], base, np.log(kept["dimension"]) - base, kept["family"], resolved)
    return found.part(whole)


class _Networks(torch.nn.Module):
    """An ensemble of small networks, one a slice."""

    def __init__(self, members: int, sizes: Sequence[int]):
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.randn(members, a, b) * (2 / (a + b)) ** 0.5) for a, b in pairs
        )
        self.bias = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(members, 1, b)) for _, b in pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, (weights, bias) in enumerate(zip(self.weights, self.bias)):
            x = torch.baddbmm(bias, x, weights)
            x = torch.nn.functional.silu(x) if i < len(self.weights) - 1 else x
        return x

    def layers(self) -> Layers:
        """Arrays (members, inputs, outputs) and (members, outputs)."""
        return [(w.detach().numpy(), b.detach().numpy()[:, 0]) for w, b in zip(self.weights, self.bias)]


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train(
    z: np.ndarray, sizes: Sequence[int], loss: Loss, *, start: np.ndarray, members: int, steps: int, seed: int
) -> Layers:
    """Fit an ensemble whose members see batches of their own; ``loss(output, rows)`` is to be small."""
    torch.manual_seed(seed)
    networks = _Networks(members, (z.shape[1], *sizes, len(start)))
    with torch.no_grad():
        networks.bias[-1][:] = torch.tensor(start, dtype=torch.float32)
    inputs = torch.tensor(z, dtype=torch.float32)
    optimiser = torch.optim.AdamW(networks.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps + 1)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (members, _BATCH), generator=draw)
        optimiser.zero_grad()
        loss(networks(inputs[rows]), rows).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return networks.layers()


def _pinball(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    off, levels = true - found, torch.tensor(LEVELS, dtype=torch.float32)
    return torch.maximum(levels * off, (levels - 1) * off).sum(-1)


def learn_quantiles(
    z: np.ndarray, target: np.ndarray, members: int, steps: int, seed: int, widths: Sequence[int] = (48, 32)
) -> Layers:
    """An ensemble that answers quantiles of the target."""
    true = torch.tensor(target, dtype=torch.float32)
    return train(
        z,
        widths,
        lambda found, rows: _pinball(found, true[rows][..., None]),
        start=np.quantile(target, LEVELS),
        members=members,
        steps=steps,
        seed=seed,
    )


def learn_residuals(u: np.ndarray, first: np.ndarray, target: np.ndarray, steps: int, seed: int) -> Layers:
    """A network that moves the quantiles ``first`` away from their median: logarithms of factors."""
    true, base = (torch.tensor(a, dtype=torch.float32) for a in (target, first))
    middle = _MIDDLE
    gaps = (base - base[:, middle : middle + 1]).abs() + _GAP
    sign = torch.sign(torch.tensor(LEVELS, dtype=torch.float32) - 0.5)

    def loss(found: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(found[..., :1])
        logs = torch.cat([found[..., :middle], zero, found[..., middle:]], -1).clamp(-3, 3)
        moved = base[rows][..., middle : middle + 1] + sign * gaps[rows] * torch.exp(logs)
        return _pinball(moved, true[rows][..., None])

    layers = train(u, (16,), loss, start=np.zeros(len(LEVELS) - 1), members=1, steps=steps, seed=seed)
    return [(w[0], b[0]) for w, b in layers]


def learn_median(z: np.ndarray, target: np.ndarray) -> Layers:
    """A network that answers the median of the target."""
    true = torch.tensor(target, dtype=torch.float32)
    layers = train(
        z,
        (12,),
        lambda found, rows: (true[rows] - found[..., 0]).abs(),
        start=np.array([np.median(target)]),
        members=1,
        steps=_RESIDUAL_STEPS,
        seed=7,
    )
    return [(w[0], b[0]) for w, b in layers]


def learn_row(folder: Path, method: str, steps: int) -> dict[str, np.ndarray]:
    """Arrays of one estimator alone."""
    kept = load(folder, ("raw", "n", "n_queries", "dimension", "family", "bending", "noise"))
    raw = kept["raw"][:, list(GRAPH_METHODS).index(method)]
    known = np.isfinite(raw) & (raw > 0) & (kept["bending"] < MOST_BENT) & (kept["noise"] < MOST_NOISE)
    kept = {name: values[known] for name, values in kept.items()}
    inputs = np.log(np.column_stack([raw[known], np.clip(kept["n"], *ROW_SIZES), kept["n_queries"]]))
    target, family = np.log(kept["dimension"]) - inputs[:, 0], kept["family"]
    centre, scale = _spread(inputs)
    z = squash(inputs, centre, scale)
    fold, first = fold_of(family, 4, 0), np.empty((len(z), len(LEVELS)))
    for f in range(4):
        layers = learn_quantiles(z[fold != f], target[fold != f], 1, steps, f, (16, 16))
        first[fold == f] = _first(layers, z[fold == f])[0]
    zero, one = np.zeros(len(LEVELS) - 1), np.ones(len(LEVELS))
    widen = factors(np.array([spread_out(f, zero, one) for f in first]), target, family)
    layers = [(w[0], b[0]) for w, b in learn_quantiles(z, target, 1, steps, 9, (16, 16))]
    found = {"centre": centre, "scale": scale, "widen": widen}
    for i, (weights, bias) in enumerate(layers):
        found |= {f"weights{i}": weights, f"bias{i}": bias}
    return {f"{method}_{name}": values for name, values in found.items()}


def fold_of(family: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for every set, families together."""
    names = np.unique(family)
    number = np.random.default_rng(seed).permutation(len(names)) % folds
    return number[np.searchsorted(names, family)]


def _spread(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, middle, high = np.quantile(features, [0.16, 0.5, 0.84], axis=0)
    return middle, (high - low) / 2 + 1e-6


def _first(layers: Layers, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean quantiles and the members' medians of all sets."""
    members = np.stack(
        [np.sort(run_layers([(w[m], b[m]) for w, b in layers], z), -1) for m in range(len(layers[0][0]))], 1
    )
    return members.mean(1), members[:, :, _MIDDLE]


def _fifth(points: np.ndarray, world: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [
            np.sort(cdist(part, world), axis=1)[:, 4]
            for part in np.array_split(points, -(-len(points) // 2000))
        ]
    )


def left_out(seen: Observed, odd_gap: np.ndarray, steps: int, members: int = 3) -> dict[str, np.ndarray]:
    """First-stage quantiles, disagreement and distance of every set, from what other families taught."""
    fold = fold_of(seen.family, _FOLDS, 0)
    n = len(seen.base)
    first, medians, near = np.empty((n, len(LEVELS))), np.empty((n, members)), np.empty(n)
    for f in range(_FOLDS):
        print("fold", f, flush=True)
        taught, asked = (fold != f) & seen.resolved, fold == f
        centre, scale = _spread(seen.features[taught])
        z = squash(seen.features, centre, scale)
        layers = learn_quantiles(z[taught], seen.target[taught], members, steps, f)
        first[asked], medians[asked] = _first(layers, z[asked])
        axes = principal_axes(z[taught])
        thin = np.random.default_rng(f).choice(
            np.flatnonzero(taught), min(_WORLD, taught.sum()), replace=False
        )
        near[asked] = _fifth(z[asked] @ axes, z[thin] @ axes)
    inputs = np.array(
        [residual_inputs(first[i], medians[i], near[i], odd_gap[i], seen.features[i]) for i in range(n)]
    )
    return {"first": first, "inputs": inputs, "near": near}


def principal_axes(z: np.ndarray) -> np.ndarray:
    """Columns that turn standardised features into their first principal components, each of spread one."""
    values, axes = np.linalg.eigh(np.cov(z.T))
    return axes[:, : -_AXES - 1 : -1] / np.sqrt(values[: -_AXES - 1 : -1])


def _moved(layers: Layers, u: np.ndarray, first: np.ndarray, widen: np.ndarray) -> np.ndarray:
    logs = run_layers(layers, u)
    return np.array([spread_out(f, l, widen) for f, l in zip(first, logs)])


def factors(
    quantiles: np.ndarray, target: np.ndarray, family: np.ndarray, worst: float | None = None
) -> np.ndarray:
    """For each level how much the ends of its interval must move to miss its share of left-out sets, families alike.

    With ``worst`` (a share) no more than the rest of the families miss twice that share either.
    """
    middle, widen = quantiles[:, _MIDDLE], np.ones(len(LEVELS))
    names, which = np.unique(family, return_inverse=True)
    weight = 1 / np.bincount(which)[which]
    for j in range(_MIDDLE):
        above = target > middle
        reach = np.where(above, quantiles[:, -1 - j] - middle, middle - quantiles[:, j])
        needed = np.abs(target - middle) / np.maximum(reach, 1e-9)
        order = np.argsort(needed)
        share = np.cumsum(weight[order]) / weight.sum()
        factor = needed[order][np.searchsorted(share, 1 - 2 * LEVELS[j])]
        if worst is not None:
            each = [np.quantile(needed[which == i], max(0.0, 1 - 4 * LEVELS[j])) for i in range(len(names))]
            factor = max(factor, np.quantile(each, worst))
        widen[j] = widen[-1 - j] = factor
    return widen


def far_from(near: np.ndarray, log_queries: np.ndarray) -> np.ndarray:
    """Coefficients of the parabola in log queries below whose exponential 95 % of the distances lie."""

    def loss(coefficients: np.ndarray) -> float:
        off = np.log(near) - np.polyval(coefficients, log_queries)
        return float(np.maximum(0.95 * off, -0.05 * off).mean())

    start = np.polyfit(log_queries, np.log(near) + 0.5, 2)
    return minimize(
        loss, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-6, "fatol": 1e-9}
    ).x


def learn_machine(seen: Observed, order: int, steps: int, members: int) -> dict[str, np.ndarray]:
    """Arrays of one number of neighbours."""
    known = seen.resolved
    centre, scale = _spread(seen.features[known])
    z = squash(seen.features, centre, scale)
    gaps = scale_gap(seen.features, order)
    gap = learn_median(z[known, :3], gaps[known])
    out = left_out(seen, gaps - run_layers(gap, z[:, :3])[:, 0], steps)
    rc, rs = _spread(out["inputs"][known])
    u = squash(out["inputs"], rc, rs)
    fold = fold_of(seen.family, _FOLDS, 1)
    moved = np.empty_like(out["first"])
    for f in range(_FOLDS):
        taught, asked = (fold != f) & known, fold == f
        layers = learn_residuals(u[taught], out["first"][taught], seen.target[taught], _RESIDUAL_STEPS, f)
        moved[asked] = _moved(layers, u[asked], out["first"][asked], np.ones(len(LEVELS)))
    widen = factors(moved[known], seen.target[known], seen.family[known], worst=0.95)
    residual = learn_residuals(u[known], out["first"][known], seen.target[known], _RESIDUAL_STEPS, 99)
    networks = learn_quantiles(z[known], seen.target[known], members, steps, 100)
    axes = principal_axes(z[known])
    thin = np.random.default_rng(100).choice(np.flatnonzero(known), min(_WORLD, known.sum()), replace=False)
    found = {
        "centre": centre,
        "scale": scale,
        "residual_centre": rc,
        "residual_scale": rs,
        "widen": widen,
        "axes": axes,
        "world": z[thin] @ axes,
        "far": far_from(out["near"][known], seen.features[known, 2]),
    }
    for name, layers in (("networks", networks), ("gap", gap), ("residual", residual)):
        for i, (weights, bias) in enumerate(layers):
            found |= {f"{name}_weights{i}": weights, f"{name}_bias{i}": bias}
    ends = moved[:, _MIDDLE, None] + (moved - moved[:, _MIDDLE, None]) * widen
    odd_gap = gaps - run_layers(gap, z[:, :3])[:, 0]
    far = np.log(out["near"]) > np.polyval(found["far"], seen.features[:, 2])
    return found | {"report": report(seen, ends, odd_gap, far)}


def report(seen: Observed, ends: np.ndarray, odd_gap: np.ndarray, far: np.ndarray) -> np.ndarray:
    """A row for each family left out (in the order of their names), columns :data:`~lodim.dimension.calibrated.REPORT`.

    Of resolved sets of 300 to 5,000 points.
    """
    at_95 = LEVELS.index(0.025)
    low, middle, high = ends[:, at_95], ends[:, _MIDDLE], ends[:, -1 - at_95]
    covered = (seen.target >= low) & (seen.target <= high)
    error = np.abs(np.exp(middle - seen.target) - 1)
    end = middle + odd_gap
    flagged = far | ((np.abs(odd_gap) > CHANGE) & ((end < low) | (end > high)))
    n = np.exp(seen.features[:, 1])
    rows = []
    for name in sorted(FAMILIES):
        these = seen.resolved & (seen.family == name) & (n > 299.5) & (n < 5000.5)
        plain = these & ~flagged
        rows.append(
            [
                these.sum(),
                np.median(error[these]),
                error[these].mean(),
                covered[these].mean(),
                flagged[these].mean(),
                covered[plain].mean(),
                np.exp((high - low)[plain].mean()),
            ]
        )
    return np.array(rows)


def check_features() -> dict[str, np.ndarray]:
    """Features of a few small sets, by which the arrays can be told to come from this simulation."""
    seen = [features(found.dist, found.n, ORDERS[-1]) for found in map(simulate, _CHECKED)]
    values = np.array([s.values for s in seen if s is not None], dtype=np.float32)
    return {"check_sets": np.array(_CHECKED), "check_features": values}


def learn(folder: Path, path: Path = ARRAYS, steps: int = _STEPS, members: int = _MEMBERS) -> None:
    """Learn everything from the observations in ``folder`` and write the arrays, weights in half precision."""
    found: dict[str, np.ndarray] = {}
    for order in ORDERS:
        machine = learn_machine(observed(folder, order), order, steps, members)
        found |= {f"{order}_{name}": values for name, values in machine.items()}
    for method in GRAPH_METHODS:
        found |= learn_row(folder, method, min(steps, _ROW_STEPS))
    shipped: dict[str, np.ndarray] = {
        name: np.asarray(values).astype(np.float16 if "weights" in name or "world" in name else np.float32)
        for name, values in found.items()
    }
    shipped |= check_features()
    with open_whole(path) as file:
        np.savez_compressed(file, **shipped)  # type: ignore[arg-type]


if __name__ == "__main__":
    make_observations(Path(sys.argv[1]))
    learn(Path(sys.argv[1]))
