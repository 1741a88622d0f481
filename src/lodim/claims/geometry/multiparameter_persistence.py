"""Two filtrations see shapes through outliers that confuse one.

Digits 0, 1 and 8 of MNIST as clouds of 40 pixels, 200 of each, with 12 uniform outliers: accuracy of a support-vector
machine on S-CDR images of the two-parameter module (distance and codensity, multipers' candidates) against
one-parameter persistence images of the same clouds. All choices (bandwidth, delta, power of the weights, C) are made
by three-fold validation inside each of five outer folds, from as many candidates for both. Boxes of the images come
from all clouds, without labels. The same again for a circle, two circles and a disc of 30 points with 20 outliers.

Source: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, section 5 (there on time series and cells under the
microscope; outliers are why multiparameter persistence exists). Section 4's bound: points that move by t move
distances and distances to a measure by 2 t at most, and images for p infinite by 2 t / delta, in units of
the box; twice that is allowed for the candidates' own precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.geometry.multiparameter_persistence import (
    CandidateRepresentation,
    MultiparameterPersistence,
    PersistenceImage,
    perturbation_stability,
)
from lodim.randomness import derive_seed

CLASSES = (0, 1, 8)
RESOLUTION = 12
STABILITY_DELTA = 0.2
BANDWIDTHS, DELTAS, POWERS = (0.05, 0.1), (0.1, 0.2), (0.0, 1.0)


def digit_clouds(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """``n`` clouds of each digit in the unit square, 40 inked pixels each, jittered within the pixel."""
    data, rng = load("mnist", split="train"), np.random.default_rng(derive_seed(seed, "clouds"))
    assert data.y is not None
    clouds, labels = [], []
    for c in CLASSES:
        for row in rng.choice(np.flatnonzero(data.y == c), n, replace=False):
            ink = data.X[row] * (data.X[row] > 0.4 * data.X[row].max())
            pixel = rng.choice(784, 40, p=ink / ink.sum(), replace=(ink > 0).sum() < 40)  # a thin 1 has fewer
            clouds.append((np.c_[pixel % 28, 27 - pixel // 28] + rng.random((40, 2))) / 28)
            labels.append(c)
    return clouds, np.array(labels)


def shape_clouds(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """``n`` circles, pairs of circles and discs of 30 points in the unit square."""
    rng, clouds = np.random.default_rng(derive_seed(seed, "shapes")), []
    for kind, _ in product(range(3), range(n)):
        angle, second = rng.uniform(0, 2 * np.pi, 30), rng.random(30) < 0.5
        radius = (0.35, 0.2, 0.35 * np.sqrt(rng.random(30)))[kind]
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * np.reshape(radius, (-1, 1))
        if kind == 1:
            ring += np.where(second, 0.25, -0.25)[:, None] * [1, 0]
        clouds.append(0.5 + ring + 0.02 * rng.normal(size=(30, 2)))
    return clouds, np.repeat(np.arange(3), n)


def add_outliers(clouds: list[np.ndarray], n: int, seed: int) -> list[np.ndarray]:
    """The clouds with ``n`` uniform points of the unit square each."""
    rng = np.random.default_rng(derive_seed(seed, "outliers", n))
    return [np.concatenate([cloud, rng.random((n, 2))]) for cloud in clouds]


def two_parameter_features(clouds: list[np.ndarray]) -> np.ndarray:
    """Images for all eight choices, shape (n, 8, n_features)."""
    rows = []
    for bandwidth in BANDWIDTHS:
        found = MultiparameterPersistence(bandwidth=bandwidth, threshold=0.6).decompose(clouds)
        for delta, power in product(DELTAS, POWERS):
            model = CandidateRepresentation(delta=delta, weight_power=power, resolution=RESOLUTION)
            rows.append(model.fit_transform(found).reshape(len(clouds), -1))
    return np.stack(rows, 1)


def one_parameter_features(clouds: list[np.ndarray]) -> np.ndarray:
    """Persistence images for as many choices."""
    choices = product((0.05, 0.1, 0.15, 0.2), (1.0, 2.0))
    images = [PersistenceImage((0, 1), RESOLUTION, h, power).fit_transform(clouds) for h, power in choices]
    return np.stack(images, 1)


def _column(rows: np.ndarray, which: int = 0, width: int = 1) -> np.ndarray:
    return rows[:, which * width : (which + 1) * width]


def predictions(
    features: Float[np.ndarray, "n n_choices n_features"], y: Int[np.ndarray, " n"], seed: int
) -> np.ndarray:
    """Out-of-fold predictions, every choice made inside the folds."""
    _, n_choices, width = features.shape
    chosen = FunctionTransformer(_column, kw_args={"which": 0, "width": width})
    grid = {
        "functiontransformer__kw_args": [{"which": i, "width": width} for i in range(n_choices)],
        "svc__C": [1.0, 10.0],
    }
    folds = [StratifiedKFold(k, shuffle=True, random_state=derive_seed(seed, "folds", k)) for k in (3, 5)]
    search = GridSearchCV(make_pipeline(chosen, StandardScaler(), SVC()), grid, cv=folds[0])
    return cross_val_predict(search, features.reshape(len(y), -1), y, cv=folds[1])


def _compare(clouds: list[np.ndarray], outliers: int, y: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracies on noisy and clean clouds, the gain, and its one-sided p-value (sign test on differing clouds)."""
    noisy = add_outliers(clouds, outliers, seed)
    right: dict[str, Any] = {}
    cases: tuple[tuple[str, Callable[..., np.ndarray], list[np.ndarray]], ...] = (
        ("two parameters", two_parameter_features, noisy),
        ("one parameter", one_parameter_features, noisy),
        ("one parameter, no outliers", one_parameter_features, clouds),
    )
    for name, features, data in cases:
        right[name] = predictions(features(data), y, seed) == y
    better = int((right["two parameters"] & ~right["one parameter"]).sum())
    worse = int((right["one parameter"] & ~right["two parameters"]).sum())
    p_value = binomtest(better, better + worse, alternative="greater").pvalue if better + worse else 1.0
    accuracy = {name: 100 * float(np.mean(hits)) for name, hits in right.items()}
    gain = accuracy["two parameters"] - accuracy["one parameter"]
    return {**accuracy, "gain": gain, "p_value": float(p_value)}


