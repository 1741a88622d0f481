"""A sweep over subspace dimensions: 24 runs trained as one batch against the same runs one after the other.

    python benchmarks/objective_landscapes.py [--rounds 7]

Eight dimensions times three seeds, the cyclic projection, Adam with the one-cycle schedule. First the small digits on
64-64-64-10 (D = 8,970, the whole 30 epochs), then, with MNIST at hand (the folder that LODIM_DATA names), 2,000 of
its images on 784-200-200-10 (D = 199,210, two epochs). Both ways give the same scores, which is checked.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from _harness import Row, Target, compare, publish
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from lodim.datasets import load
from lodim.landscape import SubspaceModule
from lodim.nets import fc, flat_spec
from lodim.randomness import build_seeded
from lodim.sketch import make_projection
from lodim.training import FitResult, Recipe, Replica, Task, fit, fit_replicas

SEEDS = (0, 1, 2)
Make = Callable[[], torch.nn.Module]


def one_after_the_other(
    make: Make, task: Task, recipe: Recipe, dims: tuple[int, ...], lr: float
) -> list[FitResult]:
    return [
        fit(SubspaceModule(build_seeded(make, seed), d, seed=seed), task, recipe, lr=lr, random_state=seed)
        for d in dims
        for seed in SEEDS
    ]


def as_one(make: Make, task: Task, recipe: Recipe, dims: tuple[int, ...], lr: float) -> list[FitResult]:
    model = make()
    spec = flat_spec(model)
    origins = [spec.flatten(build_seeded(make, seed)) for seed in SEEDS]
    replicas = [
        Replica(theta0, make_projection("cyclic", spec.numel, d, seed=seed), torch.zeros(d), lr, seed)
        for d in dims
        for seed, theta0 in zip(SEEDS, origins, strict=True)
    ]
    return [result for result, _ in fit_replicas(model, spec, replicas, task, recipe)]


def directly(make: Make, task: Task, recipe: Recipe, runs: int) -> None:
    for seed in range(runs):
        fit(build_seeded(make, seed), task, recipe, lr=1e-3, random_state=seed)


def measure(
    name: str, make: Make, task: Task, recipe: Recipe, dims: tuple[int, ...], ratio: float, rounds: int
) -> tuple[list[Row], float]:
    """Rows of one problem, and the largest difference between the two ways' scores."""
    found: dict[str, list[FitResult]] = {}
    arguments = (make, task, recipe, dims, 0.1)
    cases = {
        "one after the other": lambda: found.update(alone=one_after_the_other(*arguments)),
        "as one batch": lambda: found.update(batch=as_one(*arguments)),
        "24 direct trainings": lambda: directly(make, task, recipe, len(dims) * len(SEEDS)),
    }
    rows = compare(
        cases,
        reference="one after the other",
        targets={"as one batch": Target(ratio)},
        group=name,
        rounds=rounds,
        warmup=1,
    )
    gap = max(abs(a.score - b.score) for a, b in zip(found["alone"], found["batch"], strict=True))
    print(f"largest difference between the scores of the two ways: {gap:.4f}")
    return rows, gap


def digits() -> Task:
    X, y = load_digits(return_X_y=True)
    X = (X - X.mean(axis=0)) / 8
    X, X_val, y, y_val = train_test_split(X, y, test_size=0.2, random_state=0, stratify=y)
    return Task.from_arrays(X, y, X_val, y_val)


def mnist() -> Task:
    train, test = load("mnist", split="train"), load("mnist", split="test")
    X, X_val = np.asarray(train.X[:2000]) / 255, np.asarray(test.X[:1000]) / 255
    mean, scale = X.mean(axis=0), X.std()
    return Task.from_arrays((X - mean) / scale, train.y[:2000], (X_val - mean) / scale, test.y[:1000])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    small = (10, 20, 50, 100, 150, 200, 300, 500)
    rows, gap = measure(
        "digits, 64-64-64-10, 24 runs", lambda: fc(64, 10, width=64), digits(), Recipe(), small, 0.25, rounds
    )
    gaps = {"digits": gap}
    try:
        task = mnist()
    except OSError:
        print("MNIST is not here; the large network was left out")
    else:
        large = (100, 200, 400, 600, 750, 1000, 1500, 2000)
        more, gaps["mnist"] = measure(
            "MNIST, 784-200-200-10, 24 runs", lambda: fc(784, 10), task, Recipe(epochs=2), large, 1.0, rounds
        )
        rows += more
    notes = ["one thread", "a batch of models gives every run's own result up to float32 rounding"]
    publish(
        "objective_landscapes",
        rows,
        packages=("torch",),
        notes=notes,
        extra={"largest_score_difference": gaps},
    )


if __name__ == "__main__":
    main()
