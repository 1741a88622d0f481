"""Free features and linear layers, minimised by descent: is what comes out the closed form?

L-BFGS in double precision from noise. Expected figures follow from the closed form, which an independent prototype had
reached by descent to these digits: squared lengths .1394 and 6.9711 (one layer), .0530 and 18.6528 (three), singular
values 7.69895, 5.42439 and 3.09860 of the logits of unequal classes and decay. The tolerances are those of its
convergence: 1e-4 where classes are balanced, 1e-3 and 1e-2 for one and three layers where they are not.

With cross-entropy and more than one layer the paper has the simplex as the global minimum. Low rank can be cheaper
(the module says why), so the simplex is asked to be a local minimum, reached from its own neighbourhood, and whether
noise leads lower is a check of its own, expected to be so at three layers: a square in the plane has a loss of .0217,
the simplex .0235.

Source: Dang and others 2023, arXiv 2301.00437.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.randomness import derive_seed
from lodim.representation import DeepLinearUFM
from lodim.validation import ConvergenceWarning

DECAY, D = 5e-4, 12
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "balanced, one layer": ({"n_per_class": [50] * 4, "dims": [D], "lam_w": DECAY, "lam_h": DECAY}, 1e-4),
    "balanced, three layers": ({"n_per_class": [50] * 4, "dims": [D] * 3, "lam_w": DECAY, "lam_h": DECAY}, 1e-4),
    "unequal, one layer": ({"n_per_class": [100, 50, 25, 10], "dims": [D], "lam_w": 1e-3, "lam_h": 1e-5}, 1e-3),
    "unequal, three layers": ({"n_per_class": [100, 50, 25, 10], "dims": [D] * 3, "lam_w": 5e-4, "lam_h": 1e-5}, 1e-2),
    "unequal decay, two layers": (
        {"n_per_class": [60, 30, 10], "dims": [D] * 2, "lam_w": [1e-3, 4e-3], "lam_h": 2e-4}, 1e-3,
    ),
    "balanced, bias": ({"n_per_class": [50] * 4, "dims": [D] * 2, "lam_w": DECAY, "lam_h": DECAY, "bias": True}, 1e-4),
    "unequal, bias": (
        {"n_per_class": [100, 50, 25, 10], "dims": [D] * 2, "lam_w": 1e-3, "lam_h": 1e-4, "bias": True}, 1e-3,
    ),
    "cross-entropy, one layer": (
        {"n_per_class": [50] * 4, "dims": [D], "lam_w": DECAY, "lam_h": DECAY, "loss": "ce"}, 1e-4,
    ),
    "cross-entropy, three layers, from its neighbourhood": (
        {"n_per_class": [50] * 4, "dims": [D] * 3, "lam_w": DECAY, "lam_h": DECAY, "loss": "ce", "scale": 1e-3,
         "init": "minimizer_perturbed"}, 1e-4,
    ),
    "minority collapse": ({"n_per_class": [200, 100, 50, 1], "dims": [D] * 2, "lam_w": 2e-3, "lam_h": 1e-3}, 1e-3),
}  # fmt: skip


def descent(seed: int, name: str, settings: dict[str, Any]) -> DeepLinearUFM:
    """One descent; where it does not come to rest, the comparison says how far it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="a polygon")  # it is the subject of a check
        return DeepLinearUFM(**settings, random_state=derive_seed(seed, name)).fit()


def laptop(seed: int, progress: Progress) -> Findings:
    """Descend in every setting."""
    checks, figures = [], {}
    found: dict[str, DeepLinearUFM] = {}
    for i, (name, (settings, tolerance)) in enumerate(CASES.items()):
        progress(0.9 * i / len(CASES), name)
        ufm = found[name] = descent(seed, name, settings)
        target: Any = ufm.target
        means = np.stack(
            [ufm.features_[:, ufm.labels == k].mean(1) for k in range(len(ufm.n_per_class))], axis=1
        )
        pairs = (ufm.product_ @ ufm.product_.T, target.classifier_gram), (means.T @ means, target.mean_gram)
        errors = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]
        worst = max(m.nc1 for m in ufm.metrics("orthogonal" if ufm.loss == "mse" and not ufm.bias else "etf"))
        checks.append(check_between(f"{name}: Gram matrices, relative error", max(errors), 0, tolerance))
        checks.append(check_between(f"{name}: NC1 at the worst layer", worst, 0, 1e-9))
        figures[name] = {
            "classifier, squared lengths": np.diag(pairs[0][0]).tolist(),
            "means, squared lengths": np.diag(pairs[1][0]).tolist(),
            "singular values of the logits": np.linalg.svd(ufm.product_ @ ufm.features_)[1].tolist(),
            "loss": [ufm.loss_, target.loss],
            "iterations": ufm.n_iter_,
        }
    for name, h, w in (("balanced, one layer", 0.1394, 6.9711), ("balanced, three layers", 0.0530, 18.6528)):
        lengths = figures[name]
        checks += [
            check_between(
                f"{name}: squared length of means", lengths["means, squared lengths"][0], h - 1e-4, h + 1e-4
            ),
            check_between(f"{name}: of rows", lengths["classifier, squared lengths"][0], w - 1e-3, w + 1e-3),
        ]
    values = figures["unequal decay, two layers"]["singular values of the logits"]
    for value, wanted in zip(values, (7.69895, 5.42439, 3.09860)):
        checks.append(check_between("unequal decay: singular value", value, wanted - 1e-4, wanted + 1e-4))
    dead = np.abs(found["minority collapse"].product_[3]).max()
    checks.append(
        check_between("minority collapse: largest weight of the class of one", float(dead), 0, 1e-6)
    )
    trap: dict[str, Any] = {"n_per_class": (200, 100, 20, 3), "dims": [D] * 3, "lam_w": 2e-3, "lam_h": 1e-4}
    basin = descent(seed, "trap", trap).basin_[3]
    what = "a class of three, alive in the closed form, after descent from noise"
    checks.append(check_that(what, basin, "trapped", basin == "trapped"))
    settings = {
        **CASES["cross-entropy, three layers, from its neighbourhood"][0],
        "init": "random",
        "scale": 0.1,
    }
    low = descent(seed, "low rank", settings)
    simplex = low.target.loss if low.target else np.nan
    share = low.loss_ / simplex
    what = "cross-entropy, three layers: loss from noise over the simplex's"
    checks.append(check_that(what, share, "below 0.999", share < 0.999))
    figures["cross-entropy, three layers, from noise"] = {
        "loss": [low.loss_, simplex],
        "singular values of the logits": np.linalg.svd(low.product_ @ low.features_)[1].tolist(),
    }
    return Findings(checks, figures, NOTES)


NOTES = (
    "The paper's theorem has the simplex as global minimum with cross-entropy at any depth; a solution of rank two is "
    "lower at three layers here, so that for more than one layer the closed form is the best simplex only.",
)

CLAIM = Claim(
    name="neural-collapse/unconstrained",
    arxiv="2301.00437",
    statement=(
        "Free features behind linear layers end in the geometry that a closed form has for their classes and decay: "
        "orthogonal frames of unequal lengths, a simplex with a bias, and zero for classes that are too small."
    ),
    laptop=laptop,
    minutes=2.0,
)
