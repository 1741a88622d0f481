"""Eighty steps of low-rank projected gradient against eighty randomised SVDs; solvers, and what else makes r atoms.

One thread, 1,000 digits of MNIST (4 and 9, 784 pixels), five atoms, xi = 0.01. A step holds a projection on rank five;
the reference is what the projections alone would cost by scikit-learn's ``randomized_svd``. The feature model settles
in fewer steps. Run ``python benchmarks/supervised_dictionary.py``.
"""

from __future__ import annotations

import warnings

from _harness import Target, compare, publish
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from lodim.claims.partition.supervised_dictionary.digits import fours_and_nines
from lodim.partition import SupervisedDictionary

STEPS, R = 80, 5


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y, X_test, y_test = fours_and_nines(0)

    def ours(**options: object) -> SupervisedDictionary:
        return SupervisedDictionary(R, xi=0.01, random_state=0, **options).fit(X, y)

    def by_codes(transformer: object) -> LogisticRegression:
        return LogisticRegression(C=0.5).fit(transformer.fit_transform(X), y)  # type: ignore[attr-defined]

    steps = {"max_iter": STEPS, "tol": 0.0}
    cases = {
        "eighty randomised SVDs": lambda: [randomized_svd(X, R, random_state=0) for _ in range(STEPS)],
        "lodim, 80 steps": lambda: ours(**steps),
        "lodim, feature model, 80 steps": lambda: ours(model="feature", alpha=0.01, **steps),
        "lodim, to convergence": ours,
        "lodim, block coordinate descent": lambda: ours(solver="bcd"),
        "lodim, non-negative": lambda: ours(solver="bcd", nonneg=(True, True)),
        "PCA and logistic regression": lambda: by_codes(PCA(R, random_state=0)),
        "NMF and logistic regression": lambda: by_codes(NMF(R, init="nndsvda", max_iter=500)),
        "sparse dictionary and logistic regression": lambda: by_codes(MiniBatchDictionaryLearning(R, random_state=0)),
    }  # fmt: skip
    goal = {"lodim, 80 steps": Target(3.0), "lodim, feature model, 80 steps": Target(3.0)}
    group = f"{X.shape[0]} x {X.shape[1]}, r = {R}"
    rows = compare(cases, reference="eighty randomised SVDs", targets=goal, group=group, rounds=3, warmup=1)
    note = f"Accuracy on {len(X_test)} test images: {ours(**steps).score(X_test, y_test):.3f} after 80 steps."
    publish("supervised_dictionary", rows, packages=("numpy", "scipy", "scikit-learn"), notes=[note])
    print(note)


if __name__ == "__main__":
    main()
