"""Permutation importance beside scikit-learn's: the same fitted model, rows and number of permutations.

Digits, 597 held-out rows of 64 columns, five permutations a column. scikit-learn asks the model once for each; ours
asks about many copies of the table at once, and tests every column against noise besides. One thread. Run
``python benchmarks/black_box_surrogates.py``.
"""

from __future__ import annotations

import torch
from _harness import Target, compare, publish
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.neural_network import MLPClassifier

from lodim.trust import feature_importance


def main() -> None:
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = X / 16
    models = (
        RandomForestClassifier(100, random_state=0),
        MLPClassifier((64,), max_iter=100, early_stopping=True, random_state=0),
    )
    rows = []
    for model in models:
        model.fit(X[:1200], y[:1200])
        cases = {
            "scikit-learn": lambda m=model: permutation_importance(
                m, X[1200:], y[1200:], n_repeats=5, random_state=0
            ),
            "feature_importance": lambda m=model: feature_importance(m, X[1200:], y[1200:], random_state=0),
        }
        rows += compare(
            cases,
            reference="scikit-learn",
            targets={"feature_importance": Target(1.2)},
            group=type(model).__name__,
            rounds=3,
            warmup=1,
        )
    publish("black_box_surrogates", rows, packages=("numpy", "scikit-learn", "torch"))


if __name__ == "__main__":
    main()
