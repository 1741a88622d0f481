"""The theorems about features near collapse, at the numbers that they name, and on features of digits.

*Collapsed features* (theorem 4.2): K = 4, n = d = 10, lambda_W = 0.5, lambda_H = 0.3, beta = 100. The smallest value
within a class is 1 - sqrt(0.6) / 100 = 0.992254033, the one between classes 0.006 (1 - sqrt(0.15)) = 0.003676210, and
the levels come 6, 1, 3, 54 and 36 times. *Response* (theorem 4.1) at random features: a difference over 1e-4 is off by
its second order, some 1e-4 times what is small beside beta; the form for large beta by the square of the Hessian over
beta, at most (lambda_H + |W|^2 + ...)^2 / beta^2, below 5e-4.

*Digits*: 64 random ReLU features of 50 images a class, root mean square 1, lambda_W = 0.05. *Central path* to t = 60
(theorem 3.1) with lambda_H 0 and 0.05; *one layer* (corollary 3.2) for six beta, lambda_H = 0.01: 1 - ratio goes as
1 / beta, so a third from 100 to 300; *five layers* with beta = 5. Ranges of NC1 are around an independent prototype's
on other draws: 3.94 at the start, 2.63 and 0.063 at the end; 0.945 for beta = 1; 3.658 / 3.936 after five layers.

Source: Tirer, Huang and Niles-Weed 2022, arXiv 2210.16658.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.randomness import as_generator, derive_seed
from lodim.representation import NearCollapseModel, central_path, collapsed_minimizer, depth_profile

BETAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LEVELS = (1.0, 1 - 4 * 0.3 * (1 - np.sqrt(0.15)) / 100, 1 - 2 * 0.3 * (1 - np.sqrt(0.15)) / 100, 0.997)
TIMES = (6, 1, 3, 54, 36)


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random features of 50 images of each digit."""
    data: Any = load("mnist", split="train")
    rng = as_generator(derive_seed(seed, "digits"))
    y = np.asarray(data.y).astype(int)
    rows = np.concatenate([rng.choice(np.flatnonzero(y == k), 50, replace=False) for k in range(10)])
    H0 = np.maximum(data.X[rows] @ rng.normal(size=(784, 64)), 0)
    return H0 / np.sqrt(np.square(H0).mean()), y[rows]


def exactness(seed: int) -> dict[str, Any]:
    """Spectrum at collapsed features, and both responses against a difference at random ones."""
    plain = collapsed_minimizer(4, 10, 10, 0.5, 0.3, random_state=seed)
    blocks = NearCollapseModel(0.5, 0.3, 100.0).fit(plain.features, plain.labels).block_spectrum()
    levels = (*LEVELS, 1 - np.sqrt(0.6) / 100)
    rng = as_generator(derive_seed(seed, "response"))
    H0, dH0 = rng.normal(size=(2, 40, 10))
    model, moved = (NearCollapseModel(0.5, 0.3, 100.0).fit(H, plain.labels) for H in (H0, H0 + 1e-4 * dH0))
    change = (moved.features_ - model.features_) / 1e-4
    errors = [np.linalg.norm(model.linear_response(dH0, exact=exact) - change) for exact in (True, False)]
    return {
        "smallest": float(blocks.intra.min()),
        "between": [float(blocks.inter[:, 0].min()), float(blocks.inter[:, 0].max())],
        "next": float(blocks.inter[:, 1].max()),
        "times": [
            int(n) for level in levels for n in {*(np.abs(blocks.intra - level) < 1e-9).sum(1).tolist()}
        ],
        "errors": [float(error / np.linalg.norm(change)) for error in errors],
    }


def laptop(seed: int, progress: Progress) -> Findings:
    """The four parts."""
    exact = exactness(seed)
    H0, y = digits(seed)
    paths = {}
    for lam_h in (0.0, 0.05):
        progress(0.1 + 8 * lam_h, f"central path, lambda_H = {lam_h}")
        paths[lam_h] = central_path(H0, y, 0.05, lam_h, np.linspace(0, 60, 61))
    ratios = []
    for beta in BETAS:
        progress(0.7, f"beta = {beta}")
        model = NearCollapseModel(0.05, 0.01, beta).fit(H0, y)
        ratios.append(model.nc1_after_ / model.nc1_before_)
    progress(0.9, "five layers")
    layers = depth_profile(H0, y, 0.05, 0.01, 5.0, 5).nc1_trace

    def monotone(values: np.ndarray, sign: int) -> bool:
        """To the precision of the integration."""
        return bool((sign * np.diff(values) > -1e-7 * np.abs(values[0])).all())

    checks = [
        check_between(
            "collapsed: smallest value within a class", exact["smallest"], 0.992254032, 0.992254034
        ),
        check_between(
            "collapsed: value between classes, least", exact["between"][0], 0.0036762095, 0.0036762105
        ),
        check_between(
            "collapsed: value between classes, largest", exact["between"][1], 0.0036762095, 0.0036762105
        ),
        check_between("collapsed: next value between classes", exact["next"], 0, 1e-12),
        check_that(
            "collapsed: times of the levels", exact["times"], f"{TIMES}", tuple(exact["times"]) == TIMES
        ),
        check_between("response: relative error", exact["errors"][0], 0, 1e-5),
        check_between("response for large beta: relative error", exact["errors"][1], 0, 5e-4),
        check_between("NC1 by traces, at the start", paths[0.0].nc1_trace[0], 3.2, 4.8, essential=False),
        check_between("NC1 at t = 60, lambda_H = 0", paths[0.0].nc1_trace[-1], 2.1, 3.2, essential=False),
        check_between(
            "NC1 at t = 60, lambda_H = 0.05", paths[0.05].nc1_trace[-1], 0.03, 0.12, essential=False
        ),
    ]
    for lam_h, path in paths.items():
        for name, values, sign in (
            ("NC1", path.nc1_trace, -1),
            ("scaled within", path.scaled_within, -1),
            ("scaled between", path.scaled_between, 1),
        ):
            said = "falls" if sign < 0 else "rises"
            ends = [float(values[0]), float(values[-1])]
            checks.append(
                check_that(f"{name}, lambda_H = {lam_h}", ends, f"{said} throughout", monotone(values, sign))
            )
    rising = sorted(ratios) == ratios and ratios[-1] < 1
    third = (1 - ratios[-2]) / (1 - ratios[-1])
    checks += [
        check_that("NC1 after one layer over before", ratios, "below 1, rising with beta", rising),
        check_between("the same for beta = 1", ratios[0], 0.90, 0.98, essential=False),
        check_between("1 - ratio, beta = 100 over 300", third, 2.8, 3.2),
        check_that("NC1 over five layers", layers.tolist(), "falls", (np.diff(layers) < 0).all()),
        check_between("NC1 after five layers over before", layers[-1] / layers[0], 0.88, 0.97, essential=False),
    ]  # fmt: skip
    figures = {"exactness": exact, "ratios": ratios, "layers": layers.tolist()}
    figures |= {f"path, lambda_H = {lam_h}": path.to_frame().to_dict("list") for lam_h, path in paths.items()}
    return Findings(checks, figures)


CLAIM = Claim(
    name="near-collapse/theorems",
    arxiv="2210.16658",
    statement=(
        "Held near given features, features vary less within classes from layer to layer; the response to a "
        "perturbation is linear algebra, and at collapse its spectrum is known in closed form."
    ),
    laptop=laptop,
    needs=("mnist",),
    minutes=0.5,
)
