"""Multiparameter persistence against multipers: measures, gradients, candidates, images; and transport distances.

Peers get the same complexes and give equal results, which is asserted before anything is timed. One thread, all
variants interleaved; the ratio that counts is that of the minima. Run
``python benchmarks/multiparameter_persistence.py`` (extra ``topology``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _harness import Target, compare, publish

from lodim.geometry.differentiable_persistence import SignedMeasureLayer, sm_distance
from lodim.geometry.multiparameter_persistence import (
    FilteredComplex,
    FunctionRips,
    Intervals,
    MMADecomposition,
    SignedMeasure,
    collapse_edges,
    combine,
    hilbert_signed_measure,
    interval_images,
)


def cloud(n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    angle, inliers = rng.uniform(0, 2 * np.pi, n), rng.random(n) < 0.8
    circle = np.c_[np.cos(angle), np.sin(angle)] + 0.05 * rng.normal(size=(n, 2))
    return torch.from_numpy(np.where(inliers[:, None], circle, rng.uniform(-1.5, 1.5, (n, 2))))


def tree_of(fc: FilteredComplex, values: np.ndarray) -> Any:
    import multipers

    tree, start = multipers.SimplexTreeMulti(num_parameters=2), 0
    for block in fc.cells:
        tree.insert_batch(
            np.ascontiguousarray(block.T), np.ascontiguousarray(values[start : start + len(block)])
        )
        start += len(block)
    return tree


def by_multipers(fc: FilteredComplex, degree: int) -> tuple[np.ndarray, np.ndarray]:
    import multipers

    full = fc.expand()
    tree = tree_of(full, full.filtration.detach().numpy())
    ((points, weights),) = multipers.signed_measure(tree, degree=degree, invariant="hilbert", n_jobs=1)
    return points, weights


def differentiable_multipers(x: torch.Tensor, degree: int) -> torch.Tensor:
    """A functional of the measure through multipers' own lookup in a grid of tensors."""
    import multipers

    full = FunctionRips(bandwidth=0.3)(x).expand()
    if degree == 0:
        n = full.n_vertices + len(full.cells[1])
        full = FilteredComplex(full.cells[:2], full.filtration[:n], 0, True)
    columns = [
        (column, np.unique(column.detach().numpy(), return_index=True)[1]) for column in full.filtration.T
    ]
    grid = [column[torch.from_numpy(first)] for column, first in columns]
    tree = tree_of(full, full.filtration.detach().numpy()).grid_squeeze([g.detach().numpy() for g in grid])
    ((points, weights),) = multipers.signed_measure(
        tree, degree=degree, invariant="hilbert", grid=grid, n_jobs=1
    )
    return points.sin().sum(1) @ torch.as_tensor(weights).to(points)


