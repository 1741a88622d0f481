"""Two atoms that know the labels tell 4 from 9, which two principal components do not, and rebuild nearly as well.

MNIST, 1,000 training and 1,900 test images drawn for each of three splits, pixels in [0, 1], every label model at
alpha = 1 (C = 1/2). The errors are of test images, the share of the squared norm that is not rebuilt. Beside supervised
dictionaries (filter model): logistic regression on the pixels, and on the codes of PCA, of NMF and of a sparse
dictionary with as many atoms. Non-negative atoms and codes, the paper's setting for topics, are held against NMF.

Source: Lee, Lyu and Yao 2022, arXiv 2206.06774. The paper's sets are job postings and X-ray images; digits are ours. A
throw-away prototype (80 plain steps, one split) gave, for r = 2, 5, 10: PCA 0.645, 0.819, 0.927, NMF 0.578, 0.699,
0.843, supervised at xi = 0.01 0.934, 0.937, 0.938, with errors 0.396, 0.314, 0.233 (PCA) and 0.460, 0.323, 0.236; at
xi = 1 and r = 2 0.565. The ranges are from there, set before this experiment was run.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.partition import SupervisedDictionary
from lodim.randomness import derive_seed

N_TRAIN, N_TEST, N_SPLITS = 1000, 1900, 3
SUPERVISED: dict[str, dict[str, Any]] = {
    "supervised, xi = 0.01": {"xi": 0.01},
    "supervised, xi = 0.1": {"xi": 0.1},
    "supervised, xi = 1": {"xi": 1.0},
    "supervised, xi = 0.01, non-negative": {"xi": 0.01, "solver": "bcd", "nonneg": (True, True)},
}
regression = partial(LogisticRegression, C=0.5, max_iter=5000)
PEERS = {
    "PCA": lambda r, seed: PCA(r, random_state=seed),
    "NMF": lambda r, seed: NMF(r, init="nndsvda", max_iter=500, random_state=seed),
    "sparse dictionary": lambda r, seed: MiniBatchDictionaryLearning(r, random_state=seed),
}


def fours_and_nines(seed: int) -> list[np.ndarray]:
    """Training images and labels, test images and labels."""
    parts = []
    for split, count in (("train", N_TRAIN), ("test", N_TEST)):
        digits = load("mnist", split=split)
        labels = np.asarray(digits.y)
        rows = np.flatnonzero(np.isin(labels, [4, 9]))
        rows = np.random.default_rng(derive_seed(seed, split)).permutation(rows)[:count]
        parts += [digits.X[rows].reshape(len(rows), -1).astype(float), labels[rows]]
    return parts


def unexplained(X: np.ndarray, rebuilt: np.ndarray) -> float:
    """Share of the squared norm that is not rebuilt."""
    return float(((X - rebuilt) ** 2).sum() / (X**2).sum())


def run(seed: int, progress: Progress) -> Findings:
    """Fit everything on every split."""
    accuracy: dict[str, list[float]] = {}
    error: dict[str, list[float]] = {}
    rises = []

    def note(name: str, score: float, rest: float | None = None) -> None:
        accuracy.setdefault(name, []).append(float(score))
        if rest is not None:
            error.setdefault(name, []).append(rest)

    for split in progress.over(range(N_SPLITS)):
        X, y, X_test, y_test = fours_and_nines(derive_seed(seed, split))
        note("logistic regression", regression().fit(X, y).score(X_test, y_test))
        for r in (2, 5, 10):
            for name, make in PEERS.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    peer = make(r, derive_seed(seed, split, r) % 2**31).fit(X)
                codes = peer.transform(X_test)
                model = regression().fit(peer.transform(X), y)
                rebuilt = codes @ peer.components_ + getattr(peer, "mean_", 0.0)
                note(f"{name}, r = {r}", model.score(codes, y_test), unexplained(X_test, rebuilt))
            for name, options in SUPERVISED.items():
                ours = SupervisedDictionary(r, random_state=seed, **options).fit(X, y)
                rises.append(float(np.diff(ours.objective_).max()))
                rest = unexplained(X_test, ours.reconstruct(X_test))
                note(f"{name}, r = {r}", ours.score(X_test, y_test), rest)
    mean = {name: float(np.mean(values)) for name, values in accuracy.items()}
    lost = {name: float(np.mean(values)) for name, values in error.items()}
    gain = {r: mean[f"supervised, xi = 0.01, r = {r}"] - mean[f"PCA, r = {r}"] for r in (2, 5, 10)}
    nonneg = mean["supervised, xi = 0.01, non-negative, r = 5"] - mean["NMF, r = 5"]
    more = lost["supervised, xi = 0.01, r = 2"] - lost["PCA, r = 2"]
    checks = (
        check_between("r = 2: accuracy at xi = 0.01", mean["supervised, xi = 0.01, r = 2"], 0.91, 1),
        check_between("r = 2: accuracy gained over PCA and logistic regression", gain[2], 0.2, 0.5),
        check_between("r = 2: reconstruction error above that of PCA", more, 0, 0.08),
        check_that("objective never rises", max(rises), "at most 0", max(rises) <= 0),
        check_between("gain at r = 10 over that at r = 2", gain[10] / gain[2], -0.1, 0.25),
        check_between("r = 5, non-negative: accuracy gained over NMF", nonneg, 0.1, 0.4),
        check_between("r = 2: accuracy at xi = 1", mean["supervised, xi = 1, r = 2"], 0.5, 0.7, essential=False),
        check_between("r = 5: accuracy at xi = 0.1", mean["supervised, xi = 0.1, r = 5"], 0.89, 0.96, essential=False),
        check_between("r = 5: accuracy of PCA", mean["PCA, r = 5"], 0.77, 0.87, essential=False),
    )  # fmt: skip
    figures = {"accuracy": accuracy, "reconstruction error": error}
    return Findings(checks, figures, NOTES)


NOTES = (
    "Logistic regression on the pixels has no atoms to show; where only the label matters it is the one to take.",
    "The prototype took 80 plain steps; extrapolated steps to convergence go further down the same objective.",
)

CLAIM = Claim(
    name="supervised-dictionary/digits",
    arxiv="2206.06774",
    statement=(
        "Two supervised atoms tell 4 from 9 with accuracy 0.91 or more, 0.2 above two principal components, and leave "
        "at most 0.08 more of the squared norm unexplained; with ten atoms most of the advantage is gone."
    ),
    laptop=run,
    needs=("mnist",),
    minutes=1.5,
)