def stability_slope(clouds: list[np.ndarray], power: float, seed: int) -> float:
    """Largest change of an image over t, when points move by at most t in units of the box's shorter side."""
    model = MultiparameterPersistence(
        density="dtm", delta=STABILITY_DELTA, weight_power=power, resolution=RESOLUTION
    ).fit(clouds)
    box = model.representation_.boxes_
    moves = derive_seed(seed, "moves")
    frame = perturbation_stability(model, clouds, (0.001, 0.003, 0.01, 0.03), random_state=moves)
    return float(frame["ratio"].max() * (box[:, 1] - box[:, 0]).min())


def run(seed: int, progress: Progress, n: int = 200) -> Findings:
    """Compare on ``n`` clouds of each digit and on shapes, and measure stability."""
    digits, y = digit_clouds(n, seed)
    on_digits = _compare(digits, 12, y, seed)
    progress(0.55, "shapes")
    shapes, kinds = shape_clouds(n // 3, seed)
    on_shapes = _compare(shapes, 20, kinds, seed)
    progress(0.95, "stability")
    few = [digits[i] for i in range(0, len(digits), max(1, len(digits) // 12))]
    slopes = {str(power): stability_slope(few, power, seed) for power in (0.0, 1.0, np.inf)}
    checks = (
        check_between("gain in accuracy on noisy digits, points", on_digits["gain"], 3.0, np.inf),
        check_that("one-sided p-value of that gain", on_digits["p_value"], "below 0.05", on_digits["p_value"] < 0.05),
        check_between("gain in accuracy on noisy shapes, points", on_shapes["gain"], 3.0, np.inf),
        check_that("one-sided p-value of that gain", on_shapes["p_value"], "below 0.05", on_shapes["p_value"] < 0.05),
        check_between("largest change of an image (p infinite) over size of the points' move, in units of the box",
                      slopes["inf"], 0.0, 4 / STABILITY_DELTA, essential=False),
    )  # fmt: skip
    figures = {"digits": on_digits, "shapes": on_shapes, "slope by power of the weights": slopes}
    notes = (
        "Accuracies in percent, five folds, choices made inside them.",
        "For p = 0 the theorem wants as many intervals before and after: a short one that comes or goes moves the "
        "mean.",
        "The sign test treats clouds as independent, although folds share training clouds.",
    )
    return Findings(checks, figures, notes)


CLAIM = Claim(
    name="multiparameter-persistence/representations",
    formerly=("persistence/representations",),
    arxiv="2306.11170",
    statement="With outliers, images of two-parameter persistence classify shapes better than one-parameter images.",
    laptop=run,
    full=partial(run, n=1000),
    needs=("mnist", "topology"),
    minutes=3.0,
)