def gradient(value_of: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    value_of(x).backward()
    return x.grad


def differentiable_lodim(degree: int) -> Callable[[torch.Tensor], torch.Tensor]:
    layer, rips = SignedMeasureLayer("hilbert", degree), FunctionRips(bandwidth=0.3)

    def value(x: torch.Tensor) -> torch.Tensor:
        layer._last = None  # no order is seen twice in training
        measure = layer(rips(x))
        return measure.points.sin().sum(1) @ measure.weights

    return value


def measures(rounds: int) -> list[Any]:
    rows = []
    for n, degree, threshold in ((64, 0, None), (60, 1, 1.2), (40, 1, None)):
        fc = FunctionRips(bandwidth=0.3, threshold=threshold)(cloud(n))
        points, weights = by_multipers(fc, degree)
        ours = hilbert_signed_measure(fc, degree)
        order = [np.lexsort(np.asarray(p).T) for p in (points, ours.points)]
        np.testing.assert_allclose(points[order[0]], ours.points.numpy()[order[1]])
        np.testing.assert_array_equal(weights[order[0]], ours.weights.numpy()[order[1]])
        rows += compare(
            {
                "multipers": lambda fc=fc, k=degree: by_multipers(fc, k),
                "lodim": lambda fc=fc, k=degree: hilbert_signed_measure(fc, k),
            },
            reference="multipers", targets={"lodim": Target(1.0)}, rounds=rounds,
            group=f"Hilbert measure, degree {degree}, {n} points, threshold {threshold}",
        )  # fmt: skip
    return rows


def gradients(rounds: int) -> list[Any]:
    rows = []
    for n, degree in ((64, 0), (60, 1)):
        x = cloud(n)
        cases = {"lodim": lambda x=x, k=degree: gradient(differentiable_lodim(k), x)}
        if degree == 0:
            cases["multipers, grid of tensors"] = lambda x=x, k=degree: gradient(
                lambda p: differentiable_multipers(p, k), x
            )
            torch.testing.assert_close(*(case() for case in cases.values()))
        reference = list(cases)[-1]
        targets = {"lodim": Target(1.0)} if len(cases) > 1 else None
        group = f"forward and backward, degree {degree}, {n} points, no threshold"
        rows += compare(cases, reference=reference, targets=targets, rounds=rounds, group=group)
    return rows


def candidates(rounds: int) -> list[Any]:
    import multipers

    fc = FunctionRips(bandwidth=0.3, threshold=1.2)(cloud(60))
    full = fc.expand()
    module = multipers.module_approximation(tree_of(full, full.filtration.numpy()), max_error=0.02, n_jobs=1)
    box = np.array([[0.0, 0.0], [1.2, float(full.filtration[:, 1].max())]])
    module.set_box(box)
    part = module.get_module_of_degree(0)
    part.set_box(box)
    intervals = Intervals.from_lists(
        [np.stack(part[i].get_birth_list()) for i in range(len(part))],
        [np.stack(part[i].get_death_list()) for i in range(len(part))],
    )
    axes = tuple(torch.linspace(*ends, 50, dtype=torch.float64) for ends in box.T)
    weights = intervals.rescale(*box, to_unit=False).weights()

    def ours() -> np.ndarray:
        return combine(interval_images(intervals, axes, "gaussian", 0.1), weights, "sum", 2.0).numpy()

    def theirs() -> np.ndarray:
        return module.representation(
            degrees=[0], bandwidth=0.1, resolution=50, kernel="gaussian", box=box, p=2.0
        )[0].T

    np.testing.assert_allclose(ours(), theirs(), rtol=1e-6, atol=1e-9)
    rows = compare({"multipers": theirs, "lodim": ours}, reference="multipers", targets={"lodim": Target(1 / 3)},
                   group=f"Gaussian image of {len(intervals)} intervals, 50 x 50 pixels", rounds=rounds)  # fmt: skip
    rows += compare(
        {
            "multipers": lambda: multipers.module_approximation(
                tree_of(full, full.filtration.numpy()), max_error=0.02, n_jobs=1
            ),
            "lodim: collapse, then multipers": lambda: MMADecomposition(0.01).fit_transform([fc]),
            "of which collapsing": lambda: collapse_edges(fc),
        },
        reference="multipers", rounds=max(3, rounds // 5), warmup=1,
        group=f"candidate intervals, 60 points, threshold 1.2 ({full.n_cells:,} cells)",
    )  # fmt: skip
    return rows


def distances(rounds: int) -> list[Any]:
    rng = np.random.default_rng(0)
    pair = [
        SignedMeasure(
            torch.from_numpy(rng.normal(size=(500, 2))).requires_grad_(),
            torch.tensor([1.0, -1.0]).repeat(250).double(),
        )
        for _ in range(2)
    ]
    cases = {
        method: lambda m=method: torch.autograd.grad(sm_distance(*pair, method=m), pair[0].points)
        for method in ("exact", "sliced")
    }
    return compare(cases, reference="exact", targets={"sliced": Target(1.0)}, rounds=max(5, rounds // 2), warmup=1,
                   group="transport distance of two measures of 500 points, with gradient")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for part in (measures, gradients, candidates, distances) for row in part(options.rounds)]
    if not options.dry:
        publish("multiparameter_persistence", rows, seed=0, packages=("torch", "gudhi", "multipers", "pot"))


if __name__ == "__main__":
    main()
