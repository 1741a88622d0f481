"""Where CaPE gains nothing: probabilities of five steps, of rotated digits.

As ``rotated-digits``, but the outcome's probability is 0.1, 0.3, ... 0.9 by fifths of the range of angles, and two
epochs with outcomes follow each with empirical probabilities, as in the public code. The prototype had MSE_p 0.0297 for
the early stop, 0.0288 for Platt, 0.0308 to 0.0310 for CaPE's best epoch: a ratio of 1.04. The range, set before the
first run, holds what is no gain (0.97) and no harm (1.15).

The first form took the mean of two runs, 1.005 at seed 0 and 0.951 at seed 1: too few to tell a twentieth from nothing.
So there are six; the range is what it was.

Source: Liu and others 2021, arXiv 2111.10734.
"""

from __future__ import annotations

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.claims.trust.probability_estimation.rotated_digits import averaged, compare
from lodim.randomness import derive_seed


def laptop(seed: int, progress: Progress) -> Findings:
    """Six runs."""
    parts = [f"discrete {run}" for run in range(6)]
    runs = [compare("discrete", derive_seed(seed, part), 3) for part in progress.over(parts)]
    mean = averaged(runs)
    ratio = {m: mean[m]["mse_p"] / mean["early stop"]["mse_p"] for m in ("CaPE, best", "platt")}
    checks = (check_between("MSE_p of CaPE's best epoch over early stop", ratio["CaPE, best"], 0.97, 1.15),)
    note = f"Platt scaling has {ratio['platt']:.2f} of the early stop's MSE_p."
    return Findings(
        checks, {"mean of seeds": mean, "MSE_p": [{m: r[m]["mse_p"] for m in r} for r in runs]}, (note,)
    )


CLAIM = Claim(
    name="probability-estimation/discrete",
    arxiv="2111.10734",
    statement="Where probabilities take five values only, CaPE neither improves nor harms an early-stopped network.",
    laptop=laptop,
    needs=("mnist",),
    minutes=6,
)
